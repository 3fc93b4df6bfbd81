"""Standard streams as shells leave them: closed, full, slow, of another encoding; terminals that go away."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pexpect
import pytest
from PIL import Image

QUICK = ("--model", "emoji", "--image-size", "128", "--cutouts", "4", "--steps", "2", "--auditions", "1", "--save-every", "1")  # fmt: skip
COMMAND = shlex.join([sys.executable, "-m", "bigsleep"])


def shell(bigsleep, line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A line of shell in the command's folder, ``bigsleep`` in it being the command."""
    line = line.replace("bigsleep", COMMAND, 1)
    return subprocess.run(["bash", "-c", line], cwd=bigsleep.keywords["cwd"], capture_output=True, text=True,
                          timeout=120, env=os.environ | environment)  # fmt: skip


def picture(bigsleep, name: str = "a_cat.png") -> Path:
    """The path of a picture, which is whole."""
    path = bigsleep.keywords["cwd"] / name
    Image.open(path).load()
    return path


@pytest.mark.parametrize("streams", [">&-", "2>&-", "2>/dev/full", "<&- >&- 2>&-"])
def test_a_stream_that_is_closed_and_messages_that_nobody_reads_keep_no_picture_from_being_made(bigsleep, streams):
    done = shell(bigsleep, f"bigsleep 'a cat' {' '.join(QUICK)} {streams}")
    assert done.returncode == 0 and "Traceback" not in done.stderr
    assert done.stdout == ("" if ">&-" in streams.split() else "a_cat.png\n")
    assert os.listdir(picture(bigsleep).parent) == ["a_cat.png"]


@pytest.mark.parametrize("arguments", [f"'a cat' {' '.join(QUICK)} -q", "--help", "--version"])
def test_results_that_cannot_be_written_end_it_in_one_line_with_the_work_saved(bigsleep, arguments):
    done = shell(bigsleep, f"bigsleep {arguments} >/dev/full")
    assert done.returncode == 1 and done.stderr.startswith("bigsleep: stdout cannot be written: No space")
    assert len(done.stderr.splitlines()) == 1
    if "cat" in arguments:
        picture(bigsleep)


def test_a_list_from_a_closed_stdin_is_empty(bigsleep):
    assert shell(bigsleep, "bigsleep batch - <&-").returncode == 0


def test_a_slow_reader_gets_everything_even_from_a_pipe_that_does_not_block(bigsleep):
    read, write = os.pipe()
    os.set_blocking(write, False)
    filled = 0
    with pytest.raises(BlockingIOError):
        while True:
            filled += os.write(write, b"x" * 4096)
    command = [sys.executable, "-m", "bigsleep", "a cat", *QUICK, "-q"]
    process = subprocess.Popen(command, cwd=bigsleep.keywords["cwd"], stdout=write)
    os.close(write)
    while not (bigsleep.keywords["cwd"] / "a_cat.png").exists():
        time.sleep(0.05)
    time.sleep(0.5)
    with os.fdopen(read, "rb") as reader:
        assert reader.read()[filled:] == b"a_cat.png\n"
    assert process.wait(timeout=30) == 0


def test_a_prompt_in_utf8_is_read_where_the_locale_is_c(bigsleep):
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0"}
    done = shell(bigsleep, f"bigsleep 'маленький дом 🏠' {' '.join(QUICK)} -q --json", **plain)
    record = json.loads(done.stdout)
    assert (record["prompt"], record["path"]) == ("маленький дом 🏠", "маленький_дом.png")
    picture(bigsleep, "маленький_дом.png")
    line = f"echo 日本 | bigsleep batch - {' '.join(QUICK)} -q"
    assert shell(bigsleep, line, **plain).stdout == "日本.png\n"


def test_a_folder_whose_name_is_no_text_is_printed_as_it_is(bigsleep):
    folder = os.fsencode(bigsleep.keywords["cwd"]) + b"/\xff"
    os.mkdir(folder)
    line = f"bigsleep 'a cat' {' '.join(QUICK)} -q --output-dir $'\\xff'"
    done = subprocess.run(["bash", "-c", line.replace("bigsleep", COMMAND, 1)], cwd=bigsleep.keywords["cwd"],
                          capture_output=True, timeout=60)  # fmt: skip
    assert done.stdout == b"\xff/a_cat.png\n" and os.listdir(folder) == [b"a_cat.png"]
    path = json.loads(shell(bigsleep, f"{line} --json --overwrite").stdout)["path"]
    assert os.fsencode(path) == b"\xff/a_cat.png"


def test_when_its_terminal_goes_away_it_ends_with_its_work_saved(bigsleep):
    args = ["-m", "bigsleep", "a cat", *QUICK, "--steps", "100000"]
    child = pexpect.spawn(sys.executable, args, cwd=bigsleep.keywords["cwd"], encoding="utf-8", timeout=60)
    child.expect(r"score 0\.\d+")
    child.close(force=False)  # hangs up
    deadline = time.monotonic() + 30
    while child.isalive() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert child.exitstatus == 128 + signal.SIGHUP
    picture(bigsleep)


def test_under_nohup_it_outlives_its_terminal(bigsleep):
    command = ["nohup", sys.executable, "-m", "bigsleep", "a cat", *QUICK, "--steps", "8"]
    process = subprocess.Popen(command, cwd=bigsleep.keywords["cwd"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               text=True)  # fmt: skip
    while "score" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGHUP)
    stdout, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and stdout == "a_cat.png\n"


def test_what_an_error_quotes_can_do_nothing_to_a_terminal(bigsleep):
    (bigsleep.keywords["cwd"] / "bad.jsonl").write_text("\x1b[2J" + "x" * 100_000)
    done = bigsleep("batch", "bad.jsonl\x1b[2J")
    assert done.returncode == 2 and "\x1b" not in done.stderr and len(done.stderr) < 1100
