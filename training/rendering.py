"""Scenes as pictures: the art warped, painted and laid over grounds, at 3 ms a picture, anew for every step."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bigsleep.cutouts import Cutouts, draw_cutouts
from training.grounds import GROUNDS
from training.painting import NAMES, painted
from training.pictures import Pictures, dominant_hue
from training.scenes import SETTINGS, Scene
from training.texts import concept_text

VARIANTS = 24  # of each setting, drawn and made up


@dataclass(frozen=True)
class Laid:
    """Rendered scenes: ``pictures`` ``[B, 3, size, size]``, and of each thing in them, ``N`` in all, which picture it is in
    (``owner``), its row of the art, its paint's index or -1, and how it is seen: ``visible`` ``[N, size, size]`` in 0..1, and
    the ``share`` of it that nothing covers."""

    pictures: Tensor
    owner: Tensor
    row: Tensor
    paint: Tensor
    visible: Tensor
    share: Tensor


class Renderer:
    """Renders scenes from the pictures ``art[allowed]``.

    ``plainest`` is the share of things in the first allowed style that has them; others come in any of the allowed.
    """

    def __init__(
        self,
        art: Pictures,
        folder: Path,
        allowed: Tensor,
        plainest: float,
        seed: int,
        device: str = "cpu",
        size: int = 64,
    ) -> None:
        self.art, self.plainest, self.size, self.device = art, plainest, size, device
        self.hue, self.ruled = dominant_hue(art.pixels)
        # The same at three sizes: what is placed small would alias.
        self.levels = [art.pixels.to(device)]
        for _ in range(2):
            halves = [F.avg_pool2d(part.float(), 2).round().byte() for part in self.levels[-1].split(512)]
            self.levels.append(torch.cat(halves))
        self.rows: list[list[int]] = [[] for _ in art.concepts]
        order = torch.argsort(art.concept * 10 + art.style)
        for row in order[allowed[order]].tolist():
            self.rows[int(art.concept[row])].append(row)
        self.index = {concept_text(concept["label"]): i for i, concept in enumerate(art.concepts)}
        chance = random.Random(seed)
        drawn = torch.from_numpy(np.load(folder / "drawn.npz")["pictures"][-len(GROUNDS) :]).permute(0, 3, 1, 2)
        small = dict(zip(GROUNDS, drawn[:, :3].float() / 255, strict=True))
        self.grounds = {name: self.bank(name, small.get(name), chance) for name in SETTINGS}

    def bank(self, name: str, drawing: Tensor | None, chance: random.Random) -> Tensor:
        """A setting's grounds, uint8 ``[N, 3, size, size]``: its drawing in other crops, and made up of the art."""
        _, above, below, split, scatters = SETTINGS[name]
        made = []
        for _ in range(VARIANTS):
            names = [
                (chance.choice(what.split(",")), size, place)
                for what, many, size, place in scatters
                for _ in range(chance.randint(*many))
            ]
            places = [(chance.uniform(-0.95, 0.95), chance.uniform(*y), chance.uniform(*s)) for _, s, y in names]
            rows = [chance.choice(self.rows[self.index[name]]) for name, _, _ in names]
            ground = slope(above, below, split, chance, self.size)[None].to(self.device)
            for sprite in self.sprites(rows, places, [0.0] * len(rows), [1] * len(rows), [-1] * len(rows)):
                ground = ground * (1 - sprite[3:]) + sprite[:3]
            made.append(ground)
        if drawing is not None:
            cuts = draw_cutouts(VARIANTS, 0.75, 1.0, 0.6, torch.Generator().manual_seed(chance.randrange(2**31)))
            made.append(seen(drawing.expand(VARIANTS, -1, -1, -1).to(self.device), cuts, self.size))
        return (torch.cat(made).clamp(0, 1) * 255).byte()

    def sprites(
        self, rows: Sequence[int], places: Sequence[tuple[float, float, float]], tilts: Sequence[float],
        mirrors: Sequence[int], paints: Sequence[int],
    ) -> Tensor:  # fmt: skip
        """The art's ``rows`` where they stand in the picture: premultiplied RGBA ``[N, 4, size, size]``."""
        row, paint = torch.tensor(rows, dtype=torch.long), torch.tensor(paints, dtype=torch.long)
        x, y, scale = torch.tensor(places).view(-1, 3).unbind(1)
        cos, sin = torch.cos(torch.tensor(tilts)) / scale, torch.sin(torch.tensor(tilts)) / scale
        mirror = torch.tensor(mirrors, dtype=torch.float)
        theta = torch.stack(
            [mirror * cos, mirror * sin, -mirror * (cos * x + sin * y), -sin, cos, sin * x - cos * y], 1
        )
        out = torch.zeros(len(row), 4, self.size, self.size, device=self.device)
        level = (scale * self.size < 38).long() + (scale * self.size < 19)
        for which, pixels in enumerate(self.levels):
            at = (level == which).nonzero()[:, 0]
            if len(at):
                rgba = pixels[row[at].to(self.device)].float() / 255
                rgba = painted(rgba, paint[at], self.hue[row[at]], self.ruled[row[at]])
                grid = F.affine_grid(
                    theta[at].view(-1, 2, 3).to(self.device), [len(at), 4, self.size, self.size], align_corners=False
                )
                out[at.to(self.device)] = F.grid_sample(rgba, grid, align_corners=False)
        return out

    def render(self, scenes: Sequence[Scene], seeds: Sequence[int], rough: float) -> Tensor:
        """RGB ``[B, 3, size, size]`` of scenes; of equal seeds, alike in all that the scenes leave open.

        ``rough`` in 0..1 is how much places, looks and light vary.
        """
        return self.lay(scenes, seeds, rough).pictures

    def lay(self, scenes: Sequence[Scene], seeds: Sequence[int], rough: float) -> Laid:
        """As :meth:`render`, with what lies where."""
        grounds, rows, places, tilts, mirrors, paints, owners, depths = [], [], [], [], [], [], [], []
        for number, (scene, seed) in enumerate(zip(scenes, seeds, strict=True)):
            chance = random.Random(seed)
            grounds.append(self.ground(scene.setting, chance))
            looks = [(chance.random(), chance.random(), chance.random() < 0.3) for _ in range(3)]
            shakes = [[chance.gauss(0, rough) for _ in range(4)] for _ in range(4)]
            for depth, ((which, x, y, scale), shake) in enumerate(zip(scene.places, shakes, strict=False)):
                thing, (style, pick, mirrored) = scene.things[which], looks[which]
                known = self.rows[thing.concept]
                rows.append(known[0] if style < self.plainest else known[int(pick * len(known))])
                places.append((x + 0.03 * shake[0], y + 0.03 * shake[1], scale * math.exp(0.08 * shake[2])))
                tilts.append(0.12 * shake[3])
                mirrors.append(-1 if mirrored else 1)
                paints.append(NAMES.index(thing.paint) if thing.paint else -1)
                owners.append(number)
                depths.append(depth)
        pictures = torch.stack(grounds).to(self.device)
        sprites = self.sprites(rows, places, tilts, mirrors, paints)
        owner, depth = torch.tensor(owners, device=self.device), torch.tensor(depths, device=self.device)
        visible = sprites[:, 3].clone()
        for layer in range(max(depths) + 1):
            at = depth == layer
            above, where = sprites[at], owner[at]
            pictures[where] = pictures[where] * (1 - above[:, 3:]) + above[:, :3]
            # What lies below, of the same picture, is seen through what is not covered.
            cover = torch.zeros(len(scenes), *visible.shape[1:], device=self.device)
            cover[where] = above[:, 3]
            visible = torch.where((depth < layer)[:, None, None], visible * (1 - cover[owner]), visible)
        whole = sprites[:, 3].sum((1, 2)).clamp_min(1)
        return Laid(
            pictures, owner.cpu(), torch.tensor(rows), torch.tensor(paints), visible, visible.sum((1, 2)) / whole
        )

    def ground(self, setting: str | None, chance: random.Random) -> Tensor:
        """RGB ``[3, size, size]``: of the setting, or plain: white, a colour, a slope of colours."""
        if setting:
            bank = self.grounds[setting]
            return bank[chance.randrange(len(bank))].cpu().float() / 255
        kind = chance.random()
        if kind < 0.3:
            return torch.ones(3, self.size, self.size)
        dark = kind > 0.92
        colour = [1 / (1 + math.exp(-(-1.2 if dark else 1.8) - chance.gauss(0, 1))) for _ in range(3)]
        other = [min(1, max(0, c + chance.gauss(0, 0.15))) for c in colour] if kind > 0.65 else colour
        return slope(colour, other, None, chance, self.size, 0.0)


