"""Random crops of an image, tilted, tinted and resized for CLIP in one differentiable operation."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Cutouts:
    """Where ``N`` crops lie and how each is changed; all on the CPU, as drawn.

    ``theta`` ``[N, 2, 3]`` maps a crop's coordinates to the picture's (both -1..1), ``gain`` and ``shift``
    ``[N, 3, 1, 1]`` are its tint, ``roughness`` ``[N, 1, 1, 1]`` the deviation of its noise.
    ``resample`` is how pixels of the picture become a crop's: ``nearest``, ``bilinear`` or ``antialiased``.
    """

    theta: Tensor
    gain: Tensor
    shift: Tensor
    roughness: Tensor
    resample: str = "bilinear"

    def __len__(self) -> int:
        return len(self.theta)

    def __getitem__(self, part: slice) -> Cutouts:
        return Cutouts(self.theta[part], self.gain[part], self.shift[part], self.roughness[part], self.resample)


def draw_cutouts(
    count: int,
    least: float,
    most: float,
    augment: float,
    generator: torch.Generator,
    resample: str = "bilinear",
    spread: float = 0.3,
    center_bias: bool = False,
) -> Cutouts:
    """Draw ``count`` cutouts: sides of N(0.8, ``spread``) of the picture's, clipped to ``least``..``most``.

    Crops lie evenly within the picture (those larger than it, around it); with ``center_bias`` mostly near its middle, as
    Big Sleep's option has it. ``augment`` in 0..1 scales tilt, mirroring, tint and noise; at 0 the crops are Big Sleep's.
    """

    def normal(*shape: int) -> Tensor:
        return torch.randn(count, *shape, generator=generator)

    side = (0.8 + spread * normal()).clamp(least, most)
    place = torch.rand(count, 2, generator=generator) * 2 - 1
    if center_bias:  # N(0, 0.5), and evenly where that is beyond the edge
        near = 0.5 * normal(2)
        place = torch.where(near.abs() <= 1, near, place)
    offset = place * (1 - side).abs()[:, None]
    tilt = 0.2 * augment * normal()
    mirror = torch.where(torch.rand(count, generator=generator) < 0.5 * augment, -1.0, 1.0)
    cos, sin = side * tilt.cos(), side * tilt.sin()
    rows = [
        torch.stack([cos * mirror, -sin, offset[:, 0]], 1),
        torch.stack([sin * mirror, cos, offset[:, 1]], 1),
    ]
    gain = torch.exp(0.12 * augment * normal(1, 1, 1)) * torch.exp(0.06 * augment * normal(3, 1, 1))
    shift = 0.05 * augment * normal(1, 1, 1)
    roughness = 0.05 * augment * torch.rand(count, 1, 1, 1, generator=generator)
    return Cutouts(torch.stack(rows, 1), gain, shift, roughness, resample)


def around(placement: Tensor, count: int, generator: torch.Generator | None = None, margin: float = 1.2) -> Cutouts:
    """``count`` cutouts of what stands at ``placement`` ``[4]``: its middle in -1..1, the log of its half-width, its angle.

    ``margin`` is their side over its own. ``generator`` moves them about a little; without it they are all alike.
    """
    x, y, size, _ = placement.detach().cpu().tolist()
    chance = torch.zeros(count, 3) if generator is None else torch.randn(count, 3, generator=generator)
    side = margin * math.exp(size) * torch.exp(0.1 * chance[:, 0])
    offset = torch.tensor([x, y]) + 0.06 * side[:, None] * chance[:, 1:]
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = side
    theta[:, :, 2] = offset
    nothing = torch.zeros(count, 1, 1, 1)
    return Cutouts(theta, torch.ones(count, 3, 1, 1), nothing, nothing)


@dataclass(frozen=True)
class AugClip:
    """``N`` of FuseDream's views of the whole picture, changed by DiffAugment's policies; on the CPU, as drawn.

    ``chance`` ``[N, 7]``, evenly in 0..1, says how a view's brightness, saturation and contrast are changed, how far it is
    shifted down and right, and where, down and right, a square of half its side is grey. All are shown at ``scale``.
    """

    chance: Tensor
    scale: float

    def __len__(self) -> int:
        return len(self.chance)

    def __getitem__(self, part: slice) -> AugClip:
        return AugClip(self.chance[part], self.scale)


def draw_augclip(count: int, generator: torch.Generator) -> AugClip:
    """Draw ``count`` of FuseDream's views, at 0.8 to 1.2 of the picture's size."""
    scale = 0.8 + 0.4 * float(torch.rand((), generator=generator))
    return AugClip(torch.rand(count, 7, generator=generator), scale)


def whole(resample: str = "bilinear") -> Cutouts:
    """The picture itself as a cutout."""
    nothing = torch.zeros(1, 1, 1, 1)
    return Cutouts(torch.eye(2, 3)[None], torch.ones(1, 3, 1, 1), nothing, nothing, resample)


def cut(image: Tensor, cutouts: Cutouts | AugClip, size: int, generator: torch.Generator | None = None) -> Tensor:
    """Crops ``[N, 3, size, size]`` of one ``image`` ``[1, 3, H, W]`` in 0..1.

    The crops are sampled as one tall picture, so that the gradient is one image's and not one per cutout. ``generator``
    draws their noise, on a GPU by way of one of its own; without it they have none.
    """
    if isinstance(cutouts, AugClip):
        return augmented(image.float(), cutouts, size)
    device = image.device
    crops = sampled(image.float(), cutouts, size)
    if cutouts.gain.ne(1).any():
        crops = (crops - 0.5) * cutouts.gain.to(device) + 0.5 + cutouts.shift.to(device)
    if generator is not None and cutouts.roughness.any():
        noise = torch.randn(crops.shape, generator=chance_on(device, generator), device=device)
        crops = crops + noise * cutouts.roughness.to(device)
    return crops


def chance_on(device: torch.device, generator: torch.Generator) -> torch.Generator:
    """A source of chance on ``device`` that follows from ``generator``, which is on the CPU.

    A number for each pixel is too much to draw on the CPU and send over, 77 MB for 128 cutouts.
    """
    if device.type == "cpu":
        return generator
    return torch.Generator(device).manual_seed(int(torch.randint(2**63 - 1, (), generator=generator)))


def sampled(image: Tensor, cutouts: Cutouts, size: int) -> Tensor:
    """The pixels ``[N, 3, size, size]`` of crops of ``image`` ``[1, 3, H, W]``."""
    theta = cutouts.theta
    if cutouts.resample == "nearest":
        # From the corner of each pixel, a hair inside, and not its middle: as ``interpolate`` and with it Big Sleep do.
        corner = theta[:, :, :2].sum(2, keepdim=True) * (0.999 / size)
        return grid_sampled(image, torch.cat([theta[:, :, :2], theta[:, :, 2:] - corner], 2), size, "nearest")
    if cutouts.resample == "bilinear":
        return grid_sampled(image, theta, size, "bilinear")
    # From the picture reduced, in quarter octaves, by a quarter less than the crop is: the sampling blurs the rest.
    octaves = (theta[:, :, 0].norm(dim=1) * image.shape[3] / size).log2()
    octaves = (4 * octaves - 1).round().clamp_min(0) / 4
    parts, places = [], []
    for octave in octaves.unique():
        places.append((octaves == octave).nonzero()[:, 0])
        less = [round(side / 2 ** float(octave)) for side in image.shape[2:]]
        reduced = F.interpolate(image, size=less, mode="bicubic", antialias=True) if octave else image
        parts.append(grid_sampled(reduced, theta[places[-1]], size, "bilinear"))
    return parts[0] if len(parts) == 1 else torch.cat(parts)[torch.cat(places).argsort().to(image.device)]


def grid_sampled(image: Tensor, theta: Tensor, size: int, mode: str) -> Tensor:
    count = len(theta)
    grid = F.affine_grid(theta.to(image.device), [count, 3, size, size], align_corners=False)
    grid = grid.reshape(1, count * size, size, 2)
    crops = F.grid_sample(image, grid, mode=mode, padding_mode="border", align_corners=False)
    return crops.view(3, count, size, size).transpose(0, 1)


def augmented(image: Tensor, views: AugClip, size: int) -> Tensor:
    """FuseDream's views ``[N, 3, size, size]`` of a square ``image`` ``[1, 3, side, side]``, on the scale of 0..1.

    In DiffAugment's order: colours, shift, size, hole. What follows the colours is linear in the picture and does the same
    to each column and to each row, so that a view is ``down @ picture @ across.T``, less the same of the hole; nothing is as
    large as N pictures. The colours, linear too, are changed afterwards.
    """
    side, chance = image.shape[3], views.chance.to(image.device)
    picture = image[0] * 2 - 1
    down, down_hole = axis_maps(chance[:, 3], chance[:, 5], views.scale, side, size)
    across, across_hole = axis_maps(chance[:, 4], chance[:, 6], views.scale, side, size)
    seen = mapped(down, picture, across) - mapped(down_hole, picture, across_hole)
    inside = (
        down.sum(2)[:, :, None] * across.sum(2)[:, None] - down_hole.sum(2)[:, :, None] * across_hole.sum(2)[:, None]
    )
    brightness, saturation, contrast = (
        row[:, None, None, None] for row in (chance[:, 0] - 0.5, 2 * chance[:, 1], chance[:, 2] + 0.5)
    )
    grey = seen.mean(1, keepdim=True)
    mixed = contrast * (saturation * (seen - grey) + grey)
    # What is shifted in, or lies in the hole, is grey whatever the colours: only within the picture is there something to add.
    return (mixed + (brightness + (1 - contrast) * picture.mean()) * inside[:, None] + 1) / 2


def mapped(down: Tensor, picture: Tensor, across: Tensor) -> Tensor:
    """``down @ picture @ across.T`` of each view and colour: ``[N, 3, size, size]``."""
    return down[:, None] @ picture @ across.transpose(1, 2)[:, None]


def axis_maps(shift: Tensor, hole: Tensor, scale: float, side: int, size: int) -> tuple[Tensor, Tensor]:
    """What becomes of the ``side`` pixels of a line in each of ``N`` views, ``[N, size, side]``; and of those in its hole.

    ``shift`` and ``hole`` ``[N]`` are in 0..1, see :class:`AugClip`. Pixels are counted as FuseDream counts them.
    """
    pixels = torch.arange(side, device=shift.device)
    most, wide = int(side * 0.125 + 0.5), int(side * 0.5 + 0.5)
    begin = picked(hole, side + 1 - wide % 2) - wide // 2
    hidden = (pixels >= begin[:, None]) & (pixels < begin[:, None] + wide)
    framed, last = fitted_line(int(scale * side), side, shift.device), line_map(side, size, shift.device)
    source = pixels - (picked(shift, 2 * most + 1) - most)[:, None]
    source = source.where((source >= 0) & (source < side), side)[:, None].expand(-1, size, -1)

    def shifted(maps: Tensor) -> Tensor:
        return F.pad(maps, (0, 1)).expand(len(shift), -1, -1).gather(2, source)

    return shifted(last @ framed), shifted((last * hidden[:, None]) @ framed)


def picked(chance: Tensor, count: int) -> Tensor:
    """Numbers of 0..``count - 1`` by ``chance`` in 0..1."""
    return (chance * count).long().clamp_max(count - 1)


def fitted_line(scaled: int, side: int, device: torch.device) -> Tensor:
    """A line of ``side`` pixels resized to ``scaled`` and padded or cropped to ``side`` again, as a matrix."""
    line = line_map(side, scaled, device)
    if scaled >= side:
        begin = (scaled - side) // 2
        return line[begin : begin + side]
    before = (side - scaled) // 2
    return F.pad(line, (0, 0, before, side - scaled - before))


def line_map(side: int, size: int, device: torch.device) -> Tensor:
    """Linear interpolation of a line of ``side`` pixels to ``size``, as torch does it: ``[size, side]``."""
    return F.interpolate(torch.eye(side, device=device)[None], size=size, mode="linear", align_corners=False)[0].T
