"""Where a search goes back to when a step has led to a loss that is no number."""

from __future__ import annotations

import math
from collections import deque

import torch
from torch import Tensor, nn

from bigsleep.latents import Adam, MovingAverage

MOST_UNDONE = 5  # steps in a row, after which a search is given up


class History:
    """What steps of a search change, as it was before the last two of them.

    Of two, because that a step went wrong shows in the loss of the next. Steps that were undone are counted: ``undone``
    in all, ``running`` since one last held; each halves the size of all that come.
    """

    def __init__(self, module: nn.Module, adam: Adam, average: MovingAverage) -> None:
        self.adam, self.average = adam, average
        moments = [moment for _, _, *both in adam.parts for moment in both]
        self.changing: list[Tensor] = [*module.parameters(), *moments, *average.sums]
        self.past: deque[tuple[int, float, list[Tensor]]] = deque(maxlen=2)
        self.undone, self.running = 0, 0

    def remember(self) -> None:
        """To be called before each step."""
        self.past.append((self.adam.steps, self.average.weight, [part.detach().clone() for part in self.changing]))

    def judge(self, loss: float) -> None:
        """To be called after each step, with the ``loss`` before it: if that is no number, both steps are undone.

        The search's chance is left where it stands, so that the same place is not seen by the same cutouts again.
        """
        if math.isfinite(loss):
            if len(self.past) == 2:  # the step before this one led somewhere
                self.running = 0
            return
        self.adam.steps, self.average.weight, before = self.past[0]
        with torch.no_grad():
            for part, kept in zip(self.changing, before, strict=True):
                part.copy_(kept)
        self.past.clear()
        self.undone, self.running = self.undone + 1, self.running + 1

    @property
    def rate(self) -> float:
        """What step sizes are multiplied by."""
        return 0.5**self.undone

    @property
    def hopeless(self) -> bool:
        return self.running >= MOST_UNDONE
