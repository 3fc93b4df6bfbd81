"""How a search begins: auditions of random starts, among the classes whose names are near the words."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from bigsleep.cutouts import Cutouts, cut
from bigsleep.goal import Goal
from bigsleep.latents import class_shares
from bigsleep.models.generator import Generator
from bigsleep.models.perceptor import Perceptor
from bigsleep.settings import Settings

NEAREST = 5  # classes that --init words lets audition
HEAD_START = 0.9  # share of the class that a start by words begins with
NAME_WEIGHT = 0.5  # of a class name's likeness to the words in its auditions, beside the picture's score


class Start:
    """Finds where searches begin. Names are judged by the whole perceptor, pictures by the steps' fast copies."""

    def __init__(
        self, generator: Generator, perceptor: Perceptor, fast_generator: Generator, fast_perceptor: Perceptor
    ) -> None:
        self.generator, self.perceptor = generator, perceptor
        self.fast_generator, self.fast_perceptor = fast_generator, fast_perceptor

    def __call__(
        self, goal: Goal, settings: Settings, cutouts: Cutouts, random: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Noise ``[S, Z]`` and class logits ``[S, C]`` to begin with: the best of the auditions, seen in ``cutouts``."""
        stages = self.generator.stages
        count, rows = settings.auditions, stages if settings.stages == "free" else 1
        noise = torch.randn(count, rows, self.generator.noise_size, generator=random)
        # Big Sleep's N(-3.9, 0.3), under which a sigmoid leaves each class 2 %; for a softmax around 0.
        mean = -3.9 if settings.classes == "sigmoid" else 0.0
        logits = mean + 0.3 * torch.randn(count, rows, self.generator.num_classes, generator=random)
        names = torch.zeros(count)
        if settings.init == "words":
            classes, likeness = self.nearest_classes(goal)
            favour(logits, classes, settings.classes)
            names = NAME_WEIGHT * likeness[torch.arange(count) % len(likeness)]
        noise, logits = (part.expand(-1, stages, -1) for part in (noise, logits))
        if count == 1:
            return noise[0], logits[0]
        auditions = zip(noise.split(8), logits.split(8), strict=True)
        scores = torch.cat([self.audition(goal, settings, cutouts, n, c) for n, c in auditions])
        best = int((scores + names).argmax())
        return noise[best], logits[best]

    def nearest_classes(self, goal: Goal) -> tuple[list[int], Tensor]:
        """The classes whose names CLIP finds most like the words, best first, and their names' scores."""
        features = self.generator.class_features
        if features is None or self.perceptor.name != "emoji":
            features = self.perceptor.encode_text(self.generator.class_names)
        device = self.generator.embeddings.device
        scores = goal.score(F.normalize(features.float(), dim=1).to(device)).cpu()
        best = scores.topk(min(NEAREST, len(scores)))
        return best.indices.tolist(), best.values

    @torch.no_grad()
    def audition(self, goal: Goal, settings: Settings, cutouts: Cutouts, noise: Tensor, logits: Tensor) -> Tensor:
        """Scores ``[A]`` of starts ``[A, S, Z]`` and ``[A, S, C]``, each in all of ``cutouts``."""
        device = self.generator.embeddings.device
        shares = class_shares(logits, settings.classes, settings.max_classes)
        images = self.fast_generator(noise.to(device), shares.to(device)) / 2 + 0.5
        crops = [cut(image[None], cutouts, self.perceptor.size) for image in images]
        features = self.fast_perceptor.encode_images(torch.cat(crops))
        return goal.score(features).view(len(images), -1).mean(1).cpu()


def favour(logits: Tensor, nearest: list[int], classes: str) -> None:
    """Give each audition of ``logits`` ``[A, R, C]`` one of the ``nearest`` classes in turn, in place."""
    others = 1 if classes == "sigmoid" else logits.shape[2] - 1
    for i, row in enumerate(logits):
        row[:, nearest[i % len(nearest)]] = math.log(HEAD_START / (1 - HEAD_START) * others)
