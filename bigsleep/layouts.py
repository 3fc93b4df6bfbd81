"""Where things stand that do something to one another: relations as arrangements of boxes.

Coordinates are the picture's, -1..1, x to the right and y down. A sprite at scale 1 covers the frame; its box is the part
of it that is not transparent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from bigsleep.plan import Plan
from bigsleep.prompt import Place

Box = tuple[float, float, float, float]  # left, top, right, bottom
WHOLE: Box = (-1.0, -1.0, 1.0, 1.0)
ALONE, GROUNDED = 0.86, 0.66  # half the side that an arrangement takes up, without and with a ground behind it
FOOT = 0.78  # how far down things stand before a ground


@dataclass(frozen=True)
class Spot:
    """Where a sprite stands: its frame's middle and half-width ``scale``, all in the picture's coordinates."""

    layer: int
    x: float
    y: float
    scale: float


@dataclass(frozen=True)
class Group:
    """Sprites that stand together, back to front, and the box around what is seen of them."""

    spots: tuple[Spot, ...]
    box: Box

    @property
    def width(self) -> float:
        return self.box[2] - self.box[0]

    @property
    def height(self) -> float:
        return self.box[3] - self.box[1]

    @property
    def x(self) -> float:
        return (self.box[0] + self.box[2]) / 2

    @property
    def y(self) -> float:
        return (self.box[1] + self.box[3]) / 2

    def moved(self, x: float = 0.0, y: float = 0.0) -> Group:
        left, top, right, bottom = self.box
        spots = tuple(replace(spot, x=spot.x + x, y=spot.y + y) for spot in self.spots)
        return Group(spots, (left + x, top + y, right + x, bottom + y))

    def scaled(self, by: float) -> Group:
        spots = tuple(Spot(spot.layer, spot.x * by, spot.y * by, spot.scale * by) for spot in self.spots)
        left, top, right, bottom = self.box
        return Group(spots, (left * by, top * by, right * by, bottom * by))

    def at(self, x: float | None = None, y: float | None = None, bottom: float | None = None) -> Group:
        """Moved so that its middle, or its foot, is there."""
        across = 0.0 if x is None else x - self.x
        if bottom is not None:
            return self.moved(across, bottom - self.box[3])
        return self.moved(across, 0.0 if y is None else y - self.y)

    def within(self, width: float, height: float) -> Group:
        return self.scaled(min(width / max(self.width, 1e-3), height / max(self.height, 1e-3)))


def joined(*groups: Group) -> Group:
    """Several as one, the first at the back."""
    boxes = [group.box for group in groups]
    box = (min(b[0] for b in boxes), min(b[1] for b in boxes), max(b[2] for b in boxes), max(b[3] for b in boxes))
    return Group(tuple(spot for group in groups for spot in group.spots), box)


def sprite(layer: int, box: Box, size: float) -> Group:
    """One sprite, its seen part's longer side ``size``."""
    alone = Group((Spot(layer, 0.0, 0.0, 1.0),), box)
    return alone.scaled(size / max(alone.width, alone.height, 1e-3))


def several(groups: Sequence[Group]) -> Group:
    """Equal things in rows: two or three in one, four in two, more in threes."""
    across = len(groups) if len(groups) <= 3 else 2 if len(groups) == 4 else 3
    step_x, step_y = (1.15 * max(getattr(group, side) for group in groups) for side in ("width", "height"))
    rows = [groups[i : i + across] for i in range(0, len(groups), across)]
    placed = []
    for j, row in enumerate(rows):
        placed += [group.at(step_x * (i - (len(row) - 1) / 2), step_y * j) for i, group in enumerate(row)]
    return joined(*placed)


def beside(a: Group, b: Group, gap: float = 0.14, swapped: bool = False) -> Group:
    if swapped:
        a, b = b, a
    return joined(a, b.at(bottom=a.box[3]).moved(a.box[2] + gap - b.box[0]))


def on(a: Group, b: Group, share: float = 0.62, sink: float = 0.1, shift: float = 0.0) -> Group:
    a = a.scaled(share * min(1.0, b.width / a.width))
    return joined(b, a.at(b.x + shift * b.width, bottom=b.box[1] + sink * a.height))


def above(a: Group, b: Group, share: float = 0.7, gap: float = 0.12, shift: float = 0.0) -> Group:
    return joined(b, (a := a.scaled(share)).at(b.x + shift * b.width, bottom=b.box[1] - gap))


def under(a: Group, b: Group, share: float = 0.62, overlap: float = 0.3, shift: float = 0.0) -> Group:
    a = a.scaled(share)
    return joined(b, a.at(b.x + shift * b.width).moved(0, b.box[3] - overlap * a.height - a.box[1]))


def front(a: Group, b: Group, share: float = 0.55, shift: float = -0.25, low: float = 0.08) -> Group:
    return joined(b, (a := a.scaled(share)).at(b.x + shift * b.width, bottom=b.box[3] + low))


def inside(a: Group, b: Group, share: float = 0.45, down: float = 0.06) -> Group:
    return joined(b, a.within(share * b.width, share * b.height).at(b.x, b.y + down * b.height))


