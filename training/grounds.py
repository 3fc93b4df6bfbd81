"""Settings as pictures: what a scene can stand before, drawn as SVG in the manner of the art's flat style.

Each is one opaque class of the generator beside the emoji. Plain shapes of few colours: a ground must read at a glance
from behind what stands on it.
"""

from __future__ import annotations

import io
import math
import random

import numpy as np
from PIL import Image

SIDE = 256  # of the drawings' own coordinates


def rect(y: float, height: float, fill: str, x: float = 0, width: float = SIDE) -> str:
    return f'<rect x="{x}" y="{y}" width="{width}" height="{height}" fill="{fill}"/>'


def disc(x: float, y: float, radius: float, fill: str) -> str:
    return f'<circle cx="{x}" cy="{y}" r="{radius}" fill="{fill}"/>'


def oval(x: float, y: float, across: float, down: float, fill: str) -> str:
    return f'<ellipse cx="{x}" cy="{y}" rx="{across}" ry="{down}" fill="{fill}"/>'


def shape(fill: str, *points: tuple[float, float]) -> str:
    return f'<polygon points="{" ".join(f"{x},{y}" for x, y in points)}" fill="{fill}"/>'


def line(x: float, y: float, to_x: float, to_y: float, stroke: str, width: float) -> str:
    return (
        f'<line x1="{x}" y1="{y}" x2="{to_x}" y2="{to_y}" stroke="{stroke}" stroke-width="{width}" '
        'stroke-linecap="round"/>'
    )


def sky(top: str, bottom: str) -> str:
    """A gradient over the whole drawing."""
    stops = f'<stop offset="0" stop-color="{top}"/><stop offset="1" stop-color="{bottom}"/>'
    return f'<defs><linearGradient id="sky" x2="0" y2="1">{stops}</linearGradient></defs>' + rect(0, SIDE, "url(#sky)")


def star(x: float, y: float, radius: float, fill: str = "#FCE58A") -> str:
    corners = [(radius if i % 2 == 0 else 0.42 * radius, math.pi * (i / 5 - 0.5)) for i in range(10)]
    return shape(fill, *((x + r * math.cos(turn), y + r * math.sin(turn)) for r, turn in corners))


def fir(x: float, foot: float, height: float, dark: str = "#0E7A4A", light: str = "#139A5C") -> str:
    """A conifer of three tiers on a trunk."""
    half, parts = 0.34 * height, [rect(foot - 0.16 * height, 0.16 * height, "#7D4533", x - 0.05 * height, 0.1 * height)]
    for tier, fill in enumerate((dark, light, dark)):
        low, reach = foot - (0.13 + 0.25 * tier) * height, half * (1 - 0.22 * tier)
        parts.append(shape(fill, (x - reach, low), (x + reach, low), (x, low - 0.42 * height)))
    return "".join(parts)


def tree(x: float, foot: float, height: float) -> str:
    crown = 0.3 * height
    trunk = rect(foot - 0.45 * height, 0.45 * height, "#7D4533", x - 0.05 * height, 0.1 * height)
    return (
        trunk
        + disc(x, foot - 0.66 * height, crown, "#2E9E44")
        + disc(x - 5, foot - 0.7 * height, 0.7 * crown, "#47B85A")
    )


def cloud(x: float, y: float, size: float, fill: str = "#FFFFFF") -> str:
    bumps = ((-0.55, 0.05, 0.32), (0, -0.12, 0.45), (0.55, 0.05, 0.34))
    puffs = "".join(disc(x + size * dx, y + size * dy, size * r, fill) for dx, dy, r in bumps)
    return (
        puffs
        + f'<rect x="{x - 0.85 * size}" y="{y}" width="{1.7 * size}" height="{0.38 * size}" rx="{0.19 * size}" fill="{fill}"/>'
    )


def moon(x: float, y: float, radius: float, behind: str) -> str:
    return disc(x, y, radius, "#FCE58A") + disc(x + 0.45 * radius, y - 0.25 * radius, 0.85 * radius, behind)


def night() -> str:
    spots = [(30, 40, 7), (82, 22, 5), (120, 70, 5), (150, 28, 7), (232, 110, 6), (20, 110, 5), (64, 88, 6), (100, 130, 4),
             (180, 128, 5), (240, 170, 4), (40, 168, 4)]  # fmt: skip
    return sky("#141B4D", "#33407F") + moon(205, 52, 30, "#1A2157") + "".join(star(*spot) for spot in spots)


def space() -> str:
    chance, parts = random.Random(4), [sky("#0A0A24", "#2A1250")]
    for _ in range(34):
        parts.append(disc(chance.uniform(4, 252), chance.uniform(4, 252), chance.uniform(1.5, 3.6), "#F4F0FF"))
    parts += [star(46, 60, 12), star(214, 190, 11), star(30, 200, 8), star(140, 22, 8), star(235, 110, 7)]
    ring = '<ellipse cx="208" cy="52" rx="36" ry="9" fill="none" stroke="#F3AD61" stroke-width="6" transform="rotate(-18 208 52)"/>'
    return "".join(parts) + disc(208, 52, 21, "#F9C23C") + ring