def slope(
    above: Sequence[float],
    below: Sequence[float],
    split: float | None,
    chance: random.Random,
    size: int,
    vary: float = 0.06,
) -> Tensor:
    """Two colours, a little varied, that meet about ``split`` of the way down or blend all the way: ``[3, size, size]``."""
    top, bottom = (
        torch.tensor([min(1.0, max(0.0, c + chance.gauss(0, vary))) for c in colour]) for colour in (above, below)
    )
    down = torch.linspace(0, 1, size)[:, None].expand(size, size)
    share = down if split is None else torch.sigmoid((down - split - chance.gauss(0, 0.06)) / 0.03)
    return torch.lerp(top[:, None, None], bottom[:, None, None], share)


def seen(pictures: Tensor, cuts: Cutouts, size: int) -> Tensor:
    """Of each picture ``[N, 3, H, W]`` one cutout, ``[N, 3, size, size]``, as the program cuts it; without its noise."""
    device = pictures.device
    grid = F.affine_grid(cuts.theta.to(device), [len(pictures), 3, size, size], align_corners=False)
    crops = F.grid_sample(pictures, grid, padding_mode="border", align_corners=False)
    return (crops - 0.5) * cuts.gain.to(device) + 0.5 + cuts.shift.to(device)


def as_seen(least: float, most: float, augment: float) -> Callable[[Tensor], Tensor]:
    """Look at pictures as the program's perceptor does, in cutouts of ``least``..``most`` of the frame."""

    def look(pictures: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(int(torch.randint(2**31, ())))
        cuts = draw_cutouts(len(pictures), least, most, augment, generator)
        crops = seen(pictures, cuts, pictures.shape[3])
        return crops + cuts.roughness.to(crops) * torch.randn_like(crops)

    return look
