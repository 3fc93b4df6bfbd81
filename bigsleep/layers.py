"""Layers: several sets of latents, where each stands in the picture and in which tint, and how they make one picture.

A generator with alpha makes a sprite of each, which are laid over each other (CLIP-CLOP, Mirowski et al. 2022, places
given patches so; these are dreamt as well). One without alpha makes one picture whose conditions vary from place to
place (Suzuki et al. 2018): a layer is then a soft mask.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bigsleep.finish import enlarged
from bigsleep.latents import Latents, class_shares
from bigsleep.plan import MOST_LAYERS
from bigsleep.settings import Settings

# RGB to luma and chroma (YIQ, NTSC 1953): a hue is an angle in the chroma plane.
TO_YIQ = torch.tensor([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
FROM_YIQ = torch.linalg.inv(TO_YIQ)
PAPER = (0.97, 0.97, 0.96)  # behind sprites where there is no ground
PARTS = ("noise", "logits", "placement", "tint", "stand")  # of a layer in a state
SEAM = 6.0  # how soon one layer's mask gives way to the next
GROUND_AT = 1.0  # distance from its middle, in half-widths, at which a masked layer gives way to the ground


class Layer(nn.Module):
    """One set of latents, and where it stands.

    ``placement`` ``[4]`` is the middle ``x``, ``y`` in -1..1 (right and down), the logarithm of its half-width, and its angle in
    radians. ``tint`` ``[6]`` changes its colours, see :func:`tinted`; all zero leaves them. ``mirror`` is -1 where it
    is drawn mirrored, else 1. A ``ground`` covers the frame behind all others. Where it does not ``move``, steps leave its
    placement, and all of a ground that has others before it.
    """

    def __init__(
        self,
        latents: Latents,
        placement: Tensor,
        tint: Tensor,
        mirror: float = 1.0,
        ground: bool = False,
        moves: bool = True,
    ) -> None:
        super().__init__()
        self.latents = latents
        self.placement = nn.Parameter(placement.clone(), requires_grad=moves)
        self.tint = nn.Parameter(tint.clone(), requires_grad=moves)
        self.mirror, self.ground = mirror, ground


class Layers(nn.Module):
    """A picture's layers, back to front, on ``paper``. ``order`` says which of the plan's layers each is."""

    def __init__(self, layers: Sequence[Layer], paper: Sequence[float] = PAPER, order: Sequence[int] = ()) -> None:
        super().__init__()
        self.rows = nn.ModuleList(layers)
        self.paper = tuple(paper)
        self.order = list(order) or list(range(len(layers)))

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.rows)  # type: ignore[arg-type]

    def latents(self) -> tuple[Tensor, Tensor]:
        """``(noise [L, S, Z], class shares [L, S, C])``."""
        noise, shares = zip(*(layer.latents.forward() for layer in self), strict=True)
        return torch.stack(noise), torch.stack(shares)

    def state(self) -> dict[str, Tensor]:
        """All that makes the layers, by name; the parameters themselves and not copies."""
        tensors = {"paper": torch.tensor(self.paper)}
        for i, (layer, place) in enumerate(zip(self, self.order, strict=True)):
            own = {
                "noise": layer.latents.noise,
                "logits": layer.latents.logits,
                "placement": layer.placement,
                "tint": layer.tint,
            }
            moves = [float(part.requires_grad) for part in (layer.placement, layer.tint)]
            stand = torch.tensor([layer.mirror, float(layer.ground), *moves, float(place)])
            tensors |= {f"layer{i}.{name}": tensor for name, tensor in own.items()} | {f"layer{i}.stand": stand}
        return tensors

    def averaged(self, values: Sequence[Tensor]) -> Layers:
        """These layers with other ``values`` for their parameters, in the order of ``parameters()``."""
        other = copy.deepcopy(self)
        for parameter, value in zip(other.parameters(), values, strict=True):
            parameter.data = value
        return other

    def plain(self) -> Layers:
        """Layers of the same picture whose latents are nothing but rows."""
        for layer in self:
            layer.latents = layer.latents.plain()
        return self

    def tie_gradients(self) -> None:
        for layer in self:
            layer.latents.tie_gradients()

    def composed(self, sprites: Tensor, side: int) -> Tensor:
        """The picture ``[3, side, side]`` in 0..1 of sprites ``[L, 4, H, W]``, premultiplied RGBA in 0..1."""
        picture = sprites.new_tensor(self.paper)[:, None, None].expand(3, side, side)
        for layer, sprite in zip(self, sprites, strict=True):
            seen = warped(tinted(sprite, layer.tint), layer, side)
            picture = picture * (1 - seen[3:]) + seen[:3]
        return picture

    def finished(self, sprites: Tensor, side: int, crisp: bool) -> Tensor:
        """:meth:`composed` at ``side``, each sprite enlarged to the size it stands there at, its edges steepened if ``crisp``."""
        picture = sprites.new_tensor(self.paper)[:, None, None].expand(3, side, side)
        for layer, sprite in zip(self, sprites, strict=True):
            share = 1.0 if layer.ground else min(2.0, layer.placement[2].exp().item())
            large = enlarged(sprite, max(sprite.shape[2], round(side * share)), crisp)
            seen = warped(tinted(large, layer.tint), layer, side)
            picture = picture * (1 - seen[3:]) + seen[:3]
        return picture

    def masks(self, side: int) -> Tensor:
        """How much of each place belongs to each layer: ``[L, side, side]`` in 0..1, summing to one."""
        line = (torch.arange(side, device=next(self.parameters()).device) + 0.5) * 2 / side - 1
        return torch.stack([nearness(layer, line) for layer in self]).softmax(0)


def latents_of(noise: Tensor, logits: Tensor, settings: Settings) -> Latents:
    """Latents whose logits mean what ``settings`` say."""
    return Latents(noise, logits, settings.classes, settings.max_classes, settings.class_temperature)


def shares_of(logits: Tensor, settings: Settings) -> Tensor:
    """What class ``logits`` ``[..., C]`` mean under ``settings``."""
    return class_shares(logits, settings.classes, settings.max_classes, settings.class_temperature)


def layers_of(state: Mapping[str, Tensor], settings: Settings) -> Layers:
    """The layers that :meth:`Layers.state` told of."""
    layers, order = [], []
    for i in range(count_of(state)):
        noise, logits, placement, tint, stand = (state[f"layer{i}.{name}"] for name in PARTS)
        mirror, ground, moves, tinted_too, place = stand.tolist()
        latents = latents_of(noise, logits, settings)
        layers.append(Layer(latents, placement, tint, -1.0 if mirror < 0 else 1.0, ground > 0.5, moves > 0.5))
        layers[-1].tint.requires_grad_(tinted_too > 0.5)
        order.append(min(max(round(place), 0), count_of(state) - 1))
    return Layers(layers, state["paper"].clamp(0, 1).tolist(), order)


def count_of(state: Mapping[str, Tensor]) -> int:
    """How many layers a state has."""
    return max(1, sum(name.endswith(".stand") for name in state))


def layers_pattern(state: Mapping[str, Tensor], stages: int, noise_size: int, num_classes: int) -> dict[str, Tensor]:
    """A state of as many layers as ``state`` has and of a generator's sizes: what it must be like to be shown."""
    sizes: tuple[tuple[int, ...], ...] = ((stages, noise_size), (stages, num_classes), (4,), (6,), (5,))
    layer = {name: torch.zeros(size) for name, size in zip(PARTS, sizes, strict=True)}
    count = min(count_of(state), MOST_LAYERS)
    return {"paper": torch.zeros(3)} | {f"layer{i}.{name}": part for i in range(count) for name, part in layer.items()}


