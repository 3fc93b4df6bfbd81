"""The loop: latents → picture → cutouts → CLIP → score, and Adam back again. No files, no printing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from bigsleep.cutouts import cut
from bigsleep.errors import out_of_memory
from bigsleep.goal import Goal, View
from bigsleep.layers import Layers, layers_of, layers_pattern, sprites_of
from bigsleep.memory import affordable_chunk, even_part
from bigsleep.models.eyes import Eye
from bigsleep.models.generator import Generator
from bigsleep.models.perceptor import Perceptor
from bigsleep.plan import Plan
from bigsleep.search import Search
from bigsleep.settings import Settings
from bigsleep.start import Start, never
from bigsleep.state import fitted

SIMILARITY_WEIGHT = 100.0  # Big Sleep's, against its penalties
AUDITION_CUTOUTS = 4  # of those that scores are taken on
SHARPER = 2  # times a sprite's side that of the picture is which steps see: small layers keep their detail
GRADIENT_SCALE = 1024.0  # keeps gradients per pixel in fp16's range; a power of two, so exact


class Optimizer:
    """Steps any number of searches in one batch: one BigGAN pass for all, and CLIP over all their cutouts.

    ``generator`` and ``perceptor`` are fp32 and render and judge what is shown; steps run in copies of them in
    ``dtype``, compiled where ``compile`` says so. A search's course is, up to rounding, what it would be alone.
    """

    def __init__(
        self, generator: Generator, perceptor: Perceptor, dtype: torch.dtype = torch.float32, compile: bool = False
    ) -> None:
        self.generator, self.perceptor = generator, perceptor
        self.fast_generator, self.fast_perceptor = generator, perceptor
        if compile or dtype != torch.float32:
            self.fast_generator, self.fast_perceptor = generator.lowered(dtype), perceptor.lowered(dtype)
        self.device = generator.embeddings.device
        self.chunk = min(affordable_chunk(eye.perceptor, self.device) for eye in self.fast_perceptor.eyes)
        if compile:
            self.fast_generator.compile()
            for eye in self.fast_perceptor.eyes:
                eye.perceptor.visual.compile()
        self.start = Start(generator, perceptor, self.fast_generator, self.fast_perceptor)
        self.batch: int | None = None  # searches that a pass of BigGAN takes; no limit until memory ends

    def search(
        self,
        goal: Goal,
        settings: Settings,
        random: torch.Generator,
        plan: Plan | None = None,
        start: Mapping[str, Tensor] | None = None,
        enough: Callable[[int], bool] = never,
    ) -> Search:
        """A search for ``goal``, begun at the state ``start`` (see :meth:`Search.shown`) or the best of its auditions.

        In several layers where there is a ``plan``, or where ``start`` has several. ``enough`` is asked now and then whether
        as many auditions as were heard are enough.

        Raises
        ------
        BigsleepError
            If ``start`` is a state of another generator.
        """
        search = Search(goal, settings, random)
        if start is None:
            layers = self.start(goal, plan, settings, search.evaluation[:AUDITION_CUTOUTS], random, enough)
        else:
            pattern = layers_pattern(
                start, self.generator.stages, self.generator.noise_size, self.generator.num_classes
            )
            layers = layers_of(fitted(start, pattern), settings)
            if settings.latents == "basis" and len(layers) == 1:
                self.start.rest_on_basis(next(iter(layers)), settings)
        search.begin(layers.to(self.device))
        return search

    def step(self, searches: Sequence[Search], shares: Sequence[float]) -> list[float]:
        """One Adam step of each search, ``shares`` in 0..1 of the way through its dream; their losses before it.

        A search whose loss is no number goes back to before the step that led there instead (see :class:`History`).

        Where the device's memory cannot hold a batch, batches are halved from then on.
        """
        losses: list[float] = []
        while len(losses) < len(searches):
            part = slice(len(losses), len(losses) + (self.batch or len(searches)))
            states = [search.random.get_state() for search in searches[part]]
            try:
                losses += self.step_together(searches[part], shares[part])
                continue
            except (RuntimeError, MemoryError) as error:
                if len(states) == 1 or not out_of_memory(error):
                    raise
            # Out here nothing of the failed pass is held any more.
            self.batch = len(states) // 2
            for search, state in zip(searches[part], states, strict=True):
                search.random.set_state(state)
                search.adam.forget_gradients()  # of a backward pass that broke off
        return losses

    def step_together(self, searches: Sequence[Search], shares: Sequence[float]) -> list[float]:
        latents = [search.layers.latents() for search in searches]
        images = pictures(self.fast_generator, [search.layers for search in searches], latents)
        likenesses, gradient = self.likeness_gradient(searches, images.detach())
        penalties = torch.stack([search.penalty(*both) for search, both in zip(searches, latents, strict=True)])
        # The sum's gradient in the images is the one found; handing it to backward would import sympy, a third of a second.
        (penalties.sum() - (images * (SIMILARITY_WEIGHT * gradient)).sum()).backward()
        for search, share in zip(searches, shares, strict=True):
            search.update(share)
        losses: list[float] = (penalties.detach() - SIMILARITY_WEIGHT * likenesses).tolist()
        for search, loss in zip(searches, losses, strict=True):
            search.history.judge(loss)
        return losses

    def likeness_gradient(self, searches: Sequence[Search], images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean likenesses ``[B]`` of random cutouts of each search's image ``[B, 3, H, W]``, and their gradients in it.

        CLIP sees the cutouts in chunks; their gradients add up in the images, so the sum is that of one pass. Where the
        device's memory cannot hold a chunk, chunks are halved from then on.
        """
        leaves = [image.requires_grad_() for image in images.split(1)]
        views = [(i, view) for i, search in enumerate(searches) for view in search.views()]
        totals, gradient = torch.zeros(len(searches), device=self.device), torch.zeros_like(images)
        begin, count = 0, sum(len(view) for _, view in views)
        while begin < count:
            end = begin + even_part(count - begin, self.chunk)
            chunk = list(pieces(views, begin, end))
            states = [searches[i].random.get_state() for i, *_ in chunk]
            try:
                found = self.chunk_gradient([(searches[i], leaves[i], part, share) for i, part, share in chunk])
            except (RuntimeError, MemoryError) as error:
                if end - begin == 1 or not out_of_memory(error):
                    raise
                self.chunk = (end - begin) // 2
                for (i, *_), state in zip(chunk, states, strict=True):
                    searches[i].random.set_state(state)
                continue
            for (i, *_), mean, part in zip(chunk, *found, strict=True):
                totals[i] += mean.detach()
                gradient[i] += part[0]
            begin = end
        return totals, gradient / GRADIENT_SCALE

    def chunk_gradient(
        self, chunk: list[tuple[Search, Tensor, View, float]]
    ) -> tuple[list[Tensor], tuple[Tensor, ...]]:
        """What some cutouts of each image add to its mean likeness, and to that one's scaled gradient.

        All gradients at once, so that of a pass which memory cuts short there is nothing left.
        """
        first, *others = self.fast_perceptor.eyes
        means, gradients = self.eye_gradient(first, chunk)
        for eye in others:
            more, steeper = self.eye_gradient(eye, chunk)
            means = [one.detach() + other.detach() for one, other in zip(means, more, strict=True)]
            gradients = tuple(one + other for one, other in zip(gradients, steeper, strict=True))
        return means, gradients

    def eye_gradient(
        self, eye: Eye, chunk: list[tuple[Search, Tensor, View, float]]
    ) -> tuple[list[Tensor], tuple[Tensor, ...]]:
        crops = [cut(image, view.cutouts, eye.perceptor.size, search.random) for search, image, view, _ in chunk]
        features = eye.perceptor.encode_images(torch.cat(crops)).split(list(map(len, crops)))
        means = [
            view.goal.seen_by(eye).likeness(seen).sum() / count * view.weight
            for (_, _, view, count), seen in zip(chunk, features, strict=True)
        ]
        return means, shared_gradients(means, [image for _, image, _, _ in chunk])

    @torch.no_grad()
    def render(self, search: Search) -> Tensor:
        """The picture of the averaged latents in fp32: ``[3, side, side]`` in 0..1, as the score sees it."""
        layers = search.layers.averaged(search.average.values())
        return pictures(self.generator, [layers], [layers.latents()])[0].clamp(0, 1)

    @torch.no_grad()
    def finished(self, search: Search, side: int) -> Tensor:
        """That picture as it is shown: ``[3, side, side]`` in 0..1, sprites enlarged where they stand."""
        layers = search.layers.averaged(search.average.values())
        if not self.generator.alpha:
            image = pictures(self.generator, [layers], [layers.latents()])
            if image.shape[2] != side:
                image = F.interpolate(image.clamp(0, 1), size=(side, side), mode="bicubic", antialias=True)
            return image[0].clamp(0, 1)
        sprites = sprites_of(self.generator(*layers.latents()))
        return layers.finished(sprites, side, search.settings.finish == "crisp").clamp(0, 1)

    @torch.no_grad()
    def score(self, search: Search, image: Tensor) -> float:
        """The score of ``image`` ``[3, H, W]`` over the evaluation cutouts, in fp32."""
        crops = cut(image[None], search.evaluation, self.perceptor.size)
        return float(search.goal.score(self.perceptor.encode_images(crops)).mean())


