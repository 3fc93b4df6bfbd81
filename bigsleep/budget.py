"""How many steps fit a time on the device at hand, of which a few are made and timed; what several starts may cost."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from bigsleep.goal import Goal

if TYPE_CHECKING:
    from bigsleep.optimizer import Optimizer
    from bigsleep.settings import Settings

TIMED = 2  # steps, after one that is not
LEAST, MOST = 10, 5000  # with fewer there is nothing to see, and more have not been tried


def fitting_steps(seconds: float, pace: float, best_of: int = 1) -> int:
    """How many steps a dream of ``seconds`` has at ``pace`` seconds a step, the timed ones taken off.

    Several seeds to begin with cost a dream more (see :func:`halvings`).

    >>> fitting_steps(180, 2.5), fitting_steps(180, 2.5, best_of=4), fitting_steps(60, 30)
    (69, 34, 10)
    """
    steps = int(seconds / pace) - TIMED - 1
    return max(LEAST, min(MOST, steps // 2 if best_of > 1 else steps))


def halvings(count: int) -> list[float]:
    """Shares of a dream after which the weaker half of ``count`` starts is dropped (successive halving).

    Each of the rounds spends as much on those that will not win, so that all of them cost two dreams (Jamieson and
    Talwalkar 2016 spend evenly too, but know no full length).

    >>> [round(share, 2) for share in halvings(8)]
    [0.05, 0.16, 0.49]
    """
    alive = []
    while count > 1:
        alive.append(count)
        count = (count + 1) // 2
    rungs, share = [], 0.0
    for there in alive:
        share += 1 / (len(alive) * (there - 1))
        rungs.append(share)
    return rungs


def pace(optimizer: Optimizer, settings: Settings) -> float:
    """Seconds of a step under complete ``settings``; no dream's chance is touched."""
    plain = replace(settings, init="random", auditions=1)
    goal = Goal(optimizer.perceptor.encode_text(["a"]).to(optimizer.device), torch.ones(1, device=optimizer.device))
    search = optimizer.search(goal, plain, torch.Generator().manual_seed(0))
    optimizer.step([search], [0.0])  # which reads back its loss, so the clock needs no other waiting for a GPU
    began = time.perf_counter()
    for _ in range(TIMED):
        optimizer.step([search], [0.0])
    return (time.perf_counter() - began) / TIMED
