"""Pictures on disk: names, PNGs, and the recipe inside them."""

from __future__ import annotations

import contextlib
import io
import json
import re
import struct
import tempfile
import unicodedata
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from bigsleep.disk import save
from bigsleep.errors import BigsleepError

if TYPE_CHECKING:
    from torch import Tensor

RECIPE_CHUNK = "bigsleep"  # keyword of the iTXt chunk that holds the recipe as JSON
STATE_CHUNK = (
    b"bgST"  # the chunk that holds the dream's tensors: ours alone, and lost where an editor saves the picture
)
MOST_PIXELS = 50_000_000  # of an image that is opened: unpacked, a fifth of a gigabyte, and two copies on the way


@dataclass(frozen=True)
class Picture:
    """An image, the recipe that makes it again (prompt, complete settings, score, step, versions), and the state.

    ``state`` are the dream's tensors as :mod:`bigsleep.state` packs them. A foreign image has neither recipe nor state.
    """

    image: Image.Image
    recipe: dict[str, Any] = field(default_factory=dict)
    state: bytes = b""

    @classmethod
    def open(cls, path: str | Path) -> Picture:
        """The picture, or foreign image of any format that Pillow reads, in the file ``path``; upright and in RGB.

        Raises
        ------
        BigsleepError
            If there is no whole image in the file, or one that is too large, or what is said of its dream is damaged.
        """
        with opened(path) as image:
            recipe, state = insides(image, path)
            return cls(plain(image), recipe, state)

    @classmethod
    def read(cls, png: bytes, name: str) -> Picture:
        """The picture that a file's bytes ``png`` are; ``name`` is for messages. Fails as :meth:`open`."""
        with Image.open(io.BytesIO(png)) as image:
            recipe, state = insides(image, name)
            return cls(plain(image), recipe, state)

    @property
    def latents(self) -> dict[str, Tensor]:
        """The tensors that the picture was made of, by name (``layer0.noise``, …); none in a foreign image."""
        from bigsleep.state import decode

        return decode(self.state) if self.state else {}

    def png(self, bare: bool = False) -> bytes:
        """The picture as a PNG file, its recipe and state inside; without either where ``bare``."""
        info, file = PngInfo(), io.BytesIO()
        if not bare:
            info.add_itxt(RECIPE_CHUNK, json.dumps(self.recipe, ensure_ascii=False))
            for name, text in captions(self.recipe).items():
                info.add_text(name, text)
            if self.state:
                info.add(STATE_CHUNK, self.state)
        self.image.save(file, format="PNG", pnginfo=info)
        return file.getvalue()

    def _repr_png_(self) -> bytes:
        """How a notebook shows it."""
        return self.png(bare=True)

    def save(self, path: str | Path) -> None:
        """Write a PNG to ``path``, replacing what is there: whole, or not at all."""
        save(self.png(), Path(path))


def captions(recipe: dict[str, Any]) -> dict[str, str]:
    """What other programs show of a picture, by the PNG standard's own keywords."""
    settings, versions = recipe.get("settings", {}), recipe.get("versions", {})
    said = {"Title": recipe.get("prompt"), "Software": versions and f"bigsleep {versions.get('bigsleep')}"}
    if settings:
        model, seed = settings.get("model"), settings.get("seed")
        said["Description"] = f"{model}, seed {seed}, step {recipe.get('step')}, score {recipe.get('score')}"
    return {name: text for name, text in said.items() if text}


@contextlib.contextmanager
def opened(path: str | Path) -> Iterator[Image.Image]:
    """An image file, its pixels not yet read; whatever is wrong with it, then or in the block, in one line."""
    path = Path(path)
    try:
        if not path.is_file():
            raise BigsleepError(f"there is no file {path}", usage=True)
        with warnings.catch_warnings():
            # Pillow warns of large images and of damages it has mended; the size is looked at here.
            warnings.simplefilter("ignore")
            with Image.open(path) as image:
                if image.format == "EPS":  # a program, for which Pillow would start Ghostscript
                    raise BigsleepError(f"{path} is PostScript: save it as PNG or JPEG", usage=True)
                if not 0 < image.width * image.height <= MOST_PIXELS:
                    raise Image.DecompressionBombError
                yield image
    except Image.DecompressionBombError:
        most = MOST_PIXELS // 1_000_000
        raise BigsleepError(f"{path} has too many pixels, or none: at most {most} million", usage=True) from None
    except UnidentifiedImageError:
        raise BigsleepError(f"{path} is no image that can be read: give a PNG, JPEG or the like", usage=True) from None
    # Pillow's readers of some forty formats fail in as many ways.
    except (OSError, ValueError, SyntaxError, TypeError, KeyError, IndexError, EOFError, struct.error, zlib.error,
            ArithmeticError, AttributeError, NotImplementedError, AssertionError, MemoryError, RuntimeError) as error:  # fmt: skip
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise BigsleepError(f"{path} cannot be read as an image ({why}): it may be damaged", usage=True) from error