def sea() -> str:
    waves = []
    for row, (y, fill) in enumerate(((128, "#1E88D2"), (162, "#1878BE"), (200, "#1268A8"))):
        waves.append(rect(y, SIDE - y, fill))
        waves += [oval(x - 20 * (row % 2), y + 2, 22, 8, fill) for x in range(0, 300, 44)]
    return sky("#8FD3F8", "#D5F0FD") + cloud(60, 48, 34) + cloud(196, 70, 26) + "".join(waves)


def underwater() -> str:
    bubbles = [(40, 60, 8), (58, 92, 5), (214, 48, 9), (226, 84, 6), (128, 30, 6), (176, 120, 5), (30, 140, 6)]
    weed = [
        line(x, 240, x + lean, 240 - up, "#1E9E6A", 9)
        for x, lean, up in ((24, 8, 60), (40, -6, 44), (222, -8, 66), (238, 6, 48))
    ]
    sand = rect(226, 30, "#E9CE8B") + oval(70, 228, 90, 12, "#E9CE8B") + oval(200, 228, 80, 9, "#E9CE8B")
    return sky("#37B3E8", "#0B4F94") + "".join(weed) + sand + "".join(disc(*b, "#A9E3FA") for b in bubbles)


def forest() -> str:
    back = "".join(fir(x, 150, 110, "#4FA06F", "#62B380") for x in (20, 76, 128, 182, 236))
    front = "".join(
        fir(x, foot, height) for x, foot, height in ((26, 206, 150), (228, 206, 156), (82, 186, 118), (176, 186, 122))
    )
    return sky("#BFE8E0", "#E2F5E6") + back + rect(150, 106, "#7CBF5A") + front + oval(128, 256, 170, 46, "#5FA844")


def sunset() -> str:
    return (
        sky("#7A3E8E", "#FF9A4D") + disc(128, 168, 46, "#FFD84D") + oval(60, 60, 60, 7, "#B75A96") + oval(200, 92, 50, 6, "#D9737F")
        + rect(170, 86, "#4A3A7A") + "".join(oval(128, 182 + 20 * i, 52 - 9 * i, 4, "#FFB75E") for i in range(4))
    )  # fmt: skip


def beach() -> str:
    palm = line(34, 206, 50, 108, "#A56953", 10) + "".join(
        oval_turned(50, 104, 34, 9, turn, "#2E9E44") for turn in (-150, -110, -70, -30, 10, 190)
    )
    return (
        sky("#7FCBF7", "#CDEFFD") + disc(212, 44, 26, "#FFD84D") + rect(104, 62, "#1E9BD7") + rect(150, 16, "#6CC9EC")
        + rect(166, 90, "#F6DFA4") + oval(140, 168, 150, 9, "#F6DFA4") + palm
    )  # fmt: skip


def oval_turned(x: float, y: float, across: float, down: float, turn: float, fill: str) -> str:
    """An oval that begins at ``(x, y)`` and points ``turn`` degrees away from the right."""
    return f'<ellipse cx="{across}" cy="0" rx="{across}" ry="{down}" fill="{fill}" transform="translate({x} {y}) rotate({turn})"/>'


