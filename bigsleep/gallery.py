"""A folder's pictures as one page: thumbnails, recipes and all that is done with them inside it, the pictures beside it."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from PIL import Image, ImageOps

from bigsleep.batch import Outcome
from bigsleep.disk import save
from bigsleep.errors import BigsleepError
from bigsleep.keep import Keeper
from bigsleep.picture import check_folder, insides, opened, plain
from bigsleep.recipe import checked_recipe, command_of, settings_of

SIDE = 192  # of a thumbnail, in pixels
COLUMNS = 10  # of a sheet of thumbnails
SHEET = 100  # pictures a sheet
OURS = '<meta name="generator" content="bigsleep'


@dataclass(frozen=True)
class Shown:
    """A picture of the page: what its recipe says of it, as far as that can be believed, and its thumbnail's place."""

    file: str
    address: str
    facts: dict[str, Any]
    thumb: Image.Image | None = None
    place: str = ""


@dataclass(frozen=True)
class Sheet:
    """Pictures whose thumbnails are one image: base64 of a WebP, ``columns`` and ``rows`` of thumbnails."""

    pictures: tuple[Shown, ...]
    data: str
    columns: int
    rows: int


class Gallery:
    """The page of a folder, at ``page``. :meth:`write` looks only at pictures that are new since it last did.

    Raises
    ------
    BigsleepError
        If there is no such folder, the page cannot be written there, or a file of its name is no gallery.
    """

    def __init__(self, folder: Path, page: Path) -> None:
        if not folder.is_dir():
            raise BigsleepError(f"there is no folder {folder}: give one with pictures", usage=True)
        check_page(page)
        self.folder, self.page = folder, page
        self.base = quote(os.fsencode(os.path.relpath(folder.resolve(), page.parent.resolve())) + b"/")
        self.sheets: dict[tuple[Any, ...], Sheet] = {}
        self.look = lru_cache(maxsize=SHEET)(self.look_at)  # those of a sheet that is not full are asked for again

    def write(self, seen: Callable[[int, int], None] = lambda *_: None) -> int:
        """Write the page as the folder is now; how many pictures it shows. ``seen`` is told how many of how many are."""
        files = sorted(self.files(), key=lambda file: (file[1], file[0]))
        known, self.sheets = self.sheets, {}
        for begin in range(0, len(files), SHEET):
            key = tuple(files[begin : begin + SHEET])
            self.sheets[key] = known[key] if key in known else self.sheet(key)
            seen(begin + len(key), len(files))
        sheets = [sheet for sheet in self.sheets.values() if sheet.pictures]
        save(page_of(self.folder.resolve().name, sheets), self.page)
        return sum(len(sheet.pictures) for sheet in sheets)

    def files(self) -> Iterator[tuple[str, int, int]]:
        """Name, time and size of each PNG of the folder."""
        with os.scandir(self.folder) as entries:
            for entry in entries:
                if entry.name.lower().endswith(".png") and not entry.name.startswith("."):
                    with contextlib.suppress(OSError):  # gone since
                        told = entry.stat()
                        yield entry.name, told.st_mtime_ns, told.st_size

    def sheet(self, files: tuple[tuple[str, int, int], ...]) -> Sheet:
        found = [shown for file in files if (shown := self.look(*file)) is not None]
        columns = min(COLUMNS, len(found)) or 1
        rows = math.ceil(len(found) / columns)
        whole, pictures = Image.new("RGB", (columns * SIDE, rows * SIDE)), []
        for number, shown in enumerate(found):
            assert shown.thumb is not None
            x, y = number % columns, number // columns
            whole.paste(shown.thumb, (x * SIDE, y * SIDE))
            place = f"{100 * x / max(1, columns - 1):.4g}% {100 * y / max(1, rows - 1):.4g}%"
            pictures.append(Shown(shown.file, shown.address, shown.facts, place=place))
        return Sheet(tuple(pictures), webp(whole) if pictures else "", columns, rows)

    def look_at(self, name: str, changed: int, size: int) -> Shown | None:
        """The picture of a file of the folder; None where it is not ours, or not whole."""
        try:
            with opened(self.folder / name) as image:
                recipe = insides(image, name)[0]
                if not recipe:
                    return None
                thumb = fitted(image)
        except BigsleepError:
            return None
        said = os.fsencode(name).decode("utf-8", "replace")
        facts = facts_of(recipe) | {"file": said, "made": changed // 1_000_000}
        return Shown(said, self.base + quote(os.fsencode(name)), facts, thumb)


class KeptUp:
    """What keeps a batch's outcomes, and now and then, and at the end, writes the folder's page too."""

    def __init__(self, keeper: Keeper, gallery: Gallery) -> None:
        self.keeper, self.gallery, self.due = keeper, gallery, 0.0

    def keep(self, outcome: Outcome) -> Path | None:
        path = self.keeper.keep(outcome)
        if path is not None and time.monotonic() >= self.due:
            began = time.monotonic()
            self.gallery.write()
            ended = time.monotonic()
            self.due = ended + max(2.0, 20 * (ended - began))  # a twentieth of a batch's time at most
        return path

    def add_failure(self, outcome: Outcome) -> None:
        self.keeper.add_failure(outcome)

    def __enter__(self) -> KeptUp:
        return self

    def __exit__(self, *_: object) -> None:
        self.gallery.write()


def check_page(page: Path) -> None:
    """Raise :class:`BigsleepError` unless a gallery can be written to ``page``, which may hold one."""
    check_folder(page)
    try:
        with open(page, encoding="utf-8", errors="replace") as file:
            ours = OURS in file.read(4096)
    except FileNotFoundError:
        return
    except OSError as error:
        raise BigsleepError(f"{page} cannot be read: {error.strerror}", usage=True) from None
    if not ours:
        raise BigsleepError(f"{page} is there and no gallery: give the page another name with -o", usage=True)


def facts_of(recipe: dict[str, Any]) -> dict[str, Any]:
    """What the page says of a picture; what a recipe, which anybody may have written, does not rightly say is None."""
    settings = recipe.get("settings")
    settings = settings if isinstance(settings, dict) else {}
    prompt = recipe.get("prompt")
    return {
        "prompt": prompt if isinstance(prompt, str) else "",
        "score": number(recipe.get("score")),
        "step": number(recipe.get("step")),
        # JSON's numbers are floats in a browser, which would round a long seed.
        "seed": str(seed) if isinstance(seed := settings.get("seed"), int) else "",
        "model": model if isinstance(model := settings.get("model"), str) else "",
        "recipe": json.dumps(recipe, indent=1, ensure_ascii=False),
        "command": command_for(recipe),
    }


def fitted(image: Image.Image) -> Image.Image:
    return ImageOps.fit(plain(image), (SIDE, SIDE))


def thumbnail(path: Path) -> Image.Image:
    """The thumbnail of an image file, or a :class:`BigsleepError`."""
    with opened(path) as image:
        return fitted(image)


def number(value: Any) -> float | None:
    return value if isinstance(value, (int, float)) and math.isfinite(value) else None


def command_for(recipe: dict[str, Any]) -> str:
    """A line for the shell that makes the picture again; empty where the recipe is damaged, or not for this version."""
    try:
        return command_of(checked_recipe(recipe, ""), settings_of(recipe, ""))
    except BigsleepError:
        return ""


def webp(image: Image.Image) -> str:
    file = io.BytesIO()
    image.save(file, "WEBP", quality=78, method=2)
    return base64.b64encode(file.getvalue()).decode()


def page_of(title: str, sheets: list[Sheet]) -> bytes:
    """The page as HTML, in UTF-8."""
    from jinja2 import Environment, PackageLoader

    loader = Environment(loader=PackageLoader("bigsleep"), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    assert loader.loader is not None
    script, style = (loader.loader.get_source(loader, f"gallery.{kind}")[0] for kind in ("js", "css"))
    facts = [shown.facts | {"address": shown.address} for sheet in sheets for shown in sheet.pictures]
    models = sorted({fact["model"] for fact in facts} - {""})
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    text = loader.get_template("gallery.html").render(
        title=title, sheets=sheets, facts=facts, models=models, script=script, style=style, digest=digest
    )
    return text.encode("utf-8", "replace")
