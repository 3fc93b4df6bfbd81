"""What can be done with pictures, as a user does it."""

import json
import random
import shlex
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bigsleep.picture import read_recipe

QUICK = ("--model", "emoji", "--image-size", "128", "--cutouts", "4", "--steps", "4", "--save-every", "2", "--auditions", "2", "--quiet")  # fmt: skip


def work(bigsleep) -> Path:
    return bigsleep.keywords["cwd"]


def made(bigsleep, *args: str) -> list[str]:
    done = bigsleep(*args)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def same(folder: Path, *names: str) -> bool:
    return len({(folder / name).read_bytes() for name in names}) == 1


def test_a_picture_says_how_it_was_made_and_its_command_makes_it_again(bigsleep):
    made(bigsleep, "a red heart|it's", *QUICK, "--seed", "7", "--avoid", "blue", "-o", "a.png")
    text = bigsleep("info", "a.png").stdout
    for part in (
        "a red heart|it's",
        "blue",
        "seed     7",
        "step",
        "score",
        "latents of 2 layers",  # two phrases, a layer each
        "bigsleep redo a.png",
    ):
        assert part in text
    told = json.loads(bigsleep("info", "--json", "a.png").stdout)
    assert told["path"] == "a.png" and told["settings"]["seed"] == 7
    words = shlex.split(told["command"])
    assert words[0] == "bigsleep"
    made(bigsleep, *words[1:], "-o", "b.png")
    first, second = (Image.open(work(bigsleep) / name) for name in ("a.png", "b.png"))
    assert first.tobytes() == second.tobytes()


def test_pictures_are_made_again_to_the_byte(bigsleep):
    (work(bigsleep) / "list.txt").write_text("a cat\na tree\n")
    single = made(bigsleep, "a red heart", *QUICK, "--best-of", "2", "--seed", "1")
    listed = made(bigsleep, "batch", "list.txt", *QUICK, "--parallel", "2", "--output-dir", "out")
    again = made(bigsleep, "redo", *single, *listed, "--quiet", "--output-dir", ".")
    for before, after in zip([*single, *listed], again, strict=True):
        assert same(work(bigsleep), before, after), before


@pytest.mark.slow
def test_options_go_before_a_pictures_own(bigsleep):
    made(bigsleep, "a red heart", *QUICK, "--seed", "1", "-o", "a.png")
    record = json.loads(made(bigsleep, "redo", "a.png", "--seed", "2", "--steps", "3", "--json", "--quiet")[0])
    assert record["seed"] == 2
    assert read_recipe(work(bigsleep) / record["path"])["settings"]["steps"] == 3
    timed = made(bigsleep, "redo", "a.png", "--time", "1s", "--quiet")
    assert read_recipe(work(bigsleep) / timed[0])["settings"]["steps"] is None


@pytest.mark.slow
def test_seeds_are_looked_at_and_the_pleasing_ones_go_on_towards_other_words(bigsleep):
    seeds = made(bigsleep, "a heart", *QUICK, "--variations", "3", "--seed", "1")
    assert made(bigsleep, "sheet", *seeds, "-o", "sheet.png") == ["sheet.png"]
    assert Image.open(work(bigsleep) / "sheet.png").size == (2 * 264 + 8, 2 * 294 + 8)
    done = subprocess.run(
        f"printf '%s\\0' {seeds[0]} {seeds[2]} | xargs -0 {sys.executable} -m bigsleep continue -q -0 --prompt 'a blue heart'",
        shell=True, cwd=work(bigsleep), capture_output=True, text=True,
    )  # fmt: skip
    names = done.stdout.rstrip("\0").split("\0")
    assert names == ["a_blue_heart.png", "a_blue_heart-2.png"], done.stderr
    assert read_recipe(work(bigsleep) / names[0])["settings"]["start"] == seeds[0]


def test_what_a_picture_begins_with_is_shown_by_no_steps(bigsleep):
    full = ("--image-size", "512")
    made(bigsleep, "a red heart", *QUICK, *full, "-o", "a.png")
    made(bigsleep, "a dog", *QUICK, *full, "--steps", "0", "--start", "a.png", "-o", "b.png")
    before, after = (np.asarray(Image.open(work(bigsleep) / name), dtype=int) for name in ("a.png", "b.png"))
    assert np.abs(before - after).max() <= 2


