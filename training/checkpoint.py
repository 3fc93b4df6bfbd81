"""Saving and resuming a training run: one file, replaced whole."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def save(path: Path, parts: dict[str, Any], average: dict[str, Tensor], step: int, spent: float) -> None:
    """Write the state of all ``parts``, the averaged weights, and how far the run has come."""
    state = {name: part.state_dict() for name, part in parts.items()}
    temporary = path.with_suffix(".tmp")
    torch.save({"parts": state, "average": average, "step": step, "spent": spent}, temporary)
    os.replace(temporary, path)


def load(path: Path, parts: dict[str, Any], average: dict[str, Tensor]) -> tuple[int, float]:
    """Restore what :func:`save` wrote, in place; ``(step, seconds spent)``, zeros where there is no file."""
    if not path.exists():
        return 0, 0.0
    state = torch.load(path, weights_only=True)
    for name, part in parts.items():
        part.load_state_dict(state["parts"][name])
    average.update(state["average"])
    return state["step"], state["spent"]
