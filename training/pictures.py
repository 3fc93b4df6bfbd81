"""The training pictures as tensors, and the continuous changes that the generator's noise stands for."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

# RGB to luma and chroma (YIQ, NTSC 1953): hue is then a rotation of the chroma plane.
TO_YIQ = torch.tensor([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
FROM_YIQ = torch.linalg.inv(TO_YIQ)

TINTS = [4, 5, 6]  # entries of the noise vector that mean something: hue, chroma, light


@dataclass
class Pictures:
    """All art: ``pixels`` uint8 ``[N, 4, S, S]`` premultiplied RGBA, with the concept and style of each picture."""

    pixels: Tensor
    concept: Tensor
    style: Tensor
    concepts: list[dict]

    @classmethod
    def load(cls, folder: Path) -> Pictures:
        archive = np.load(folder / "pictures.npz")
        return cls(
            torch.from_numpy(archive["pictures"]).permute(0, 3, 1, 2).contiguous(),
            torch.from_numpy(archive["concept"]),
            torch.from_numpy(archive["style"]),
            json.loads((folder / "concepts.json").read_text()),
        )

    def main_style(self) -> Tensor:
        """The index of one picture per concept: the one of its first style."""
        order = torch.argsort(self.concept * 10 + self.style)
        first = torch.ones(len(order), dtype=torch.bool)
        first[1:] = self.concept[order][1:] != self.concept[order][:-1]
        return order[first]


def warp(pixels: Tensor, shift: Tensor, scale: Tensor, tilt: Tensor, size: int) -> Tensor:
    """Move, scale and turn pictures ``[B, 4, S, S]`` in 0..1 into ``[B, 4, size, size]``.

    ``shift`` ``[B, 2]`` in half-widths, ``scale`` ``[B]`` as a factor, ``tilt`` ``[B]`` in radians.
    """
    cos, sin = torch.cos(tilt) / scale, torch.sin(tilt) / scale
    theta = torch.stack([torch.stack([cos, -sin, -shift[:, 0]], 1), torch.stack([sin, cos, -shift[:, 1]], 1)], dim=1)
    grid = F.affine_grid(theta, [len(pixels), 4, size, size], align_corners=False)
    return F.grid_sample(pixels, grid, align_corners=False)


def turn_colours(rgb: Tensor, angle: Tensor, chroma: Tensor) -> Tensor:
    """Rotate the hue of premultiplied ``rgb`` ``[B, 3, H, W]`` by ``angle`` radians and multiply its chroma."""
    cos, sin = torch.cos(angle) * chroma, torch.sin(angle) * chroma
    zero, one = torch.zeros_like(cos), torch.ones_like(cos)
    turn = torch.stack([one, zero, zero, zero, cos, -sin, zero, sin, cos], 1).view(-1, 3, 3)
    matrix = FROM_YIQ.to(rgb) @ turn @ TO_YIQ.to(rgb)
    return torch.einsum("bij,bjhw->bihw", matrix, rgb)


def compose(rgba: Tensor, background: Tensor, clamp: bool = True) -> Tensor:
    """Premultiplied RGBA over a plain ``background`` ``[B, 3]``: RGB in 0..1."""
    rgb, alpha = rgba[:, :3], rgba[:, 3:]
    whole = rgb + (1 - alpha) * background[:, :, None, None]
    return whole.clamp(0, 1) if clamp else whole


def tinted(rgba: Tensor, noise: Tensor) -> Tensor:
    """What the generator shall make of premultiplied RGBA under ``noise`` ``[B, Z]``: the same in other tints.

    Three entries mean something, hue, chroma and light; each has its usual picture at zero, so that N(0, I) samples what
    training saw. The others are to be ignored.
    """
    hue, chroma, light = noise[:, TINTS].unbind(1)
    rgb = turn_colours(rgba[:, :3], 0.3 * hue, torch.exp(0.2 * chroma)) * torch.exp(0.1 * light)[:, None, None, None]
    alpha = rgba[:, 3:]
    return torch.cat([torch.minimum(rgb.clamp_min(0), alpha), alpha], 1)


def dominant_hue(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Mean hue (radians in the chroma plane) and how much one hue rules (0..1) for uint8 pictures ``[N, 4, S, S]``."""
    hues, rules = [], []
    for chunk in pixels.split(256):
        small = F.avg_pool2d(chunk[:, :3].float() / 255, 4)
        yiq = torch.einsum("ij,bjhw->bihw", TO_YIQ, small)
        i, q = yiq[:, 1].flatten(1), yiq[:, 2].flatten(1)
        hues.append(torch.atan2(q.sum(1), i.sum(1)))
        weight = (i**2 + q**2).sqrt().sum(1)
        share = (i.sum(1) ** 2 + q.sum(1) ** 2).sqrt() / (weight + 1e-6)
        rules.append(share * (weight / i.shape[1] > 0.03))
    return torch.cat(hues), torch.cat(rules)


def hue_of(rgb: tuple[float, float, float]) -> float:
    """The chroma-plane angle of one RGB colour."""
    _, i, q = (TO_YIQ @ torch.tensor(rgb)).tolist()
    return math.atan2(q, i)
