"""Things in other colours: "a blue dog" is a dog whose every light part is blue."""

from __future__ import annotations

import torch
from torch import Tensor

from training.pictures import FROM_YIQ, TO_YIQ, hue_of
from training.texts import COLOURS

# GenEval's ten colours; each with one RGB that shows it.
PAINTS = COLOURS | {"brown": (0.55, 0.32, 0.16), "black": (0.1, 0.1, 0.12), "white": (1.0, 1.0, 1.0)}
NAMES = list(PAINTS)
LUMA = TO_YIQ[0]


def coat(name: str) -> Tensor:
    """``[3, 4]``: premultiplied RGBA to RGB in this paint, its lights and darks kept."""
    matrix = torch.zeros(3, 4)
    if name == "black":
        matrix[:, :3] = 0.28 * LUMA
    elif name == "white":
        matrix[:, :3], matrix[:, 3] = 0.3 * LUMA, 0.7
    else:
        # Lifted a little, so that what is dark shows its colour too.
        colour = torch.tensor(PAINTS[name])
        matrix[:, :3], matrix[:, 3] = 0.85 * colour[:, None] * LUMA, 0.25 * colour
    return matrix


COATS = torch.stack([coat(name) for name in NAMES])
HUES = torch.tensor([hue_of(rgb) for rgb in COLOURS.values()])


def turned(angle: Tensor) -> Tensor:
    """``[B, 3, 4]``: all hues turned by ``angle`` ``[B]`` radians."""
    cos, sin = torch.cos(angle), torch.sin(angle)
    turn = torch.zeros(len(angle), 3, 3)
    turn[:, 0, 0], turn[:, 1, 1], turn[:, 2, 2], turn[:, 1, 2], turn[:, 2, 1] = 1, cos, cos, -sin, sin
    return torch.cat([FROM_YIQ @ turn @ TO_YIQ, torch.zeros(len(angle), 3, 1)], 2)


def painted(rgba: Tensor, paint: Tensor, hue: Tensor, ruled: Tensor) -> Tensor:
    """Premultiplied ``rgba`` ``[B, 4, H, W]`` in the paints of these indices; where -1, as it is.

    Where one ``hue`` (radians) rules a picture, ``ruled``, half of them have their hues turned instead: the sheen stays.
    """
    coats = COATS[paint.clamp_min(0)]
    # No two coats are mixed alike: how strong the lights are, how much the darks are lifted.
    mixed = torch.cat(
        [(0.85 + 0.3 * torch.rand(len(paint), 1, 1)).expand(-1, -1, 3), 0.6 + 0.6 * torch.rand(len(paint), 1, 1)], 2
    )
    coats = torch.where((paint < NAMES.index("black"))[:, None, None], coats * mixed, coats)
    matrix = torch.where(paint[:, None, None] >= 0, coats, torch.eye(4)[:3])
    turn = (paint >= 0) & (paint < len(HUES)) & (ruled > 0.6) & (torch.rand(len(paint)) < 0.5)
    other = turned(HUES[paint.clamp(0, len(HUES) - 1)] - hue)
    matrix = torch.where(turn[:, None, None], other, matrix).to(rgba.device)
    rgb = torch.einsum("bij,bjhw->bihw", matrix, rgba).clamp_min(0)
    return torch.cat([torch.minimum(rgb, rgba[:, 3:]), rgba[:, 3:]], 1)
