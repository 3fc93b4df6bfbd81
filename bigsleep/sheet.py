"""Pictures side by side on one sheet, with what tells them apart under each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from bigsleep.errors import BigsleepError
from bigsleep.picture import MOST_PIXELS, Picture

GAP = 8  # pixels between pictures
LINE = 15  # height of a line of text
PAPER, INK, FAINT = "white", (40, 40, 40), (120, 120, 120)


def contact_sheet(paths: Sequence[Path], columns: int | None = None, size: int = 256) -> Image.Image:
    """The pictures in files, ``columns`` in a row and at most ``size`` pixels a side each.

    Raises
    ------
    BigsleepError
        If a file holds no image, or the sheet would be too large.
    """
    columns = min(columns or math.ceil(math.sqrt(len(paths))), len(paths))
    rows = math.ceil(len(paths) / columns)
    cell = size + GAP, size + 2 * LINE + GAP
    width, height = columns * cell[0] + GAP, rows * cell[1] + GAP
    if width * height > MOST_PIXELS:
        raise BigsleepError(f"a sheet of {len(paths)} pictures is too large: give a smaller --size", usage=True)
    sheet = Image.new("RGB", (width, height), PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    for number, path in enumerate(paths):
        picture = Picture.open(path)
        left, top = GAP + number % columns * cell[0], GAP + number // columns * cell[1]
        sheet.paste(ImageOps.pad(picture.image, (size, size), color=PAPER), (left, top))
        for line, (text, colour) in enumerate(((path.name, INK), (told(picture), FAINT))):
            place = left, top + size + 2 + line * LINE
            draw.text(place, shortened(text, size, font), fill=colour, font=font)
    return sheet


def told(picture: Picture) -> str:
    """What a recipe says that a choice between pictures turns on."""
    settings, score = picture.recipe.get("settings"), picture.recipe.get("score")
    seed = settings.get("seed") if isinstance(settings, dict) else None
    parts = [f"seed {seed}" if isinstance(seed, int) else "", f"score {score:.3f}" if isinstance(score, float) else ""]
    return ", ".join(part for part in parts if part)


def shortened(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """As much of a line of text as fits into ``width`` pixels."""
    text = text.replace("\n", " ")[:500]
    while text and font.getlength(text) > width:
        text = text[:-2] + "…" if len(text) > 2 else ""
    return text
