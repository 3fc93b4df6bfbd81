"""Pictures in the terminal: each kind of terminal by a pty, and none where there is no terminal."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pexpect
import pytest

from bigsleep.terminal import Show

pytest.importorskip("chafa", reason="Chafa is not installed")
QUICK = ("a cat", "--model", "emoji", "--image-size", "128", "--cutouts", "2", "--steps", "2", "--save-every", "1", "--auditions", "1", "--layers", "1")  # fmt: skip
SHOW = """
import io; from PIL import Image; from bigsleep.preview import Preview
preview = Preview()
for colour in ("red", "blue"):
    file = io.BytesIO(); Image.new("RGB", (64, 64), colour).save(file, "PNG"); preview.show(file.getvalue())
"""
KITTY, ITERM, SIXEL, HALF = "\x1b_Ga=T", "\x1b]1337;File=", "\x1bP0", "\x1b[38;"


def shown(args: list[str], size: tuple[int, int] = (40, 90), **environment: str) -> str:
    """What a terminal of ``size`` rows and columns is sent by a Python that is run in it."""
    kept = {name: value for name, value in os.environ.items() if name not in ("COLORTERM", "NO_COLOR", "TERM_PROGRAM")}
    child = pexpect.spawn(
        sys.executable,
        args,
        dimensions=size,
        encoding="utf-8",
        timeout=60,
        env={**kept, "TERM": "xterm", **environment},
    )
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0, child.before
    return child.before


@pytest.mark.parametrize(
    ("environment", "way"),
    [
        ({"TERM": "xterm-kitty"}, KITTY), ({"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}, ITERM),
        ({"TERM": "foot"}, SIXEL), ({"TERM": "xterm-256color"}, HALF), ({"TERM": "linux"}, "\x1b[91m"),
    ],
)  # fmt: skip
def test_each_terminal_is_shown_pictures_in_its_own_way_the_second_in_the_place_of_the_first(environment, way):
    told = shown(["-c", SHOW], **environment)
    assert [one for one in (KITTY, ITERM, SIXEL, HALF, "\x1b[91m") if one in told] == [way]
    # Two times 20 rows are made and gone up; once it goes up to the first picture.
    assert told.count("\x1b[20A") == 3 and told.count("\x1b7") == told.count("\x1b8") == 2


def test_without_colours_there_are_none():
    told = shown(["-c", SHOW], TERM="xterm-kitty", NO_COLOR="1")
    assert "\x1b[20A" in told and not re.search(r"\x1b\[[\d;]*m", told.replace("\x1b[0m", "")) and KITTY not in told


@pytest.mark.parametrize(("size", "rows"), [((40, 21), 10), ((12, 90), 8)])
def test_a_small_terminal_has_a_small_picture(size, rows):
    assert f"\x1b[{rows}A" in shown(["-c", SHOW], size)


@pytest.mark.parametrize(("size", "terminal"), [((40, 90), "dumb"), ((6, 90), "xterm"), ((40, 8), "xterm")])
def test_a_dumb_or_a_tiny_terminal_has_none(size, terminal):
    assert shown(["-c", SHOW], size, TERM=terminal) == ""


def test_a_dream_shows_its_snapshots_above_the_bar_and_its_path_below(bigsleep):
    told = shown(["-m", "bigsleep", *QUICK, "--preview", "--output-dir", str(bigsleep.keywords["cwd"])])
    assert told.count("\x1b7") >= 2 and "step 2/2" in told and "a_cat.png" in told[told.rindex("\x1b8") :]


def test_where_stderr_is_no_terminal_or_nothing_is_to_be_said_nothing_is_shown(capsys, monkeypatch):
    assert Show(quiet=False, total=1, preview=True).preview is None
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert Show(quiet=True, total=1, preview=True).preview is None
    assert Show(quiet=False, total=1, preview=True).preview is not None


def test_without_chafa_it_says_what_to_install():
    program = "import sys; sys.modules['chafa'] = None; from bigsleep.preview import Preview\ntry: Preview()\n"
    program += "except Exception as error: print(error)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "pip install 'bigsleep[preview]'" in done.stdout