def test_a_bare_picture_tells_nothing_and_that_is_said(bigsleep):
    made(bigsleep, "a red heart", *QUICK, "--no-recipe", "-o", "a.png")
    assert read_recipe(work(bigsleep) / "a.png") is None
    for command in ("info", "redo", "continue"):
        done = bigsleep(command, "a.png")
        assert done.returncode == 2 and done.stdout == "" and "--start a.png" in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_one_picture_that_says_nothing_does_not_hide_the_others(bigsleep):
    made(bigsleep, "a red heart", *QUICK, "-o", "a.png")
    Image.new("RGB", (8, 8)).save(work(bigsleep) / "plain.png")
    done = bigsleep("info", "--json", "plain.png", "a.png")
    assert done.returncode == 2 and json.loads(done.stdout)["path"] == "a.png"


@pytest.mark.parametrize(
    ("args", "message"),
    [(("redo",), "PICTURE"), (("redo", "missing.png"), "missing.png"), (("redo", "words.png"), "no image"),
     (("continue", "missing.png"), "missing.png"), (("sheet", "words.png", "-o", "s.png"), "no image"),
     (("sheet", "missing.png", "-o", "s.gif"), ".png"), (("a cat", "--start", "missing.png"), "missing.png"),
     (("a cat", "--image-prompt", "words.png", "--model", "emoji"), "no image")],
)  # fmt: skip
def test_bad_input_gets_one_line_exit_2_and_writes_nothing(bigsleep, args, message):
    (work(bigsleep) / "words.png").write_text("no picture")
    done = bigsleep(*args)
    assert done.returncode == 2 and done.stdout == "" and message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert [path.name for path in work(bigsleep).iterdir()] == ["words.png"]


def test_a_picture_of_a_model_that_is_not_here_is_refused(bigsleep):
    made(bigsleep, "a red heart", *QUICK, "-o", "a.png")
    for model in ("biggan-deep-128", "/nowhere/model"):
        done = bigsleep("redo", "a.png", "--model", model)
        assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and model in done.stderr


def test_info_does_not_wait_for_torch():
    program = "import sys, bigsleep.commands, bigsleep.recipe, bigsleep.state; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def killed(bigsleep, moment: float) -> bool:
    """A dream that is killed a ``moment`` after its first snapshot; whether it left a picture unfinished."""
    command = [sys.executable, "-m", "bigsleep", *DREAM, "-o", "part.png", "--overwrite"]
    process = subprocess.Popen(command, cwd=work(bigsleep), stderr=subprocess.DEVNULL)
    while not (work(bigsleep) / "part.png").exists() and process.poll() is None:
        time.sleep(0.01)
    time.sleep(moment)
    process.kill()
    process.wait()
    return "going" in (read_recipe(work(bigsleep) / "part.png") or {})


DREAM = ("a red heart", "--model", "emoji", "--image-size", "128", "--cutouts", "4", "--steps", "40", "--save-every", "2", "--auditions", "2",
         "--seed", "3", "--threads", "1")  # fmt: skip


@pytest.mark.slow
def test_killed_at_a_random_step_it_goes_on_to_the_bytes_of_the_whole_dream(bigsleep):
    made(bigsleep, *DREAM, "-o", "whole.png", "--quiet")
    chance, tries = random.Random(1), 0
    for _ in range(5):
        while not killed(bigsleep, chance.uniform(0, 1.5)):
            tries += 1
            assert tries < 20, "this machine dreams too fast to be interrupted"
            (work(bigsleep) / "part.png").unlink()
        made(bigsleep, "continue", "part.png", "-o", "end.png", "--overwrite", "--quiet")
        assert same(work(bigsleep), "whole.png", "end.png")
        (work(bigsleep) / "part.png").unlink()


@pytest.mark.slow
def test_pictures_that_somebody_tampered_with_get_a_clean_error_or_a_right_answer():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.mutations", "--count", "200"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1])["wrong"] == 0
