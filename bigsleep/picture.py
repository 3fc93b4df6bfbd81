"""Pictures on disk: names, PNGs written whole or not at all, and the recipe inside them."""

from __future__ import annotations

import contextlib
import io
import json
import os
import platform
import re
import tempfile
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from bigsleep.errors import BigsleepError

RECIPE_CHUNK = "bigsleep"  # keyword of the iTXt chunk that holds the recipe as JSON


@dataclass(frozen=True)
class Picture:
    """An image and the recipe that makes it again: prompt, complete settings, score, step, versions."""

    image: Image.Image
    recipe: dict[str, Any]

    def png(self) -> bytes:
        """The picture as a PNG file, its recipe inside."""
        info, file = PngInfo(), io.BytesIO()
        info.add_itxt(RECIPE_CHUNK, json.dumps(self.recipe, ensure_ascii=False))
        self.image.save(file, format="PNG", pnginfo=info)
        return file.getvalue()

    def save(self, path: str | Path) -> None:
        """Write a PNG to ``path``, replacing what is there: whole, or not at all."""
        save(self.png(), Path(path))


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns what the disk has against writing ``path`` into a :class:`BigsleepError`."""
    try:
        yield
    except OSError as error:
        raise BigsleepError(f"{path} could not be written: {error.strerror or error}") from error


def save(data: bytes, path: Path) -> None:
    """Write the file ``path``, replacing what is there: whole, or not at all, and then a :class:`BigsleepError`."""
    with writing(path):
        os.replace(write_beside(data, path), path)


def save_new(data: bytes, path: Path) -> Path:
    """Write a file to ``path``, or to ``path``-2, -3, … where that is taken; where it went. Fails as :func:`save`."""
    with writing(path):
        return claim_first(write_beside(data, path), path)


def claim_first(temporary: Path, path: Path) -> Path:
    """Give a finished file the first free name of ``path``, ``path``-2, …"""
    try:
        number = 1
        while True:
            target = path if number == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")
            if claim(temporary, target):
                return target
            number += 1
    finally:
        temporary.unlink(missing_ok=True)


def write_beside(data: bytes, path: Path) -> Path:
    """A finished file under a temporary name, which says whose it is, in the folder of ``path``."""
    owner = f".bigsleep-{platform.node()}-{os.getpid()}-"
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=owner, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o666 & ~current_umask())
    except BaseException:
        os.unlink(name)
        raise
    return Path(name)


def sweep(folder: Path) -> None:
    """Remove the temporary files that processes of this machine left in ``folder`` when they were killed."""
    for path in folder.glob(".bigsleep-*.tmp"):
        host, number, _ = path.name.removeprefix(".bigsleep-").rsplit("-", 2)
        with contextlib.suppress(OSError):
            if host == platform.node() and not is_running(int(number), since=path.stat().st_mtime):
                path.unlink()


def is_running(number: int, since: float) -> bool:
    """Whether the process that had this number at the time ``since`` still runs: numbers are given out again."""
    try:
        return psutil.Process(number).create_time() <= since
    except psutil.NoSuchProcess:
        return False


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
    """The recipe inside a PNG, or None where it has none. Reads no pixels, for the recipe comes before them."""
    with Image.open(path) as image:
        text = image.info.get(RECIPE_CHUNK)
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


def name_of(template: str, index: int, variation: int, prompt: str, seed: int, model: str) -> str:
    """A file name by a template such as ``"{index:04d}-{slug}-{seed}"``; ``.png`` is added where it lacks.

    Raises
    ------
    BigsleepError
        If the template names something else, or does not make a file name.

    Examples
    --------
    >>> name_of("{index:04d}-{slug}-{seed}", 12, 1, "a house", 7, "emoji")
    '0012-a_house-7.png'
    """
    try:
        name = template.format(index=index, variation=variation, slug=slug_of(prompt), seed=seed, model=slug_of(model))
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        raise BigsleepError(
            f"--name {template!r} cannot be filled in ({error}): it may hold {{index}}, {{variation}}, {{slug}}, {{seed}} and "
            f"{{model}}, as in '{{index:04d}}-{{slug}}-{{seed}}'",
            usage=True,
        ) from None
    name = name.removesuffix(".png")
    if not name or name.startswith(".") or re.search(r"[/\\\0-\x1f]", name) or len(name.encode()) > 200:
        raise BigsleepError(
            f"--name {template!r} makes {name!r}, which is no file name: folders go with --output-dir", usage=True
        )
    return f"{name}.png"


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
