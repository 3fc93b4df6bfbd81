"""Several perceptors that look together."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from bigsleep.models.perceptor import Perceptor


@dataclass(frozen=True)
class Eye:
    """One perceptor of those that look: of their features ``begin`` to ``end`` are its own, at ``length`` instead of 1."""

    perceptor: Any
    begin: int = 0
    end: int | None = None
    length: float = 1.0


class Eyes(nn.Module):
    """Perceptors and their weights, used as one :class:`Perceptor` whose cosine is the weighted mean of theirs.

    Features are all of theirs, one after the other, each as long as its weight's root. What is seen is as large as the
    largest sees it. The loop, which needs gradients, takes one of :attr:`eyes` after the other, each at its own size,
    so that its memory is the largest one's.

    ``again`` loads each of them anew. With it their text towers, which no step needs, are let go after each use.
    """

    def __init__(
        self,
        perceptors: Sequence[Perceptor | Any],
        weights: Sequence[float],
        again: Sequence[Callable[[], Perceptor | Any]] = (),
    ) -> None:
        super().__init__()
        self.perceptors, self.again = list(perceptors), list(again)
        self.visual = nn.ModuleList(perceptor.visual for perceptor in perceptors)
        self.weights = [weight / sum(weights) for weight in weights]
        self.name = "|".join(perceptor.name for perceptor in perceptors)
        self.size = max(perceptor.size for perceptor in perceptors)

    @property
    def eyes(self) -> list[Eye]:
        eyes, begin = [], 0
        for perceptor, weight in zip(self.perceptors, self.weights, strict=True):
            eyes.append(Eye(perceptor, begin, begin + perceptor.width, math.sqrt(weight)))
            begin += perceptor.width
        return eyes

    def lowered(self, dtype: torch.dtype) -> Eyes:
        return Eyes([perceptor.lowered(dtype) for perceptor in self.perceptors], self.weights)

    def encode_text(self, texts: list[str]) -> Tensor:
        """Unit text features ``[N, D]``, ``D`` the sum of all. Raises what loading does where towers were let go."""
        features = []
        for number, eye in enumerate(self.eyes):
            if eye.perceptor.text is None and self.again:
                eye.perceptor.text = self.again[number]().text
            features.append(eye.length * eye.perceptor.encode_text(texts))
            if self.again:
                eye.perceptor.text = None
        return torch.cat(features, 1)

    def encode_images(self, pixels: Tensor) -> Tensor:
        """Unit image features ``[N, D]`` of ``pixels`` ``[N, 3, size, size]`` in 0..1."""
        return torch.cat(
            [eye.length * eye.perceptor.encode_images(resized(pixels, eye.perceptor.size)) for eye in self.eyes], 1
        )


def resized(pixels: Tensor, size: int) -> Tensor:
    if pixels.shape[2] == size:
        return pixels
    return F.interpolate(pixels, size=(size, size), mode="bicubic", antialias=True)
