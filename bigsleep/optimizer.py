"""The loop: latents → picture → cutouts → CLIP → score, and Adam back again. No files, no printing."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from bigsleep.cutouts import Cutouts, cut, draw_cutouts
from bigsleep.latents import Latents, MovingAverage, class_penalty, class_shares, noise_penalty
from bigsleep.models.generator import Generator
from bigsleep.models.perceptor import Perceptor
from bigsleep.settings import Settings

SIMILARITY_WEIGHT = 100.0  # Big Sleep's, against its penalties
EVALUATION_CUTOUTS = 16
CHUNK = {"cpu": 32, "cuda": 256, "mps": 64}  # cutouts that CLIP sees at once; memory follows this, not --cutouts
GRADIENT_SCALE = 1024.0  # keeps gradients per pixel in fp16's range; a power of two, so exact
NEAREST = 5  # classes that --init words lets audition
HEAD_START = 0.9  # share of the class that a start by words begins with
NAME_WEIGHT = 0.5  # of a class name's likeness to the words in its auditions, beside the picture's score


@dataclass(frozen=True)
class Goal:
    """Unit text features ``[P, D]`` of the phrases, and their weights ``[P]``; below zero for what to avoid."""

    features: Tensor
    weights: Tensor

    def likeness(self, features: Tensor) -> Tensor:
        """Weighted sum of cosines ``[N]`` for unit image features ``[N, D]``."""
        return features @ self.features.T @ self.weights

    def score(self, features: Tensor) -> Tensor:
        """Weighted mean of cosines ``[N]``, in -1..1 and so comparable between prompts."""
        return self.likeness(features) / self.weights.abs().sum()


class Optimizer:
    """One dream's search. ``generator`` and ``perceptor`` are fp32; steps run in copies of them in ``dtype``.

    ``settings`` must be complete (no model preference left open). ``random`` is the dream's only source of chance and
    lives on the CPU, so that a seed means the same on every device.
    """

    def __init__(
        self,
        generator: Generator,
        perceptor: Perceptor,
        goal: Goal,
        settings: Settings,
        random: torch.Generator,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.generator, self.perceptor, self.goal = generator, perceptor, goal
        self.settings, self.random = settings, random
        lower = dtype != torch.float32
        self.fast_generator = generator.lowered(dtype) if lower else generator
        self.fast_perceptor = perceptor.lowered(dtype) if lower else perceptor
        self.device = goal.features.device
        self.chunk = CHUNK[self.device.type]
        self.evaluation = self.draw(EVALUATION_CUTOUTS, augment=0.0)
        noise, logits = self.start()
        self.latents = Latents(noise, logits, settings.classes, settings.max_classes).to(self.device)
        groups = [
            {"params": [self.latents.noise], "lr": settings.lr},
            {"params": [self.latents.logits], "lr": settings.class_lr},
        ]
        self.rates = [settings.lr, settings.class_lr]
        self.adam = torch.optim.Adam(groups)
        self.average = MovingAverage(self.latents, settings.ema)

    def draw(self, count: int, augment: float) -> Cutouts:
        return draw_cutouts(count, self.settings.cutout_min, self.settings.cutout_max, augment, self.random)

    def start(self) -> tuple[Tensor, Tensor]:
        """Noise ``[S, Z]`` and class logits ``[S, C]`` to begin with: the best of the auditions."""
        count, stages = self.settings.auditions, self.generator.stages
        rows = stages if self.settings.stages == "free" else 1
        noise = torch.randn(count, rows, self.generator.noise_size, generator=self.random)
        logits = self.random_logits(count, rows)
        names = torch.zeros(count)
        if self.settings.init == "words":
            classes, likeness = self.nearest_classes()
            self.favour(logits, classes)
            names = NAME_WEIGHT * likeness[torch.arange(count) % len(likeness)]
        noise, logits = (part.expand(-1, stages, -1) for part in (noise, logits))
        if count == 1:
            return noise[0], logits[0]
        scores = torch.cat([self.audition(n, c) for n, c in zip(noise.split(8), logits.split(8), strict=True)])
        best = int((scores + names).argmax())
        return noise[best], logits[best]

    def random_logits(self, count: int, rows: int) -> Tensor:
        """Big Sleep's N(-3.9, 0.3), under which a sigmoid leaves each class 2 %; for a softmax around 0."""
        mean = -3.9 if self.settings.classes == "sigmoid" else 0.0
        return mean + 0.3 * torch.randn(count, rows, self.generator.num_classes, generator=self.random)

    def nearest_classes(self) -> tuple[list[int], Tensor]:
        """The classes whose names CLIP finds most like the words, best first, and their names' scores."""
        features = self.generator.class_features
        if features is None or self.perceptor.name != "emoji":
            assert self.generator.class_names is not None, "the dreamer checks that --init words has names"
            features = self.perceptor.encode_text(self.generator.class_names)
        scores = self.goal.score(F.normalize(features.float(), dim=1).to(self.device)).cpu()
        best = scores.topk(min(NEAREST, len(scores)))
        return best.indices.tolist(), best.values

    def favour(self, logits: Tensor, nearest: list[int]) -> None:
        """Give each audition of ``logits`` ``[A, R, C]`` one of the ``nearest`` classes in turn, in place."""
        others = 1 if self.settings.classes == "sigmoid" else logits.shape[2] - 1
        for i, row in enumerate(logits):
            row[:, nearest[i % len(nearest)]] = math.log(HEAD_START / (1 - HEAD_START) * others)

    @torch.no_grad()
    def audition(self, noise: Tensor, logits: Tensor) -> Tensor:
        """Scores ``[A]`` of starts ``[A, S, Z]`` and ``[A, S, C]``, each in four of the evaluation cutouts."""
        shares = class_shares(logits, self.settings.classes, self.settings.max_classes)
        images = self.fast_generator(noise.to(self.device), shares.to(self.device)) / 2 + 0.5
        crops = [cut(image[None], self.evaluation[:4], self.perceptor.size) for image in images]
        features = self.fast_perceptor.encode_images(torch.cat(crops))
        return self.goal.score(features).view(len(images), -1).mean(1).cpu()

    def step(self, share: float) -> float:
        """One Adam step, a ``share`` in 0..1 of the way through the dream; the loss before it."""
        for group, rate in zip(self.adam.param_groups, self.rates, strict=True):
            group["lr"] = rate * self.rate_at(share)
        self.adam.zero_grad(set_to_none=True)
        noise, shares = self.latents()
        image = self.fast_generator(noise[None], shares[None]) / 2 + 0.5
        likeness, gradient = self.likeness_gradient(image.detach())
        penalty = self.settings.noise_weight * noise_penalty(noise)
        penalty = penalty + self.settings.class_weight * class_penalty(shares, self.settings.classes)
        torch.autograd.backward([image, penalty], [-SIMILARITY_WEIGHT * gradient, torch.ones_like(penalty)])
        if self.tied(share):
            self.latents.tie_gradients()
        self.adam.step()
        self.average.update()
        return float(penalty.detach()) - SIMILARITY_WEIGHT * likeness

    def rate_at(self, share: float) -> float:
        return 1.0 if self.settings.schedule == "constant" else 0.5 + 0.5 * math.cos(math.pi * min(share, 1.0))

    def tied(self, share: float) -> bool:
        """Whether the stages still share one row."""
        return self.settings.stages == "shared" or (
            self.settings.stages == "released" and share < self.settings.release
        )

    def likeness_gradient(self, image: Tensor) -> tuple[float, Tensor]:
        """Mean likeness of random cutouts of ``image`` ``[1, 3, H, W]``, and its gradient in the image.

        CLIP sees the cutouts in chunks; their gradients add up in the image, so the sum is that of one pass. Where the
        device's memory cannot hold a chunk, chunks are halved from then on.
        """
        image = image.requires_grad_()
        cutouts = self.draw(self.settings.cutouts, self.settings.augment)
        total, begin = 0.0, 0
        while begin < len(cutouts):
            chunk = cutouts[begin : begin + self.chunk]
            try:
                crops = cut(image, chunk, self.perceptor.size, self.random)
                likeness = self.goal.likeness(self.fast_perceptor.encode_images(crops)).sum() / len(cutouts)
                (GRADIENT_SCALE * likeness).backward()
            except torch.OutOfMemoryError:
                if self.chunk == 1:
                    raise
                self.chunk //= 2
                continue
            total += float(likeness.detach())
            begin += len(chunk)
        assert image.grad is not None
        return total, image.grad / GRADIENT_SCALE

    @torch.no_grad()
    def render(self) -> Tensor:
        """The picture of the averaged latents in fp32: ``[3, size, size]`` in 0..1."""
        noise, logits = self.average.values()
        shares = class_shares(logits, self.settings.classes, self.settings.max_classes)
        return (self.generator(noise[None], shares[None])[0] / 2 + 0.5).clamp(0, 1)

    @torch.no_grad()
    def score(self, image: Tensor) -> float:
        """The score of ``image`` ``[3, H, W]`` over the evaluation cutouts, in fp32."""
        crops = cut(image[None], self.evaluation, self.perceptor.size)
        return float(self.goal.score(self.perceptor.encode_images(crops)).mean())
