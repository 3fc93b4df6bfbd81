"""The judge of ``benchmarks.scenes``: a detector says which thing is where, how large and of what colour, and before what.

One network finds things, another names what is cut out around each. They share nothing with the perceptor: other shapes,
other seeds, and trained by ``training.detector`` on composites of the art styles that the generator does not draw. Verdicts
follow GenEval (Ghosh et al. 2023): every thing that is asked for must be found, as often as it is asked for, in its colour
and where it shall be, and no more often where it is counted.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from clip.model import ModifiedResNet
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

WEIGHTS = Path(__file__).parent / "detector.safetensors"
SIZE, CELLS, CROP = (
    128,
    16,
    64,
)  # pixels a side that it sees; places it looks at, a side; pixels a side of what it names
MARGIN = 1.15  # side of a crop over the thing's longer side
# Least certainty that there is a thing, and of its name among 167; chosen on other scenes than the exam's.
THING, NAME = 0.3, 0.03
APART = 0.1  # of the things' sizes together: closer than this is neither left nor right (GenEval's)
NAMER = dict(layers=(1, 1, 2, 1), output_dim=256, heads=20, input_resolution=CROP, width=40)


def unit(ins: int, outs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(ins, outs, 3, stride, 1, bias=False), nn.BatchNorm2d(outs), nn.ReLU(inplace=True))


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = unit(width, width), nn.Sequential(*list(unit(width, width))[:2])

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.second(self.first(x)))


class Finder(nn.Module):
    """A small convolutional network that goes down to 4 x 4 and back up to ``CELLS``: at each, is there a thing's centre?

    ``forward`` gives maps ``[B, 1 + 4, CELLS, CELLS]``: logits of a thing, and where in the cell its centre is and how large
    it is (see :func:`boxes`); and logits ``[B, settings]`` of the ground.
    """

    def __init__(self, settings: int, width: int = 32) -> None:
        super().__init__()
        w = width
        self.stem = nn.Sequential(unit(3, w // 2, 2), unit(w // 2, w, 2), Residual(w))
        self.fine = nn.Sequential(unit(w, 2 * w, 2), Residual(2 * w))
        self.middle = nn.Sequential(unit(2 * w, 3 * w, 2), Residual(3 * w))
        self.coarse = nn.Sequential(unit(3 * w, 4 * w, 2), Residual(4 * w))
        self.from_coarse, self.from_middle, self.from_fine = (nn.Conv2d(n * w, 2 * w, 1) for n in (4, 3, 2))
        self.mixed = Residual(2 * w)
        self.heads = nn.Conv2d(2 * w, 5, 1)
        nn.init.constant_(self.heads.bias[:1], -3.0)  # most places hold no thing
        self.ground = nn.Linear(6 * w, settings)

    def forward(self, rgb: Tensor) -> tuple[Tensor, Tensor]:
        fine = self.fine(self.stem((rgb - 0.5) * 2))
        middle = self.middle(fine)
        coarse = self.coarse(middle)
        up = self.from_middle(middle) + F.interpolate(self.from_coarse(coarse), scale_factor=2, mode="nearest")
        up = self.mixed(F.relu(self.from_fine(fine) + F.interpolate(up, scale_factor=2, mode="nearest")))
        return self.heads(up), self.ground(torch.cat([coarse.mean((2, 3)), up.mean((2, 3))], 1))


class Namer(nn.Module):
    """CLIP's ResNet without its last layer: logits of nouns (the last: something else) and of colours of crops."""

    def __init__(self, nouns: int, colours: int) -> None:
        super().__init__()
        self.tower = ModifiedResNet(**NAMER)
        self.tower.attnpool = nn.Identity()
        self.noun, self.colour = nn.Linear(32 * NAMER["width"], nouns + 1), nn.Linear(32 * NAMER["width"], colours)

    def forward(self, rgb: Tensor) -> tuple[Tensor, Tensor]:
        seen = self.tower((rgb - 0.45) / 0.27).mean((2, 3))
        return self.noun(seen), self.colour(seen)


class Detector(nn.Module):
    """Both networks."""

    def __init__(self, table: dict[str, list[str]]) -> None:
        super().__init__()
        self.finder = Finder(len(table["settings"]))
        self.namer = Namer(len(table["nouns"]), len(table["colours"]))


def cropped(pictures: Tensor, owner: Tensor, box: Tensor) -> Tensor:
    """Squares ``[N, 3, CROP, CROP]`` of ``pictures[owner]`` around ``box`` ``[N, 4]`` (x, y, width, height in 0..1)."""
    side = (MARGIN * box[:, 2:].amax(1)).clamp_min(0.05)
    theta = torch.zeros(len(box), 2, 3, device=pictures.device)
    theta[:, 0, 0] = theta[:, 1, 1] = side
    theta[:, :, 2] = 2 * box[:, :2] - 1
    grid = F.affine_grid(theta, [len(box), 3, CROP, CROP], align_corners=False)
    return F.grid_sample(pictures[owner], grid, padding_mode="border", align_corners=False)