def city() -> str:
    houses = [(0, 90, 52, "#8893B4"), (48, 130, 44, "#A3ADCB"), (90, 62, 48, "#7482A8"), (136, 112, 46, "#98A4C6"),
              (180, 74, 40, "#8290B5"), (218, 124, 38, "#A3ADCB")]  # fmt: skip
    parts = [sky("#9FD6F5", "#E6F5FC"), cloud(196, 40, 24)]
    for x, top, width, fill in houses:
        parts.append(rect(top, 220 - top, fill, x, width))
        for row in range(top + 12, 200, 24):
            parts += [rect(row, 11, "#FCE9A9", x + 8 + 15 * column, 8) for column in range((width - 8) // 15)]
    return (
        "".join(parts) + rect(216, 40, "#6B7280") + "".join(rect(233, 6, "#F4F4F4", x, 26) for x in range(8, 256, 52))
    )


def desert() -> str:
    def cactus(x: float, foot: float, tall: float) -> str:
        arm = 0.3 * tall
        return "".join((
            line(x, foot, x, foot - tall, "#2F9E50", 14),
            line(x, foot - 0.4 * tall, x - arm, foot - 0.4 * tall, "#2F9E50", 10),
            line(x - arm, foot - 0.4 * tall, x - arm, foot - 0.7 * tall, "#2F9E50", 10),
            line(x, foot - 0.55 * tall, x + arm, foot - 0.55 * tall, "#2F9E50", 10),
            line(x + arm, foot - 0.55 * tall, x + arm, foot - 0.85 * tall, "#2F9E50", 10),
        ))  # fmt: skip

    dunes = rect(150, 106, "#F0C170") + oval(60, 158, 110, 28, "#F0C170") + oval(214, 196, 150, 46, "#E6AC55")
    return sky("#8CCFF2", "#FBEBC4") + disc(206, 48, 28, "#FFC83D") + dunes + cactus(40, 188, 84) + cactus(224, 176, 56)


def snow() -> str:
    chance = random.Random(9)
    flakes = [
        disc(chance.uniform(4, 252), chance.uniform(4, 170), chance.uniform(3, 5.5), "#FFFFFF") for _ in range(30)
    ]
    hills = oval(60, 226, 150, 62, "#EAF4FB") + oval(220, 232, 140, 66, "#F8FCFF") + rect(226, 30, "#F8FCFF")
    white = "".join(
        fir(x, foot, height, "#3E8E7E", "#DDEFF3")
        for x, foot, height in ((30, 186, 92), (226, 190, 100), (76, 178, 64))
    )
    return sky("#7FA9CF", "#C4DDEF") + hills + white + "".join(flakes)


def rain() -> str:
    chance = random.Random(5)
    drops = [(chance.uniform(8, 248), chance.uniform(88, 240)) for _ in range(34)]
    clouds = cloud(62, 40, 50, "#7B8794") + cloud(190, 36, 54, "#6B7684") + cloud(128, 54, 40, "#8A95A1")
    return sky("#8E9BAA", "#B9C4CE") + "".join(line(x, y, x - 5, y + 15, "#3E8FE0", 5) for x, y in drops) + clouds


def meadow() -> str:
    def flower(x: float, y: float, fill: str) -> str:
        petals = "".join(disc(x + 7 * math.cos(a), y + 7 * math.sin(a), 5.5, fill) for a in (0.3, 1.6, 2.8, 4.1, 5.3))
        return line(x, y, x, y + 18, "#3F8F3A", 4) + petals + disc(x, y, 4.5, "#FFC83D")

    spots = [(26, 196), (66, 226), (200, 222), (234, 192), (128, 236), (96, 190), (168, 196)]
    colours = ("#F8312F", "#FF8DC7", "#FFFFFF", "#B16EE0")
    hill = oval(60, 170, 140, 36, "#7CC653") + oval(210, 176, 130, 42, "#8ED163") + rect(172, 84, "#7CC653")
    return (
        sky("#7FCBF7", "#DDF4FE") + disc(40, 42, 24, "#FFD84D") + cloud(180, 52, 30) + hill
        + "".join(flower(*spot, colours[i % 4]) for i, spot in enumerate(spots))
    )  # fmt: skip


def mountains() -> str:
    def peak(x: float, top: float, half: float, fill: str) -> str:
        cap = 0.3
        height = 196 - top
        snow_cap = shape("#FFFFFF", (x, top), (x + cap * half, top + cap * height), (x + 0.1 * half, top + 0.24 * height),
                         (x - 0.08 * half, top + 0.33 * height), (x - cap * half, top + cap * height))  # fmt: skip
        return shape(fill, (x - half, 196), (x, top), (x + half, 196)) + snow_cap

    return (
        sky("#8FD0F5", "#E5F6FD") + peak(70, 62, 100, "#8593AE") + peak(206, 78, 96, "#7483A1") + peak(138, 36, 108, "#66769A")
        + rect(192, 64, "#6DB552") + oval(70, 196, 120, 14, "#6DB552") + oval(210, 198, 100, 12, "#5DA544")
    )  # fmt: skip


def room() -> str:
    pane = rect(48, 84, "#FFFFFF", 146, 76) + rect(54, 72, "#9FDCF8", 152, 64)
    bars = rect(54, 72, "#FFFFFF", 181, 6) + rect(87, 6, "#FFFFFF", 152, 64)
    frame = (
        rect(58, 58, "#A56953", 38, 50)
        + rect(64, 46, "#FBE3B5", 44, 38)
        + shape("#5DA544", (44, 110), (63, 82), (82, 110))
    )
    boards = "".join(line(x, 196, x + (x - 128) * 0.5, 256, "#A8714B", 3) for x in range(-24, 300, 38))
    return rect(0, 196, "#F6E4C6") + rect(188, 68, "#BF8457") + boards + rect(184, 9, "#FFFFFF") + pane + bars + frame


def clear_sky() -> str:
    return (
        sky("#4FB0EE", "#CBEBFC")
        + disc(216, 44, 27, "#FFD84D")
        + cloud(64, 66, 40)
        + cloud(180, 140, 34)
        + cloud(60, 206, 28)
    )


# What the class is called, the words that call for it, and the drawing.
GROUNDS = {
    "night": night, "outer space": space, "sea": sea, "underwater": underwater, "forest": forest, "sunset": sunset,
    "beach": beach, "city": city, "desert": desert, "snow": snow, "rain": rain, "meadow": meadow,
    "mountains": mountains, "room": room, "sky": clear_sky,
}  # fmt: skip


def draw(name: str, size: int) -> np.ndarray:
    """The ground ``name`` as opaque RGBA, uint8 ``[size, size, 4]``."""
    from resvg_py import svg_to_bytes

    svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {SIDE} {SIDE}">{GROUNDS[name]()}</svg>'
    picture = Image.open(io.BytesIO(bytes(svg_to_bytes(svg_string=svg, width=size, height=size)))).convert("RGBA")
    pixels = np.array(picture)
    pixels[..., 3] = 255
    return pixels