def pictures(generator: Generator, layered: Sequence[Layers], latents: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Pictures ``[B, 3, side, side]`` in 0..1, one of each of ``layered``, whose ``latents`` are ``[L, S, Z]`` and ``[L, S, C]``."""
    counts = list(map(len, layered))
    noise, shares = (torch.cat(parts) for parts in zip(*latents, strict=True))
    if generator.alpha:
        sprites = sprites_of(generator(noise, shares)).split(counts)
        side = SHARPER * generator.size
        return torch.stack([layers.composed(part, side) for layers, part in zip(layered, sprites, strict=True)])
    if max(counts) == 1:
        return generator(noise, shares) / 2 + 0.5
    made: dict[int, Tensor] = {}
    for count in dict.fromkeys(counts):  # those of as many layers in one pass
        which = [i for i, n in enumerate(counts) if n == count]
        rows, classes = (torch.stack([latents[i][part] for i in which]) for part in (0, 1))
        masks = torch.stack([layered[i].masks(generator.size) for i in which]) if count > 1 else None
        found = generator(rows, classes, masks) if count > 1 else generator(rows[:, 0], classes[:, 0])
        made |= dict(zip(which, found / 2 + 0.5, strict=True))
    return torch.stack([made[i] for i in range(len(counts))])


def shared_gradients(means: list[Tensor], images: list[Tensor]) -> tuple[Tensor, ...]:
    """Scaled gradients of the sum of ``means`` in ``images``; of one that is there for several views, at its first place."""
    first = {id(image): image for image in images}
    found = torch.autograd.grad(GRADIENT_SCALE * torch.stack(means).sum(), list(first.values()))
    left = dict(zip(first, found, strict=True))
    return tuple(left.pop(id(image), torch.zeros_like(image)) for image in images)


def pieces(views: list[tuple[int, View]], begin: int, end: int) -> Iterator[tuple[int, View, int]]:
    """The cutouts ``begin``..``end`` of all those of all views in a row: ``(search, its part of a view, that view's length)``."""
    for i, view in views:
        if begin < len(view) and end > 0:
            yield i, view[max(begin, 0) : end], len(view)
        begin, end = begin - len(view), end - len(view)
