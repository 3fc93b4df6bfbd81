"""Frames into a film: H.264 or VP9 by PyAV, GIF and WebP by Pillow; written whole or not at all."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from PIL import Image

from bigsleep.disk import temporary_beside, writing
from bigsleep.errors import BigsleepError
from bigsleep.picture import check_folder

CODECS = {".mp4": "libx264", ".webm": "libvpx-vp9"}
QUALITY = {".mp4": {"crf": "20", "preset": "medium"}, ".webm": {"crf": "31", "b": "0", "row-mt": "1"}}
MOST_FRAMES = 500  # of a GIF or WebP, which Pillow writes once it has them all


def check_film(path: Path) -> None:
    """Raise :class:`BigsleepError` unless a film can be written to ``path``: its ending, its folder, PyAV."""
    ending = path.suffix.lower()
    if ending not in (*CODECS, ".gif", ".webp"):
        raise BigsleepError(f"{path} is no film's name: end it in .mp4, .webm, .gif or .webp", usage=True)
    if ending in CODECS:
        try:
            import av  # noqa: F401
        except ImportError:
            raise BigsleepError(
                f"{ending} films need PyAV: pip install 'bigsleep[video]', or end {path} in .gif or .webp", usage=True
            ) from None
    check_folder(path)


def frames_in(seconds: float, fps: int, path: Path) -> int:
    """How many frames a film has; a :class:`BigsleepError` for a GIF or WebP of too many."""
    count = max(2, round(seconds * fps))
    if path.suffix.lower() not in CODECS and count > MOST_FRAMES:
        raise BigsleepError(
            f"{path} would have {count} frames, and a {path.suffix} at most {MOST_FRAMES}: make it shorter, or an .mp4",
            usage=True,
        )
    return count


def write_film(frames: Iterable[Image.Image], path: Path, fps: int) -> None:
    """Write RGB ``frames``, all of one size, to the film ``path``, ``fps`` of them a second, as they come.

    What is there is replaced by the whole film, or stays where the film cannot be finished.

    Raises
    ------
    BigsleepError
        If the disk is full, or the film longer than a GIF or WebP may be.
    """
    with writing(path):
        handle, temporary = temporary_beside(path)
        os.close(handle)
        try:
            (encode if path.suffix.lower() in CODECS else animate)(frames, temporary, path.suffix.lower(), fps)
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def encode(frames: Iterable[Image.Image], path: Path, ending: str, fps: int) -> None:
    import av

    try:
        with av.open(str(path), "w", format=ending[1:]) as container:
            stream = container.add_stream(CODECS[ending], rate=fps, options=QUALITY[ending])
            stream.pix_fmt = "yuv420p"
            first = True
            for image in frames:
                if first:
                    stream.width, stream.height = image.width // 2 * 2, image.height // 2 * 2
                    first = False
                container.mux(stream.encode(av.VideoFrame.from_image(image)))
            container.mux(stream.encode(None))
    except av.FFmpegError as error:
        raise OSError(error.errno, error.strerror) from error


def animate(frames: Iterable[Image.Image], path: Path, ending: str, fps: int) -> None:
    images = list(itertools.islice(frames, MOST_FRAMES + 1))
    if len(images) > MOST_FRAMES:
        raise BigsleepError(f"a {ending} has at most {MOST_FRAMES} frames: make it shorter, or an .mp4 or .webm")
    options = {"quality": 80} if ending == ".webp" else {}
    images[0].save(
        path, ending[1:].upper(), save_all=True, append_images=images[1:], duration=1000 // fps, loop=0, **options
    )


def at_equal_change(changes: Sequence[float], count: int) -> Iterator[float]:
    """``count`` places along a path of ``changes`` one after another, the same change between any two of them.

    Places are counted in parts of the path: 1.5 is halfway through the second.

    Examples
    --------
    >>> list(at_equal_change([1.0, 3.0], 5))
    [0.0, 1.0, 1.3333333333333333, 1.6666666666666665, 2.0]
    """
    total, before, part = sum(changes), 0.0, 0
    for number in range(count):
        wanted = total * number / (count - 1) if count > 1 else 0.0
        while part < len(changes) - 1 and before + changes[part] < wanted:
            before += changes[part]
            part += 1
        share = (wanted - before) / changes[part] if changes[part] > 0 else number / max(1, count - 1)
        yield part + min(1.0, share)
