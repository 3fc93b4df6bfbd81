"""What is seen of a dream from outside: how far it is, and the picture that it has come to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from PIL import Image
from torch import Tensor

from bigsleep.picture import Picture


@dataclass(frozen=True)
class Progress:
    """How far a dream is after a step: ``share`` of the way in 0..1, ``seconds`` since the first step.

    Before that, at step 0, it says how many of the ``auditions`` were ``heard``, and ``seconds`` are theirs.
    """

    step: int
    share: float
    seconds: float
    score: float | None
    heard: int = 0
    auditions: int = 0

    @property
    def seconds_left(self) -> float:
        if self.step == 0 and self.heard:
            return self.seconds * (self.auditions - self.heard) / self.heard
        return self.seconds * (1 - self.share) / self.share


def drawn(image: Tensor) -> Image.Image:
    """``[3, H, W]`` in 0..1 as an 8-bit image."""
    return Image.fromarray((image * 255 + 0.5).byte().permute(1, 2, 0).numpy())


@dataclass(frozen=True)
class Snapshot:
    """A picture on the way: ``image`` ``[3, H, W]`` in 0..1, its score, the steps it took, its dream's seed.

    ``share`` of the dream, in 0..1, lies behind it; ``last`` says that it is the end, be it before its time. ``latents``
    are what the picture was made of, by name (``layer0.noise``, …); ``layers`` says in words what each layer is, and where it
    stands; ``company`` among how many searches its steps were made, ``undone`` how many of them led to no number and were
    taken back, and ``heard`` how many auditions there were, where they were cut short.
    """

    image: Tensor
    score: float
    step: int
    seed: int
    share: float
    last: bool
    latents: Mapping[str, Tensor] = field(default_factory=dict)
    layers: tuple[dict[str, Any], ...] = ()
    company: tuple[tuple[int, ...], ...] = ()
    undone: int = 0
    heard: int = 0

    def _repr_png_(self) -> bytes:
        """How a notebook shows it."""
        return Picture(drawn(self.image)).png(bare=True)
