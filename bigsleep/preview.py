"""Pictures in a terminal, by Chafa: as kitty, iTerm2 or Sixel show them, else as half blocks in its colours."""

from __future__ import annotations

import io
import os
import sys

from PIL import Image

from bigsleep.errors import BigsleepError

ROWS = 20  # of text, at most, that a picture takes; about twice as many columns
LEFT = 4  # rows left for the bar and what is said
CELL = (8, 16)  # pixels of a character, where the terminal does not say


class Preview:
    """Shows pictures on stderr, a terminal, each in the place of the one before.

    What a terminal can is read off the environment, as Chafa knows it: nothing is asked of it, since the answer would come
    on stdin. With ``NO_COLOR`` pictures are blocks without colours; a dumb terminal or a tiny one shows none.

    Raises
    ------
    BigsleepError
        From the constructor, if Chafa is not installed.
    """

    def __init__(self) -> None:
        try:
            import chafa
            from chafa.term_db import TermDb
        except ImportError as error:
            raise BigsleepError(
                "--preview needs Chafa, which Python 3.13 and older have: pip install 'bigsleep[preview]'", usage=True
            ) from error
        self.chafa, self.terminal = chafa, TermDb().detect()
        self.drawn = 0  # rows of the picture that the next one takes the place of

    def show(self, png: bytes) -> None:
        """Show a picture; the cursor is at the beginning of a line, and then of the one below it."""
        columns, rows = size()
        if rows < 4 or columns < 8 or os.environ.get("TERM") == "dumb":
            return
        if rows != self.drawn:
            self.drawn = 0
        sequence = self.sequence(png, columns, rows)
        kitty = sequence.startswith("\x1b_G")
        before = up(self.drawn) + ("\x1b_Ga=d,d=C\x1b\\" if kitty and self.drawn else "")
        # The rows are made first: the terminal may scroll, and leaves the cursor wherever it likes.
        sys.stderr.write(f"\r{before}" + "\n" * rows + f"{up(rows)}\x1b7{sequence}\x1b8\x1b[{rows}B")
        sys.stderr.flush()
        self.drawn = rows

    def sequence(self, png: bytes, columns: int, rows: int) -> str:
        """What shows a picture in a terminal at the cursor, in ``columns`` by ``rows`` characters."""
        chafa, config = self.chafa, self.chafa.CanvasConfig()
        config.width, config.height = columns, rows
        config.cell_width, config.cell_height = cell()
        config.pixel_mode, config.canvas_mode = self.modes()
        halves = chafa.SymbolMap()
        tags = chafa.SymbolTags
        halves.add_by_tags(tags.CHAFA_SYMBOL_TAG_SPACE | tags.CHAFA_SYMBOL_TAG_SOLID | tags.CHAFA_SYMBOL_TAG_VHALF)
        config.set_symbol_map(halves)
        with Image.open(io.BytesIO(png)) as opened:
            image = opened.convert("RGB").resize((config.cell_width * columns, config.cell_height * rows))
        canvas = chafa.Canvas(config)
        width, height = image.size
        canvas.draw_all_pixels(chafa.PixelType.CHAFA_PIXEL_RGB8, bytearray(image.tobytes()), width, height, 3 * width)
        return str(canvas.print(self.terminal).decode())

    def modes(self) -> tuple[int, int]:
        """How pixels are sent, and in which colours."""
        pixels, colours = self.chafa.PixelMode, self.chafa.CanvasMode
        if os.environ.get("NO_COLOR"):
            return pixels.CHAFA_PIXEL_MODE_SYMBOLS, colours.CHAFA_CANVAS_MODE_FGBG
        ways = {
            "BEGIN_KITTY_IMMEDIATE_IMAGE_V1": "KITTY", "BEGIN_ITERM2_IMAGE": "ITERM2", "BEGIN_SIXELS": "SIXELS",
        }  # fmt: skip
        shades = {"DIRECT": "TRUECOLOR", "256": "INDEXED_240", "16": "INDEXED_16"}
        way = next((way for name, way in ways.items() if self.can(name)), "SYMBOLS")
        shade = next((shade for name, shade in shades.items() if self.can(f"SET_COLOR_FGBG_{name}")), "FGBG")
        return getattr(pixels, f"CHAFA_PIXEL_MODE_{way}"), getattr(colours, f"CHAFA_CANVAS_MODE_{shade}")

    def can(self, name: str) -> bool:
        """Whether the terminal has a sequence, by its name in Chafa."""
        return bool(self.terminal.have_seq(getattr(self.chafa.TermSeq, f"CHAFA_TERM_SEQ_{name}")))


def size() -> tuple[int, int]:
    """Columns and rows of a square picture in the terminal."""
    try:
        columns, rows = os.get_terminal_size(sys.stderr.fileno())
    except OSError:
        return 0, 0
    rows = min(ROWS, rows - LEFT, (columns - 1) // 2)
    return 2 * rows, rows


def cell() -> tuple[int, int]:
    """Pixels of a character: what the terminal says, where it does."""
    try:
        import fcntl
        import struct
        import termios

        told = fcntl.ioctl(sys.stderr.fileno(), termios.TIOCGWINSZ, b"\0" * 8)
        rows, columns, width, height = struct.unpack("4H", told)
        return (width // columns, height // rows) if width and height else CELL
    except (ImportError, OSError, ZeroDivisionError):  # Windows, and terminals that say nothing
        return CELL


def up(rows: int) -> str:
    return f"\x1b[{rows}A" if rows else ""
