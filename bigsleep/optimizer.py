"""The loop: latents → picture → cutouts → CLIP → score, and Adam back again. No files, no printing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bigsleep.cutouts import Cutouts, cut, draw_cutouts
from bigsleep.goal import Goal
from bigsleep.latents import Adam, Latents, MovingAverage, class_penalty, class_shares, noise_penalty
from bigsleep.memory import affordable_chunk, even_part
from bigsleep.models.generator import Generator
from bigsleep.models.perceptor import Perceptor
from bigsleep.settings import Settings
from bigsleep.start import Start
from bigsleep.state import fitted

SIMILARITY_WEIGHT = 100.0  # Big Sleep's, against its penalties
EVALUATION_CUTOUTS = 16
AUDITION_CUTOUTS = 4  # of those
GRADIENT_SCALE = 1024.0  # keeps gradients per pixel in fp16's range; a power of two, so exact


class Search:
    """One dream's state: its goal, latents, Adam, moving average, and its own chance.

    ``settings`` must be complete (no model preference left open). ``random`` is the dream's only source of chance and
    lives on the CPU, so that a seed means the same on every device and in any company.
    """

    latents: Latents
    adam: Adam
    average: MovingAverage

    def __init__(self, goal: Goal, settings: Settings, random: torch.Generator) -> None:
        self.goal, self.settings, self.random = goal, settings, random
        self.evaluation = self.draw(EVALUATION_CUTOUTS, augment=0.0)

    def begin(self, noise: Tensor, logits: Tensor) -> None:
        """Start from noise ``[S, Z]`` and class logits ``[S, C]``."""
        settings = self.settings
        self.latents = Latents(noise, logits, settings.classes, settings.max_classes)
        self.adam = Adam((self.latents.noise, settings.lr), (self.latents.logits, settings.class_lr))
        self.average = MovingAverage(self.latents, settings.ema)

    def parameters(self) -> dict[str, nn.Parameter]:
        """What the steps move, by the names that a state has for it."""
        return {f"layer0.{name}": parameter for name, parameter in self.latents.named_parameters()}

    def shown(self) -> dict[str, Tensor]:
        """The state of the picture shown: the averaged latents."""
        return dict(zip(self.parameters(), self.average.values(), strict=True))

    def show(self, state: Mapping[str, Tensor]) -> None:
        """Begin anew from what :meth:`shown` gave."""
        self.begin(*(state[name].to(self.latents.noise.device) for name in self.parameters()))

    def state(self) -> dict[str, Tensor]:
        """All that the search goes on from: parameters, Adam's moments, the average, and where chance stands.

        These are the tensors themselves and not copies: :meth:`restore` writes into them, and steps change them.
        """
        tensors: dict[str, Tensor] = dict(self.parameters())
        for name, (_, _, mean, square), total in zip(tensors.copy(), self.adam.parts, self.average.sums, strict=True):
            tensors |= {f"mean.{name}": mean, f"square.{name}": square, f"average.{name}": total}
        counts = {
            "steps": torch.tensor(self.adam.steps),
            "weight": torch.tensor(self.average.weight, dtype=torch.float64),
        }
        return tensors | counts | {"random": self.random.get_state()}

    @torch.no_grad()
    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what :meth:`state` gave; the search must have begun, with as many layers of the same sizes."""
        self.adam.steps, self.average.weight = int(state["steps"]), float(state["weight"])
        self.random.set_state(state["random"])
        for name, tensor in self.state().items():
            tensor.copy_(state[name])

    def draw(self, count: int, augment: float) -> Cutouts:
        least, most = self.settings.cutout_min, self.settings.cutout_max
        return draw_cutouts(count, least, most, augment, self.random, self.settings.resample)

    def penalty(self, noise: Tensor, shares: Tensor) -> Tensor:
        """What noise ``[S, Z]`` and class shares ``[S, C]`` cost beside their picture's likeness."""
        penalty = self.settings.noise_weight * noise_penalty(noise)
        return penalty + self.settings.class_weight * class_penalty(shares, self.settings.classes)

    def update(self, share: float) -> None:
        """Follow the gradients that the latents have, a ``share`` in 0..1 of the way through the dream."""
        if self.tied(share):
            self.latents.tie_gradients()
        self.adam.step(self.rate_at(share))
        self.average.update(self.adam.steps)

    def rate_at(self, share: float) -> float:
        return 1.0 if self.settings.schedule == "constant" else 0.5 + 0.5 * math.cos(math.pi * min(share, 1.0))

    def tied(self, share: float) -> bool:
        """Whether the stages still share one row."""
        return self.settings.stages == "shared" or (
            self.settings.stages == "released" and share < self.settings.release
        )


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
        self.chunk = affordable_chunk(self.fast_perceptor, self.device)
        if compile:
            self.fast_generator.compile()
            self.fast_perceptor.visual.compile()
        self.start = Start(generator, perceptor, self.fast_generator, self.fast_perceptor)
        self.batch: int | None = None  # searches that a pass of BigGAN takes; no limit until memory ends

    def search(
        self, goal: Goal, settings: Settings, random: torch.Generator, start: Mapping[str, Tensor] | None = None
    ) -> Search:
        """A search for ``goal``, begun at the state ``start`` (see :meth:`Search.shown`) or the best of its auditions.

        Raises
        ------
        BigsleepError
            If ``start`` is a state of another generator.
        """
        search = Search(goal, settings, random)
        if start is None:
            noise, logits = self.start(goal, settings, search.evaluation[:AUDITION_CUTOUTS], random)
        else:
            noise, logits = fitted(start, self.pattern()).values()
        search.begin(noise.to(self.device), logits.to(self.device))
        return search

    def pattern(self) -> dict[str, Tensor]:
        """A state of this generator's sizes: what others must be like to be shown."""
        stages, sizes = self.generator.stages, (self.generator.noise_size, self.generator.num_classes)
        return {
            f"layer0.{name}": torch.zeros(stages, size) for name, size in zip(("noise", "logits"), sizes, strict=True)
        }

    def step(self, searches: Sequence[Search], shares: Sequence[float]) -> list[float]:
        """One Adam step of each search, ``shares`` in 0..1 of the way through its dream; their losses before it.

        Where the device's memory cannot hold a batch, batches are halved from then on.
        """
        losses: list[float] = []
        while len(losses) < len(searches):
            part = slice(len(losses), len(losses) + (self.batch or len(searches)))
            states = [search.random.get_state() for search in searches[part]]
            try:
                losses += self.step_together(searches[part], shares[part])
                continue
            except torch.OutOfMemoryError:
                if len(states) == 1:
                    raise
            # Out here nothing of the failed pass is held any more.
            self.batch = len(states) // 2
            for search, state in zip(searches[part], states, strict=True):
                search.random.set_state(state)
                search.adam.forget_gradients()  # of a backward pass that broke off
        return losses

    def step_together(self, searches: Sequence[Search], shares: Sequence[float]) -> list[float]:
        latents = [search.latents() for search in searches]
        noise, classes = (torch.stack(parts) for parts in zip(*latents, strict=True))
        images = self.fast_generator(noise, classes) / 2 + 0.5
        likenesses, gradient = self.likeness_gradient(searches, images.detach())
        penalties = torch.stack([search.penalty(*both) for search, both in zip(searches, latents, strict=True)])
        # The sum's gradient in the images is the one found; handing it to backward would import sympy, a third of a second.
        (penalties.sum() - (images * (SIMILARITY_WEIGHT * gradient)).sum()).backward()
        for search, share in zip(searches, shares, strict=True):
            search.update(share)
        return (penalties.detach() - SIMILARITY_WEIGHT * likenesses).tolist()

    def likeness_gradient(self, searches: Sequence[Search], images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean likenesses ``[B]`` of random cutouts of each search's image ``[B, 3, H, W]``, and their gradients in it.

        CLIP sees the cutouts in chunks; their gradients add up in the images, so the sum is that of one pass. Where the
        device's memory cannot hold a chunk, chunks are halved from then on.
        """
        leaves = [image.requires_grad_() for image in images.split(1)]
        cutouts = [search.draw(search.settings.cutouts, search.settings.augment) for search in searches]
        totals, gradient = torch.zeros(len(searches), device=self.device), torch.zeros_like(images)
        begin, count = 0, sum(map(len, cutouts))
        while begin < count:
            end = begin + even_part(count - begin, self.chunk)
            chunk = list(pieces(cutouts, begin, end))
            states = [searches[i].random.get_state() for i, _ in chunk]
            try:
                found = self.chunk_gradient([(searches[i], leaves[i], part) for i, part in chunk])
            except torch.OutOfMemoryError:
                if end - begin == 1:
                    raise
                self.chunk = (end - begin) // 2
                for (i, _), state in zip(chunk, states, strict=True):
                    searches[i].random.set_state(state)
                continue
            for (i, _), mean, part in zip(chunk, *found, strict=True):
                totals[i] += mean.detach()
                gradient[i] += part[0]
            begin = end
        return totals, gradient / GRADIENT_SCALE

    def chunk_gradient(self, chunk: list[tuple[Search, Tensor, Cutouts]]) -> tuple[list[Tensor], tuple[Tensor, ...]]:
        """What some cutouts of each image add to its mean likeness, and to that one's scaled gradient.

        All gradients at once, so that of a pass which memory cuts short there is nothing left.
        """
        crops = [cut(image, cutouts, self.perceptor.size, search.random) for search, image, cutouts in chunk]
        features = self.fast_perceptor.encode_images(torch.cat(crops)).split(list(map(len, crops)))
        means = [
            search.goal.likeness(seen).sum() / search.settings.cutouts
            for (search, _, _), seen in zip(chunk, features, strict=True)
        ]
        images = [image for _, image, _ in chunk]
        return means, torch.autograd.grad(GRADIENT_SCALE * torch.stack(means).sum(), images)

    @torch.no_grad()
    def render(self, search: Search) -> Tensor:
        """The picture of the averaged latents in fp32: ``[3, size, size]`` in 0..1."""
        noise, logits = search.average.values()
        shares = class_shares(logits, search.settings.classes, search.settings.max_classes)
        return (self.generator(noise[None], shares[None])[0] / 2 + 0.5).clamp(0, 1)

    def finished(self, search: Search, side: int) -> Tensor:
        """That picture as it is shown: ``[3, side, side]`` in 0..1."""
        image = self.render(search)
        if image.shape[1] != side:
            image = F.interpolate(image[None], size=(side, side), mode="bicubic", antialias=True)[0].clamp(0, 1)
        return image

    @torch.no_grad()
    def score(self, search: Search, image: Tensor) -> float:
        """The score of ``image`` ``[3, H, W]`` over the evaluation cutouts, in fp32."""
        crops = cut(image[None], search.evaluation, self.perceptor.size)
        return float(search.goal.score(self.perceptor.encode_images(crops)).mean())


def pieces(cutouts: list[Cutouts], begin: int, end: int) -> Iterator[tuple[int, Cutouts]]:
    """The cutouts ``begin``..``end`` of all those of all searches in a row, as ``(search, its part of them)``."""
    for i, drawn in enumerate(cutouts):
        if begin < len(drawn) and end > 0:
            yield i, drawn[max(begin, 0) : end]
        begin, end = begin - len(drawn), end - len(drawn)
