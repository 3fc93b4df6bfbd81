"""Pictures on disk: names, PNGs written whole or not at all, and the recipe inside them."""

from __future__ import annotations

import json
import os
import re
import tempfile
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from bigsleep.errors import BigsleepError

RECIPE_CHUNK = "bigsleep"  # keyword of the iTXt chunk that holds the recipe as JSON


@dataclass(frozen=True)
class Picture:
    """An image and the recipe that makes it again: prompt, complete settings, score, step, versions."""

    image: Image.Image
    recipe: dict[str, Any]

    def save(self, path: str | Path) -> None:
        """Write a PNG to ``path``, replacing what is there: whole, or not at all."""
        temporary = self.write_beside(Path(path))
        os.replace(temporary, path)

    def save_new(self, path: Path) -> Path:
        """Write a PNG to ``path``, or to ``path``-2, -3, … where that is taken; where it went."""
        temporary = self.write_beside(path)
        try:
            number = 1
            while True:
                target = path if number == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")
                if claim(temporary, target):
                    return target
                number += 1
        finally:
            temporary.unlink(missing_ok=True)

    def write_beside(self, path: Path) -> Path:
        """A finished PNG under a temporary name in the folder of ``path``."""
        info = PngInfo()
        info.add_itxt(RECIPE_CHUNK, json.dumps(self.recipe, ensure_ascii=False))
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".bigsleep-", suffix=".tmp")
        try:
            with os.fdopen(handle, "wb") as file:
                self.image.save(file, format="PNG", pnginfo=info)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o666 & ~current_umask())
        except BaseException:
            os.unlink(name)
            raise
        return Path(name)


def current_umask() -> int:
    """The process's umask; mkstemp's files are private, pictures are as any new file."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def claim(temporary: Path, target: Path) -> bool:
    """Give a finished file the name ``target`` unless that is taken, even by another process at this moment."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        return False
    except OSError:  # no hard links here (FAT, some network disks): a short race is left
        if target.exists():
            return False
        os.rename(temporary, target)
    return True


def read_recipe(path: str | Path) -> dict[str, Any] | None:
    """The recipe inside a PNG, or None where it has none."""
    with Image.open(path) as image:
        text = getattr(image, "text", {}).get(RECIPE_CHUNK)
    return json.loads(text) if text else None


def slug_of(prompt: str, longest: int = 80) -> str:
    """A file name without ending for a prompt: letters and digits of any script, joined by ``_``, never empty.

    At most ``longest`` bytes of UTF-8, whole characters.
    """
    words = re.sub(r"[^\w]+", "_", unicodedata.normalize("NFC", prompt).lower()).strip("_")
    slug = words.encode("utf-8")[:longest].decode("utf-8", "ignore").rstrip("_")
    # Windows keeps these names for devices.
    if re.fullmatch(r"con|prn|aux|nul|com\d|lpt\d", slug):
        slug += "_"
    return slug or "dream"


def check_target(path: Path) -> None:
    """Raise :class:`BigsleepError` unless a picture can be written to ``path``."""
    folder = path.parent
    if not folder.is_dir():
        raise BigsleepError(f"there is no folder {folder}: make it first (mkdir -p), or choose another", usage=True)
    if path.is_dir():
        raise BigsleepError(f"{path} is a folder: give a file name, or use --output-dir", usage=True)
    if path.suffix.lower() != ".png":
        raise BigsleepError(f"{path} does not end in .png: pictures are PNGs", usage=True)
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        raise BigsleepError(f"the folder {folder} cannot be written to: choose another", usage=True) from None
