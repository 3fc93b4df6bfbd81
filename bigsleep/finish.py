"""Enlarging drawings: a sprite of 64 pixels to the size it is shown at, with the edges of a drawing.

A toggle mapping (Kramer and Bruckner 1975), soft: each pixel goes towards the darkest or the lightest of its
neighbourhood, whichever is nearer.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# In pixels of the small sprite: wide enough to take its stairs away, and no wider. Tuned on the art itself, reduced and enlarged.
SMOOTH, REACH, SOFT = 0.45, 0.75, 0.125
STEEP = 12.0
FLAT = 0.08  # what differs by less within a neighbourhood is shading, and stays


def enlarged(sprite: Tensor, side: int, crisp: bool = True) -> Tensor:
    """A sprite ``[4, H, W]``, premultiplied RGBA in 0..1, at ``[4, side, side]``; ``crisp`` steepens its edges."""
    large = F.interpolate(sprite[None], size=(side, side), mode="bicubic", antialias=side < sprite.shape[2])
    factor = side / sprite.shape[2]
    if crisp and factor > 1:
        large = blurred(large, SMOOTH * factor)
        for _ in range(2):
            large = toggled(large, max(1, round(REACH * factor)))
        large = blurred(large, SOFT * factor)
    alpha = large[:, 3:].clamp(0, 1)
    return torch.cat([torch.minimum(large[:, :3].clamp_min(0), alpha), alpha], 1)[0]


def toggled(image: Tensor, reach: int) -> Tensor:
    """Each pixel of ``[1, C, H, W]`` moved towards the nearer end of its neighbourhood's range."""
    high = spread(image, reach)
    low = -spread(-image, reach)
    place = (image - low) / (high - low + 1e-4) - 0.5
    steep = low + torch.sigmoid(STEEP * place) * (high - low)
    return torch.where(high - low > FLAT, steep, image)


def spread(image: Tensor, reach: int) -> Tensor:
    """The greatest value within ``reach`` pixels, rows first and then columns."""
    across = F.max_pool2d(image, (1, 2 * reach + 1), 1, (0, reach))
    return F.max_pool2d(across, (2 * reach + 1, 1), 1, (reach, 0))


def blurred(image: Tensor, deviation: float) -> Tensor:
    """``[1, C, H, W]`` under a Gaussian."""
    radius = max(1, round(2.5 * deviation))
    line = torch.exp(-(torch.arange(-radius, radius + 1.0) ** 2) / (2 * deviation**2)).to(image)
    line, channels = line / line.sum(), image.shape[1]
    padded = F.pad(image, (radius,) * 4, mode="replicate")
    across = F.conv2d(padded, line.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)
    return F.conv2d(across, line.view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)