def boxes(raw: Tensor) -> Tensor:
    """Centre x, centre y, width, height in 0..1 of ``raw`` ``[..., 4, CELLS, CELLS]``: within the cell, of the picture."""
    cell = torch.arange(CELLS, device=raw.device)
    x, y, width, height = torch.sigmoid(raw).unbind(-3)
    return torch.stack([(x + cell) / CELLS, (y + cell[:, None]) / CELLS, width, height], -3)


@dataclass(frozen=True)
class Found:
    """A thing in a picture: how certainly it is there, how likely it is each noun, its box, its colour."""

    certain: float
    names: Tensor
    box: tuple[float, float, float, float]
    colour: str


@dataclass(frozen=True)
class Sight:
    """What the judge sees in a picture: things, and the setting that the ground shows ("plain" for none)."""

    things: list[Found]
    setting: str


class Judge:
    """Looks at pictures and judges prompts in GenEval's metadata format, with ``"setting"`` beside its keys."""

    def __init__(self, network: Detector, table: dict[str, Any]) -> None:
        self.network, self.table = network.eval().to(memory_format=torch.channels_last), table
        self.nouns = {noun: i for i, noun in enumerate(table["nouns"])}

    @classmethod
    def load(cls, path: Path = WEIGHTS) -> Judge:
        """The trained one; ``table["accuracy"]`` is the share of its verdicts that are right, by kind."""
        with safe_open(path, "pt") as file:
            table = json.loads(file.metadata()["table"])
        network = Detector(table)
        network.load_state_dict({name: value.float() for name, value in load_file(path).items()}, strict=False)
        return cls(network, table)

    @torch.no_grad()
    def look(self, pictures: Tensor) -> list[Sight]:
        """What is seen in ``pictures`` ``[N, 3, H, W]`` in 0..1."""
        sights = []
        for part in pictures.split(64):
            if part.shape[2] != SIZE:
                part = F.interpolate(part, size=(SIZE, SIZE), mode="bilinear", antialias=True)
            maps, grounds = self.network.finder(part.contiguous(memory_format=torch.channels_last))
            there, place = torch.sigmoid(maps[:, :1]), boxes(maps[:, 1:])
            picture, _, row, column = ((there == F.max_pool2d(there, 3, 1, 1)) & (there > THING)).nonzero().unbind(1)
            box = place[picture, :, row, column]
            names, colours = self.network.namer(cropped(part, picture, box)) if len(box) else (box, box)
            certain, names = there[picture, 0, row, column].tolist(), names.softmax(1)
            things = [
                Found(certain[i], names[i], tuple(box[i].tolist()), self.table["colours"][int(colours[i].argmax())])
                for i in range(len(box))
            ]
            for i, setting in enumerate(grounds.argmax(1).tolist()):
                own = [thing for thing, owner in zip(things, picture.tolist(), strict=True) if owner == i]
                sights.append(Sight(own, self.table["settings"][setting]))
        return sights

    def found(self, sight: Sight, noun: str) -> list[Found]:
        """What in the picture shows ``noun``, most likely first."""
        known = [(float(thing.names[self.nouns[noun]]), thing) for thing in sight.things]
        return [thing for name, thing in sorted(known, key=lambda pair: -pair[0]) if name >= NAME]

    def right(self, asked: dict[str, Any], sight: Sight) -> bool:
        """Whether a picture shows what was ``asked``, by GenEval's rules."""
        groups: list[list[Found]] = []
        for wanted in asked["include"]:
            things = self.found(sight, wanted["class"])[: wanted["count"]]
            if len(things) < wanted["count"] or any(
                thing.colour != wanted.get("color", thing.colour) for thing in things
            ):
                return False
            if "position" in wanted:
                relation, which = wanted["position"]
                if not all(relation in stands(thing, other) for thing in things for other in groups[which]):
                    return False
            groups.append(things)
        if any(len(self.found(sight, most["class"])) >= most["count"] for most in asked.get("exclude", [])):
            return False
        return "setting" not in asked or sight.setting == asked["setting"]


def stands(one: Found, other: Found) -> set[str]:
    """How ``one`` stands to ``other``: GenEval's rule, "left of", "right of", "above", "below", none or two of them."""
    apart = torch.tensor(one.box[:2]) - torch.tensor(other.box[:2])
    sizes = torch.tensor(one.box[2:]) + torch.tensor(other.box[2:])
    clear = (apart.abs() - APART * sizes).clamp_min(0) * apart.sign()
    if float(clear.abs().max()) < 1e-3:
        return set()
    x, y = (clear / apart.norm()).tolist()
    names = {"left of": x < -0.5, "right of": x > 0.5, "above": y < -0.5, "below": y > 0.5}
    return {name for name, holds in names.items() if holds}
