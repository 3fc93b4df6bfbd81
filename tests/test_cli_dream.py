"""The command as a user runs it: in a process, a pipe, a terminal, and interrupted."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pexpect
import pytest
from PIL import Image

from bigsleep.picture import read_recipe
from tests.conftest import offline

QUICK = ("--model", "emoji", "--image-size", "128", "--cutouts", "4", "--steps", "3", "--save-every", "1", "--auditions", "2", "--seed", "1")  # fmt: skip


def work(bigsleep) -> Path:
    return bigsleep.keywords["cwd"]


def test_stdout_is_the_path_of_the_picture_and_nothing_else(bigsleep):
    done = bigsleep("a beautiful house", *QUICK)
    assert done.returncode == 0 and done.stdout == "a_beautiful_house.png\n"
    image = Image.open(work(bigsleep) / "a_beautiful_house.png")
    image.load()
    assert image.size == (128, 128)
    assert [path.name for path in work(bigsleep).iterdir()] == ["a_beautiful_house.png"]
    # Not a terminal: a line per snapshot, the seed reported.
    assert len(re.findall(r"^step \d/3 score", done.stderr, re.MULTILINE)) == 3 and "seed 1" in done.stderr


def test_without_a_network_auto_says_so_in_one_line_and_dreams_with_the_built_in_pair(bigsleep):
    began = time.monotonic()
    done = bigsleep("a house", "--steps", "1")
    assert done.returncode == 0 and time.monotonic() - began < 60
    with Image.open(work(bigsleep) / "a_house.png") as image:
        assert image.size == (512, 512), "unless asked otherwise"
    notes = [line for line in done.stderr.splitlines() if "built-in" in line]
    assert len(notes) == 1 and "network" in notes[0]


def test_an_explicit_model_never_falls_back(bigsleep):
    done = bigsleep("a house", "--model", "biggan-deep-128")
    assert done.returncode == 1 and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1 and "--model emoji" in done.stderr
    assert list(work(bigsleep).iterdir()) == []


def test_several_prompts_give_a_picture_each_in_order(bigsleep):
    done = bigsleep("a cat", "a dog", "a cat", *QUICK, "--quiet", "--output-dir", ".")
    assert done.stdout.splitlines() == ["a_cat.png", "a_dog.png", "a_cat-2.png"] and done.stderr == ""


def test_the_explicit_form_takes_a_prompt_that_is_a_commands_name(bigsleep):
    assert bigsleep("dream", "dream", *QUICK).stdout == "dream.png\n"


def test_a_file_of_the_same_name_is_kept_unless_overwritten_and_the_same_seed_gives_the_same_bytes(bigsleep):
    target = work(bigsleep) / "x.png"
    target.write_bytes(b"precious")
    assert bigsleep("a cat", *QUICK, "-o", "x.png").stdout == "x-2.png\n"
    assert target.read_bytes() == b"precious"
    assert bigsleep("a cat", *QUICK, "-o", "x.png", "--overwrite").stdout == "x.png\n"
    assert read_recipe(target)["prompt"] == "a cat"
    assert target.read_bytes() == (work(bigsleep) / "x-2.png").read_bytes()


def test_options_may_come_before_the_prompt_and_progress_pictures_are_kept_when_asked(bigsleep):
    assert bigsleep(*QUICK, "--save-progress", "a cat").stdout == "a_cat.png\n"
    names = sorted(path.name for path in work(bigsleep).iterdir())
    assert names == ["a_cat.0001.png", "a_cat.0002.png", "a_cat.0003.png", "a_cat.png"]


def test_the_picture_kept_is_the_best_of_the_snapshots_and_knows_its_phrases_and_what_to_avoid(bigsleep):
    done = bigsleep("a cat:2|a hat", *QUICK, "--steps", "6", "--avoid", "dog")
    recipe = read_recipe(work(bigsleep) / done.stdout.strip())
    scores = [float(score) for score in re.findall(r"score (-?[\d.]+)", done.stderr)]
    assert len(scores) == 6 and recipe["score"] == pytest.approx(max(scores), abs=1e-3)
    assert recipe["prompt"] == "a cat:2|a hat" and recipe["settings"]["avoid"] == ["dog"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("",), "empty"), (("a house", "--steps", "-1"), "--steps"), (("a house", "--steps", "x"), "--steps"),
        (("a house", "--time", "soon"), "1h30m"), (("a house", "--stepz", "3"), "--stepz"),
        (("a house", "--model", "biggun"), "emoji"), (("a house", "--output-dir", "missing"), "missing"),
        (("a house", "--output-dir", "/proc"), "/proc"), (("a house", "-o", "a.gif"), ".png"),
        (("a house", "--device", "cuda:7", "--model", "emoji"), "cuda"), (("house " * 90,), "tokens"),
        (("a", "b", "-o", "x.png"), "--output-dir"), (("a house", "--image-size", "300"), "128, 256, 512"),
        (("a house", "good", "|"), "empty phrase"), (("a \udcff house",), "UTF-8"),
        (("a house", "--name", "{x}"), "{slug}"), ((), "say what to dream of"),
    ],
)  # fmt: skip
def test_bad_input_gets_one_line_exit_2_and_writes_nothing(bigsleep, args, message):
    done = bigsleep(*args)
    assert done.returncode == 2 and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1 and message in done.stderr
    assert list(work(bigsleep).iterdir()) == []


def test_debug_shows_the_traceback(bigsleep):
    assert "Traceback" in bigsleep("", "--debug").stderr


def test_help_and_version_answer_at_once(bigsleep):
    bigsleep("--version")  # compiled files and disk caches are not what is timed
    for flag, expected in (("--help", "--cutouts"), ("--version", "bigsleep 0.")):
        before = os.times()
        done = bigsleep(flag)
        after = os.times()
        assert done.returncode == 0 and expected in done.stdout
        # Its own work, not what else the machine does meanwhile.
        used = after.children_user + after.children_system - before.children_user - before.children_system
        assert used < 0.4


def test_help_does_not_import_torch():
    program = "import sys, bigsleep.commands; sys.exit({'torch', 'requests', 'jinja2', 'starlette'} & {*sys.modules} != set())"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def started(bigsleep, *args: str) -> subprocess.Popen:
    """A long dream in a process, its first snapshot written."""
    command = [sys.executable, "-m", "bigsleep", "a cat", "--model", "emoji", "--steps", "100000", "--auditions", "2",
               "--save-every", "2", *args]  # fmt: skip
    process = subprocess.Popen(command, cwd=work(bigsleep), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while "score" not in process.stderr.readline():
        assert process.poll() is None
    return process


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_interrupted_it_writes_the_best_so_far_and_says_where(bigsleep, number, code):
    process = started(bigsleep)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == code and stdout == "a_cat.png\n" and "Traceback" not in stderr
    Image.open(work(bigsleep) / "a_cat.png").load()


def test_auditions_are_counted_on_a_terminal_and_ctrl_c_goes_on_with_the_best_of_those_heard(bigsleep):
    many = ("--layers", "1", "--init", "random", "--auditions", "5000", "--output-dir", str(work(bigsleep)))
    args = ["-m", "bigsleep", "a cat", *QUICK, *many]
    child = pexpect.spawn(sys.executable, args, dimensions=(24, 120), encoding="utf-8", timeout=60)
    child.expect(r"audition \d+/5000 \[\d\d:\d\d<\?, +[\d.]+ auditions/s\]")
    child.sendintr()
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 130 and str(work(bigsleep) / "a_cat.png") in child.before
    assert 0 < read_recipe(work(bigsleep) / "a_cat.png")["heard"] < 5000


def test_killed_at_any_moment_it_leaves_whole_pictures(bigsleep):
    process = started(bigsleep, "--save-every", "1")
    for _ in range(200):
        Image.open(work(bigsleep) / "a_cat.png").load()  # a reader never sees half a PNG
    process.kill()
    process.communicate()
    Image.open(work(bigsleep) / "a_cat.png").load()


def test_interrupted_while_loading_it_leaves_quietly(bigsleep):
    command = [sys.executable, "-m", "bigsleep", "a cat", "--model", "emoji"]
    process = subprocess.Popen(command, cwd=work(bigsleep), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 130 and stdout == "" and "Traceback" not in stderr


def test_when_the_reader_of_the_pipe_is_gone_it_ends_quietly_with_its_work_saved(bigsleep):
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "bigsleep", "a cat", *QUICK, "--quiet"]
    done = subprocess.run(command, cwd=work(bigsleep), stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert done.stderr == "" and (work(bigsleep) / "a_cat.png").exists()


def test_on_a_terminal_there_is_a_bar_with_step_score_rate_and_time_left(bigsleep):
    args = ["-m", "bigsleep", "a cat", *QUICK, "--steps", "8", "--output-dir", str(work(bigsleep))]
    child = pexpect.spawn(sys.executable, args, dimensions=(24, 120), encoding="utf-8", timeout=60)
    child.expect(r"\d+%\|.*step \d+/8 score 0\.\d+ \[\d\d:\d\d<\d\d:\d\d, +[\d.]+ steps/s\]")
    child.expect(pexpect.EOF)
    assert str(work(bigsleep) / "a_cat.png") in child.before


def test_quiet_on_a_terminal_shows_only_the_path(bigsleep):
    args = ["-m", "bigsleep", "a cat", *QUICK, "-q", "--output-dir", str(work(bigsleep))]
    child = pexpect.spawn(sys.executable, args, encoding="utf-8", timeout=60)
    child.expect(pexpect.EOF)
    assert child.before.strip() == str(work(bigsleep) / "a_cat.png")


@pytest.mark.slow
def test_a_red_heart_is_mostly_red_in_the_middle_and_takes_less_than_a_minute(bigsleep):
    began = time.monotonic()
    done = bigsleep("a red heart", "--model", "emoji", "--seed", "1")
    assert time.monotonic() - began < 60
    image = Image.open(work(bigsleep) / done.stdout.strip()).convert("RGB").crop((156, 156, 356, 356))
    pixels = list(image.get_flattened_data() if hasattr(image, "get_flattened_data") else image.getdata())
    red = sum(r > 150 and g < 110 and b < 130 for r, g, b in pixels)
    assert red > 0.7 * len(pixels)


def test_the_environment_of_these_tests_has_no_network(tmp_path):
    """Guards the tests above: without it, `auto` might fetch a gigabyte."""
    assert all("127.0.0.1:9" in value for name, value in offline(tmp_path).items() if name.lower().endswith("s_proxy"))
