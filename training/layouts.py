"""Where things go in a scene, by how they stand to each other.

``places`` go from back to front: ``(which thing, x, y, scale)``, centres in -1..1 with y downwards, scale 1 as large as
the picture. Of two things the first, 0, is the one that wears, stands on, holds.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

HATS = ["crown", "woman's hat", "top hat", "graduation cap", "billed cap", "military helmet", "rescue worker's helmet",
        "ribbon", "headphone"]  # fmt: skip
EYEWEAR = ["glasses", "sunglasses", "goggles", "diving mask"]
CLOTHES = ["scarf", "necktie", "t-shirt", "dress", "coat", "backpack"]

Places = tuple[tuple[int, float, float, float], ...]


def wearing(what: Sequence[str]) -> Callable[[random.Random], Places]:
    """Places of a wearer and of what is worn: on the head, before the eyes or about the body."""

    def places(chance: random.Random) -> Places:
        u = chance.uniform
        scale, x, y = u(0.5, 0.75), u(-0.25, 0.25), u(0.05, 0.35)
        down = u(-1.0, -0.75) if what is HATS else u(-0.45, -0.1) if what is EYEWEAR else u(0.15, 0.5)
        return (0, x, y, scale), (1, x + u(-0.15, 0.15) * scale, y + down * scale, scale * u(0.4, 0.6))

    return places


def on(chance: random.Random) -> Places:
    u = chance.uniform
    x, top, base = u(-0.25, 0.25), u(0.3, 0.45), u(0.45, 0.62)
    y = 1 - base - u(0, 0.15)
    return (1, x, y, base), (0, x + u(-0.2, 0.2), y - (top + base) * u(0.7, 0.95), top)


def above(chance: random.Random) -> Places:
    u = chance.uniform
    x = u(-0.4, 0.4)
    return (1, x, u(0.4, 0.6), u(0.3, 0.45)), (0, x + u(-0.25, 0.25), u(-0.62, -0.4), u(0.28, 0.45))


def left(chance: random.Random) -> Places:
    u = chance.uniform
    return (0, -u(0.4, 0.58), u(-0.3, 0.4), u(0.32, 0.5)), (1, u(0.4, 0.58), u(-0.3, 0.4), u(0.32, 0.5))


def beside(chance: random.Random) -> Places:
    first, second = left(chance)
    mirror = chance.choice((-1, 1))
    return (0, mirror * first[1], *first[2:]), (1, mirror * second[1], *second[2:])


def front(chance: random.Random) -> Places:
    u = chance.uniform
    small, large = u(0.35, 0.5), u(0.6, 0.9)
    return (1, u(-0.2, 0.2), u(-0.3, 0), large), (0, u(-0.5, 0.5), 1 - small - u(0, 0.15), small)


def holding(chance: random.Random) -> Places:
    u = chance.uniform
    scale, x, y = u(0.55, 0.75), u(-0.25, 0.25), u(-0.05, 0.25)
    side = chance.choice((-1, 1)) * scale * u(0.5, 0.8)
    return (0, x, y, scale), (1, x + side, y + scale * u(-0.1, 0.5), scale * u(0.38, 0.58))


def inside(chance: random.Random) -> Places:
    u = chance.uniform
    scale = u(0.75, 0.95)
    return (1, 0, u(-0.05, 0.1), scale), (0, u(-0.15, 0.15), u(-0.1, 0.3), scale * u(0.35, 0.5))


def small_and_large(chance: random.Random) -> Places:
    u, side = chance.uniform, chance.choice((-1, 1))
    return (1, -side * u(0.2, 0.35), u(-0.1, 0.2), u(0.52, 0.68)), (
        0,
        side * u(0.55, 0.7),
        u(-0.2, 0.65),
        u(0.18, 0.28),
    )


def in_a_row(chance: random.Random) -> Places:
    u, order = chance.uniform, chance.sample(range(3), 3)
    return tuple(
        (i, x + u(-0.08, 0.08), u(-0.3, 0.4), u(0.26, 0.34)) for i, x in zip(order, (-0.64, 0, 0.64), strict=True)
    )


def several(number: int) -> Callable[[random.Random], Places]:
    """Places of one thing some times: in a row, a triangle, a square."""

    def places(chance: random.Random) -> Places:
        u = chance.uniform
        rows = {
            2: [[(-0.48, 0), (0.48, 0)], [(-0.45, -0.35), (0.45, 0.35)]],
            3: [[(-0.64, 0), (0, 0), (0.64, 0)], [(-0.45, 0.4), (0.45, 0.4), (0, -0.45)]],
            4: [[(-0.45, -0.45), (0.45, -0.45), (-0.45, 0.45), (0.45, 0.45)], [(-0.7, 0.1), (-0.23, -0.1), (0.23, 0.1), (0.7, -0.1)]],
        }  # fmt: skip
        which = chance.choice((0, 1))
        scale = {
            2: u(0.36, 0.48),
            3: u(0.27, 0.33) if which == 0 else u(0.3, 0.4),
            4: u(0.3, 0.4) if which == 0 else u(0.2, 0.25),
        }
        return tuple(
            (0, x + u(-0.06, 0.06), y + u(-0.1, 0.1), scale[number] * u(0.9, 1.1)) for x, y in rows[number][which]
        )

    return places


def alone(chance: random.Random) -> Places:
    u = chance.uniform
    return ((0, u(-0.3, 0.3), u(-0.15, 0.35), u(0.4, 0.85)),)