def holding(a: Group, b: Group, share: float = 0.5, side: float = 1.0, down: float = 0.14) -> Group:
    b = b.scaled(share)
    return joined(a, b.at(a.x + side * (0.5 * a.width + 0.16 * b.width), a.y + down * a.height))


def worn(a: Group, b: Group, width: float, height: float, down: float, lean: float = 0.0) -> Group:
    """``b`` on ``a``, within shares of its size, its middle ``down`` that share of it from the top."""
    b = b.within(width * a.width, height * a.height)
    return joined(a, b.at(a.x + lean * a.width, a.box[1] + down * a.height))


def hat(a: Group, b: Group, width: float = 0.62, sink: float = 0.24, lean: float = 0.0) -> Group:
    b = b.within(width * a.width, 0.6 * a.height)
    return joined(a, b.at(a.x + lean * a.width, bottom=a.box[1] + sink * b.height))


Arrange = Callable[[Group, Group], Group]


def behind(a: Group, b: Group, layout: Arrange) -> Group:
    return layout(b, a)


# The arrangements of a relation that auditions try, the usual one first.
LAYOUTS: dict[str, list[Arrange]] = {
    "beside": [beside, partial(beside, swapped=True), partial(beside, gap=0.04)],
    "left": [beside, partial(beside, gap=0.3)],
    "right": [partial(beside, swapped=True), partial(beside, gap=0.3, swapped=True)],
    "on": [on, partial(on, sink=0.2), partial(on, share=0.8), partial(on, shift=-0.12), partial(on, shift=0.12)],
    "above": [above, partial(above, share=0.9), partial(above, gap=0.3)],
    "under": [under, partial(under, share=0.75), partial(under, overlap=0.05)],
    "front": [front, partial(front, shift=0.25), partial(front, shift=0.0), partial(front, share=0.7)],
    "inside": [inside, partial(inside, share=0.6), partial(inside, down=-0.08), partial(inside, down=0.2)],
    "holding": [holding, partial(holding, side=-1.0), partial(holding, share=0.62), partial(holding, down=0.3)],
    "wearing-head": [hat, partial(hat, width=0.5), partial(hat, width=0.75), partial(hat, sink=0.4),
                     partial(hat, lean=-0.15), partial(hat, lean=0.15)],
    "wearing-eyes": [partial(worn, width=0.66, height=0.5, down=0.42), partial(worn, width=0.66, height=0.5, down=0.3),
                     partial(worn, width=0.5, height=0.4, down=0.36)],
    "wearing-body": [partial(worn, width=0.6, height=0.45, down=0.86), partial(worn, width=0.6, height=0.45, down=0.7)],
}  # fmt: skip
LAYOUTS["behind"] = [partial(behind, layout=layout) for layout in LAYOUTS["front"]]
LAYOUTS["among"] = LAYOUTS["front"]


def relations_of(tree: Any) -> list[str]:
    """The relations of a tree, as :func:`arranged` meets them."""
    if not isinstance(tree, tuple):
        return []
    relation, first, second = tree
    return [*relations_of(first), *relations_of(second), relation]


def arranged(plan: Plan, boxes: Sequence[Box], choice: Sequence[int]) -> list[Spot]:
    """Where the layers of ``plan`` stand, back to front: the ground first, where there is one.

    Parameters
    ----------
    boxes
        What is seen of each layer's sprite: the ground's first, then the things', a copy each.
    choice
        For each of :func:`relations_of` the tree, which of its :data:`LAYOUTS`.
    """
    layer = int(plan.ground is not None)
    groups, choices = [], iter(choice)
    for thing in plan.things:
        copies = [sprite(layer + i, boxes[layer + i], thing.size) for i in range(thing.count)]
        groups.append(several(copies))
        layer += thing.count

    def together(tree: Any) -> Group:
        if not isinstance(tree, tuple):
            return groups[tree]
        first, second = together(tree[1]), together(tree[2])
        layouts = LAYOUTS[tree[0]]
        return layouts[next(choices) % len(layouts)](first, second)

    spots = [Spot(0, 0.0, 0.0, 1.0)] if plan.ground else []
    if plan.tree is not None:
        spots += framed(together(plan.tree), plan.ground is not None, small=lone_size(plan)).spots
    for thing, group in zip(plan.things, groups, strict=True):
        if thing.place is not None:
            spots += put(group, thing.place).spots
    return spots


def lone_size(plan: Plan) -> float:
    """How much less of the frame a small thing takes up that has nothing beside it to be small against."""
    return min(1.0, plan.things[0].size) if len(plan.things) == 1 else 1.0


def framed(group: Group, grounded: bool, small: float = 1.0) -> Group:
    """An arrangement in the middle of the picture, or standing before its ground."""
    half = (GROUNDED if grounded else ALONE) * small
    # What is far longer one way may go further that way.
    group = group.within(2 * half * 1.08, 2 * half)
    return group.at(0.0, bottom=FOOT) if grounded else group.at(0.0, 0.0)


def put(group: Group, place: Place) -> Group:
    """An arrangement where the prompt says it stands."""
    return group.within(2 * place.size, 2 * place.size).at(2 * place.x - 1, 2 * place.y - 1)