def insides(image: Image.Image, path: str | Path) -> tuple[dict[str, Any], bytes]:
    """The recipe and the packed state that a PNG carries, before its pixels are read; empty where it has none."""
    text, state = image.info.get(RECIPE_CHUNK), b""
    if not isinstance(text, str):
        return {}, b""
    try:
        recipe = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BigsleepError(f"the recipe in {path} is damaged ({type(error).__name__})", usage=True) from None
    if not isinstance(recipe, dict):
        raise BigsleepError(f"the recipe in {path} is damaged: it is no table", usage=True)
    states = [chunk[1] for chunk in getattr(image, "private_chunks", ()) if chunk[0] == STATE_CHUNK]
    if len(states) > 1:
        raise BigsleepError(f"{path} is damaged: it holds the states of {len(states)} dreams", usage=True)
    return recipe, state.join(states)


def plain(image: Image.Image) -> Image.Image:
    """Any image as upright 8-bit RGB: turned as its camera says, what is transparent on white."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":  # 16 bits, or numbers of any size
        import numpy as np  # a tenth of a second, which no other image need wait

        pixels = np.asarray(image, dtype=np.float32)
        most = 65535 if image.mode.startswith("I") else max(1.0, float(np.nan_to_num(pixels).max()))
        image = Image.fromarray((np.nan_to_num(pixels / most).clip(0, 1) * 255 + 0.5).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def read_recipe(path: str | Path) -> dict[str, Any] | None:
    """The recipe inside a PNG, or None where it has none. Reads no pixels, for the recipe comes before them."""
    return read_insides(path)[0] or None


def read_insides(path: str | Path) -> tuple[dict[str, Any], bytes]:
    """The recipe and the packed state inside a PNG, as :func:`insides`. Reads no pixels."""
    with opened(path) as image:
        return insides(image, path)


def slug_of(prompt: str, longest: int = 80) -> str:
    """A file name without ending for a prompt: letters and digits of any script, joined by ``_``, never empty.

    At most ``longest`` bytes of UTF-8, whole characters.
    """
    words = re.sub(r"[^\w]+", "_", unicodedata.normalize("NFC", prompt.lower())).strip("_")
    slug = words.encode("utf-8")[:longest].decode("utf-8", "ignore").rstrip("_")
    # Windows keeps these names for devices.
    if re.fullmatch(r"con|prn|aux|nul|(com|lpt)[\d¹²³]", slug):
        slug += "_"
    return slug or "dream"


class Date(datetime):
    """A time that is a day unless asked for more, as in ``{date:%y%m%d-%H%M}``."""

    def __format__(self, form: str) -> str:
        return super().__format__(form or "%Y-%m-%d")


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
        name = template.format(
            index=index, variation=variation, slug=slug_of(prompt), seed=seed, model=slug_of(model), date=Date.now()
        )
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        raise BigsleepError(
            f"--name {template!r} cannot be filled in ({error}): it may hold {{index}}, {{variation}}, {{slug}}, {{seed}}, "
            f"{{model}} and {{date}}, as in '{{index:04d}}-{{slug}}-{{seed}}'",
            usage=True,
        ) from None
    name = name.removesuffix(".png")
    unfit = not name or name.startswith(".") or re.search(r"[/\\\0-\x1f\ud800-\udfff]", name)
    if unfit or len(name.encode()) > 200:
        raise BigsleepError(
            f"--name {template!r} makes {name!r}, which is no file name: folders go with --output-dir", usage=True
        )
    return f"{name}.png"


def check_image(path: str | Path) -> None:
    """Raise :class:`BigsleepError` unless there is an image in the file ``path``; its pixels are not looked at yet."""
    with opened(path):
        pass


def check_target(path: Path) -> None:
    """Raise :class:`BigsleepError` unless a picture can be written to ``path``."""
    if path.suffix.lower() != ".png":
        raise BigsleepError(f"{path} does not end in .png: pictures are PNGs", usage=True)
    check_folder(path)


def check_folder(path: Path) -> None:
    """Raise :class:`BigsleepError` unless a file can be written to ``path``."""
    folder = path.parent
    try:
        if not folder.is_dir():
            raise BigsleepError(f"there is no folder {folder}: make it first (mkdir -p), or choose another", usage=True)
        if path.is_dir():
            raise BigsleepError(f"{path} is a folder: give a file name, or use --output-dir", usage=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        why = error.strerror
        raise BigsleepError(f"the folder {folder} cannot be written to ({why}): choose another", usage=True) from None