def nearness(layer: Layer, line: Tensor) -> Tensor:
    """How near places are to a layer, ``[N, N]`` for coordinates ``line`` ``[N]``; a ground is as near everywhere."""
    if layer.ground:
        return torch.full((len(line), len(line)), -SEAM * GROUND_AT, device=line.device)
    x, y, size, _ = layer.placement
    distance = ((line - x) ** 2)[None, :] + ((line - y) ** 2)[:, None]
    return -SEAM * distance / (2 * size).exp()


def warped(sprite: Tensor, layer: Layer, side: int) -> Tensor:
    """A sprite ``[4, H, W]`` where it stands in the picture: ``[4, side, side]``."""
    if layer.ground:
        return F.interpolate(sprite[None], size=(side, side), mode="bilinear", align_corners=False)[0]
    grid = F.affine_grid(frame_of(layer)[None], [1, 4, side, side], align_corners=False)
    return F.grid_sample(sprite[None], grid, padding_mode="zeros", align_corners=False)[0]


def frame_of(layer: Layer) -> Tensor:
    """The affine map ``[2, 3]`` from the picture's coordinates to the sprite's."""
    x, y, size, angle = layer.placement
    cos, sin = angle.cos() / size.exp(), angle.sin() / size.exp()
    return torch.stack([
        layer.mirror * torch.stack([cos, sin, -cos * x - sin * y]),
        torch.stack([-sin, cos, sin * x - cos * y]),
    ])  # fmt: skip


