"""What is wanted: the prompt's phrases as CLIP features, their weights, and the score of a picture."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


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
