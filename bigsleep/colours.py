"""Colours by name: how much of a thing has one, and the tint that gives it one."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from bigsleep.layers import TO_YIQ, tinted

# What people mean by the words, in the middle of each: RGB in 0..1.
NAMED = {
    "red": (0.88, 0.13, 0.16), "orange": (1.0, 0.54, 0.1), "yellow": (1.0, 0.82, 0.16), "green": (0.2, 0.66, 0.28),
    "blue": (0.14, 0.42, 0.9), "purple": (0.52, 0.26, 0.78), "pink": (1.0, 0.5, 0.74), "brown": (0.49, 0.29, 0.17),
    "black": (0.1, 0.1, 0.12), "white": (0.96, 0.96, 0.96), "grey": (0.55, 0.56, 0.6),
}  # fmt: skip
NAMES = tuple(NAMED)
ENOUGH = 0.6  # share of a thing that has a colour already: it is left as it is


def shares(sprite: Tensor) -> Tensor:
    """How much of a sprite ``[4, H, W]``, premultiplied RGBA, is nearest to each of :data:`NAMES`: ``[11]``, summing to one."""
    alpha = sprite[3].flatten()
    rgb = sprite[:3].flatten(1) / alpha.clamp_min(1e-3)
    # Hue tells colours apart more than light does, in plain as in dark.
    weight = torch.tensor([0.8, 1.3, 1.3])[:, None]
    seen = (weight * (TO_YIQ @ rgb)).T
    named = (weight * (TO_YIQ @ torch.tensor([NAMED[name] for name in NAMES]).T)).T
    nearest = torch.cdist(seen, named).argmin(1)
    return torch.zeros(len(NAMES)).index_add_(0, nearest, alpha) / alpha.sum().clamp_min(1e-3)


def tint_for(sprite: Tensor, colour: str) -> Tensor:
    """The tint ``[6]`` under which most of a sprite ``[4, H, W]`` has ``colour``, and which leaves as much of it as may be.

    Turned hues come first, since they keep a drawing's other colours; what has no hue is painted over.
    """
    place = NAMES.index(colour)
    nothing = torch.zeros(6)
    if shares(sprite)[place] >= ENOUGH:
        return nothing
    alpha = sprite[3].sum().clamp_min(1e-3)
    light, *chroma = (TO_YIQ @ sprite[:3].sum((1, 2)) / alpha).tolist()
    target_light, *target = (TO_YIQ @ torch.tensor(NAMED[colour])).tolist()
    turn = math.atan2(target[1], target[0]) - math.atan2(chroma[1], chroma[0])
    turn = math.remainder(turn, 2 * math.pi)
    best, most = nothing, -1.0
    for paint, gain, flat, lift in itertools.product(
        (0.0, 0.5, 0.8, 1.0), (0.6, 1.0, 1.4), (1.0, 0.7, 0.45), (0.0, 0.5, 1.0)
    ):
        keep = 1 - paint
        gain = max(keep * gain, 0.02)
        tint = torch.tensor([
            turn, math.log(gain), target[0] * paint, target[1] * paint, math.log(flat),
            lift * target_light + (1 - lift) * light - flat * light,
        ])  # fmt: skip
        found = shares(tinted(sprite, tint))[place].item()
        value = min(found, 0.9) - 0.1 * paint - 0.12 * (1 - flat) - 0.05 * lift
        if value > most:
            best, most = tint, value
    return best
