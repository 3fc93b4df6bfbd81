"""What is wanted: the prompt's phrases as CLIP features, their weights, and the score of a picture."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from bigsleep.cutouts import AugClip, Cutouts
from bigsleep.models.eyes import Eye


@dataclass(frozen=True)
class Goal:
    """Unit text features ``[P, D]`` of the phrases, and their weights ``[P]``; below zero for what to avoid.

    ``parts`` are the layers' own goals, in their order, where there are several layers; None for one that has no words.
    """

    features: Tensor
    weights: Tensor
    parts: tuple[Goal | None, ...] = ()

    def seen_by(self, eye: Eye) -> Goal:
        """What it is to one of several perceptors; their likenesses add up to the whole one's."""
        return Goal(self.features[:, eye.begin : eye.end] * eye.length, self.weights)

    def likeness(self, features: Tensor) -> Tensor:
        """Weighted sum of cosines ``[N]`` for unit image features ``[N, D]``."""
        return features @ self.features.T @ self.weights

    def score(self, features: Tensor) -> Tensor:
        """Weighted mean of cosines ``[N]``, in -1..1 and so comparable between prompts."""
        return self.likeness(features) / self.weights.abs().sum()


@dataclass(frozen=True)
class View:
    """Some cutouts of a picture, the goal they are judged by, and what their mean likeness weighs."""

    goal: Goal
    cutouts: Cutouts | AugClip
    weight: float = 1.0

    def __getitem__(self, part: slice) -> View:
        return View(self.goal, self.cutouts[part], self.weight)

    def __len__(self) -> int:
        return len(self.cutouts)
