"""A training run: bounded by time, resumed from one file, with a warm cosine step size and averaged weights."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor, nn

SAVE_EVERY = 120.0  # seconds
TELL_EVERY = 200  # steps


class Run:
    """Training of ``model`` for some minutes, which count from the first start; what is left of them, if resumed.

    Iterate for the share of the time that is gone, 0..1, before each step.

    Parameters
    ----------
    path
        The checkpoint: one file, replaced whole every two minutes and at the end.
    model
        Whose weights are averaged: exponentially, at ``decay``, and over fewer steps in the beginning.
    parts
        All that has a state, by name: the model, optimizers and what else is trained.
    optimizer
        Its groups' step sizes rise over ``warmup`` steps and go down along a cosine, to ``floor`` of what they are.
    report
        Called with the averaged weights after each save.
    """

    def __init__(
        self,
        path: Path,
        model: nn.Module,
        parts: dict[str, Any],
        optimizer: torch.optim.Optimizer,
        minutes: float,
        decay: float = 0.998,
        warmup: int = 200,
        floor: float = 0.02,
        report: Callable[[dict[str, Tensor]], None] = lambda _: None,
    ) -> None:
        self.path, self.model, self.parts, self.optimizer, self.report = path, model, parts, optimizer, report
        self.seconds, self.decay, self.warmup, self.floor = minutes * 60, decay, warmup, floor
        self.rates = [group["lr"] for group in optimizer.param_groups]
        self.average = {name: value.clone().float() for name, value in model.state_dict().items()}
        self.step, self.spent = 0, 0.0
        if path.exists():
            self.load()

    def __iter__(self) -> Iterator[float]:
        saved = time.monotonic()
        began = saved - self.spent
        while (spent := time.monotonic() - began) < self.seconds:
            self.spent, share = spent, spent / self.seconds
            self.schedule(share)
            yield share
            self.step += 1
            self.follow()
            if time.monotonic() - saved > SAVE_EVERY:
                saved = time.monotonic()
                self.save()
        self.spent = max(self.spent, self.seconds)
        self.save()

    def schedule(self, share: float) -> None:
        warm = min(1, (self.step + 1) / self.warmup)
        cosine = self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * share))
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * warm * cosine

    @torch.no_grad()
    def follow(self) -> None:
        """Let the average follow the step just made."""
        keep = min(self.decay, self.step / (self.step + 10))
        for name, value in self.model.state_dict().items():
            self.average[name].lerp_(value.float(), 1 - keep)

    def tell(self, loss: Tensor) -> None:
        """Print every so many steps how far the run is."""
        if (self.step + 1) % TELL_EVERY == 0:
            click.echo(f"step {self.step + 1} minutes {self.spent / 60:.1f} loss {loss.item():.4f}")

    def save(self) -> None:
        state = {name: part.state_dict() for name, part in self.parts.items()}
        temporary = self.path.with_suffix(".tmp")
        torch.save({"parts": state, "average": self.average, "step": self.step, "spent": self.spent}, temporary)
        os.replace(temporary, self.path)
        self.report(self.average)

    def load(self) -> None:
        state = torch.load(self.path, weights_only=True)
        for name, part in self.parts.items():
            part.load_state_dict(state["parts"][name])
        self.average.update(state["average"])
        self.step, self.spent = state["step"], state["spent"]