def tinted(rgba: Tensor, tint: Tensor) -> Tensor:
    """Premultiplied RGBA ``[4, H, W]`` in 0..1 in another tint.

    ``tint`` ``[6]``: hue turned (radians), log of the chroma's gain, what is added to both chromas, log of the light's gain,
    and what is added to it.
    """
    hue, chroma, i, q, contrast, light = tint
    cos, sin = hue.cos() * chroma.exp(), hue.sin() * chroma.exp()
    zero = torch.zeros_like(hue)
    turn = torch.stack([
        torch.stack([contrast.exp(), zero, zero]), torch.stack([zero, cos, -sin]), torch.stack([zero, sin, cos]),
    ])  # fmt: skip
    to, back = TO_YIQ.to(rgba), FROM_YIQ.to(rgba)
    alpha = rgba[3:]
    rgb = (
        torch.einsum("ij,jhw->ihw", back @ turn @ to, rgba[:3])
        + (back @ torch.stack([light, i, q]))[:, None, None] * alpha
    )
    return torch.cat([torch.minimum(rgb.clamp_min(0), alpha), alpha])


def sprites_of(pictures: Tensor) -> Tensor:
    """Sprites ``[B, 4, H, W]``, premultiplied RGBA in 0..1, of what a generator with alpha makes, in -1..1."""
    pictures = pictures / 2 + 0.5
    # Where a generator is all but sure that there is nothing, there shall be nothing: no veil around things.
    alpha = ((pictures[:, 3:] - 0.02) / 0.96).clamp(0, 1)
    return torch.cat([torch.minimum(pictures[:, :3].clamp_min(0), alpha), alpha], 1)


def box_of(sprite: Tensor) -> tuple[float, float, float, float]:
    """``(left, top, right, bottom)`` of what is seen of a sprite ``[4, H, W]``, in its own coordinates, -1..1."""
    seen = sprite[3] > 0.4
    if not seen.any():
        return -1.0, -1.0, 1.0, 1.0
    side = len(seen)
    rows, columns = seen.any(1).nonzero()[:, 0], seen.any(0).nonzero()[:, 0]
    left, top, right, bottom = (
        float(edge) * 2 / side - 1 for edge in (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    )
    return left, top, right, bottom


def described(layers: Layers, parts: Sequence[str], names: Sequence[str] | None) -> tuple[dict[str, Any], ...]:
    """What each layer is and where it stands, back to front, as a recipe says it: places in 0..1 from the top left.

    ``parts`` are the plan's phrases; ``names`` the classes' where a layer keeps near one.
    """
    told = []
    for layer, share, place in zip(layers, layers.latents()[1].mean(1), layers.order, strict=True):
        row: dict[str, Any] = {"phrase": parts[place] if place < len(parts) else ""}
        if names is not None:
            row["class"] = f"{names[int(share.argmax())]} {share.max():.2f}"
        if layer.ground:
            told.append(row | {"ground": True})
            continue
        x, y, size, angle = layer.placement.tolist()
        told.append(row | {"x": x / 2 + 0.5, "y": y / 2 + 0.5, "size": math.exp(size), "angle": angle})
    return tuple(
        {key: round(value, 3) if isinstance(value, float) else value for key, value in row.items()} for row in told
    )
