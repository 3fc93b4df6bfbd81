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
SHADED, SOME = 0.5, 0.2  # that of what is white or black with its grey shades, and least of it without them
COLOURLESS = ("black", "white", "grey")  # of which a tinge makes another colour
ALIKE = 0.15  # distance of colours, as they are weighed here, within which they are all but the same


def shares(sprites: Tensor) -> Tensor:
    """How much of sprites ``[..., 4, H, W]``, premultiplied RGBA, is of each of :data:`NAMES`: ``[..., 11]``, summing to one.

    A pixel between two colours belongs to both in part.
    """
    alpha = sprites[..., 3, :, :].flatten(-2)
    rgb = sprites[..., :3, :, :].flatten(-2) / alpha[..., None, :].clamp_min(1e-3)
    named = weighed(torch.tensor([NAMED[name] for name in NAMES]))
    likeness = (-((torch.cdist(weighed(rgb.transpose(-1, -2)), named) / ALIKE) ** 2)).softmax(-1)
    return (alpha[..., None] * likeness).sum(-2) / alpha.sum(-1, keepdim=True).clamp_min(1e-3)


def weighed(rgb: Tensor) -> Tensor:
    """Coordinates ``[..., 3]`` of colours ``[..., 3]`` in which those that people call alike are near.

    Hue tells colours apart more than light does, in the dark above all: navy is a blue and no black.
    """
    yiq = rgb @ TO_YIQ.T
    light = yiq[..., :1]
    return torch.cat([0.8 * light, 1.3 * yiq[..., 1:] / (light + 0.3).clamp(0.4, 1)], -1)


def has(found: Tensor, colour: str) -> bool:
    """Whether a thing with these :func:`shares` ``[11]`` has a colour already."""
    share = found[NAMES.index(colour)]
    if colour in ("white", "black") and share >= SOME:  # a white unicorn's mane may have another
        return bool(share + found[NAMES.index("grey")] >= SHADED)
    return bool(share >= ENOUGH)


def tint_for(sprite: Tensor, colour: str) -> Tensor:
    """The tint ``[6]`` under which most of a sprite ``[4, H, W]`` has ``colour``, and which leaves as much of it as may be.

    Turned hues come first, since they keep a drawing's other colours; what has no hue is painted over. A thing that has the
    colour already keeps its own.
    """
    place = NAMES.index(colour)
    if has(shares(sprite), colour):
        return torch.zeros(6)
    alpha = sprite[3].sum().clamp_min(1e-3)
    light, *chroma = (TO_YIQ @ sprite[:3].sum((1, 2)) / alpha).tolist()
    target_light, *target = (TO_YIQ @ torch.tensor(NAMED[colour])).tolist()
    turn = math.atan2(target[1], target[0]) - math.atan2(chroma[1], chroma[0])
    turn = math.remainder(turn, 2 * math.pi)
    paints = (1.0,) if colour in COLOURLESS else (0.0, 0.5, 0.8, 1.0)
    ways = list(itertools.product(paints, (0.6, 1.0, 1.4), (1.0, 0.7, 0.45), (0.0, 0.5, 1.0)))
    tints = torch.tensor([
        [
            turn, math.log(max((1 - paint) * gain, 0.02)), target[0] * paint, target[1] * paint, math.log(flat),
            lift * target_light + (1 - lift) * light - flat * light,
        ]
        for paint, gain, flat, lift in ways
    ])  # fmt: skip
    found = shares(torch.stack([tinted(sprite, tint) for tint in tints]))[:, place].clamp_max(0.9)
    cost = torch.tensor([0.1 * paint + 0.12 * (1 - flat) + 0.05 * lift for paint, _, flat, lift in ways])
    return tints[int((found - cost).argmax())]
