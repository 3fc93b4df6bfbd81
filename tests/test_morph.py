"""From picture to picture, by the library and by the commands."""

import itertools
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bigsleep import BigsleepError, Dream, Models, Picture, Settings
from bigsleep.commands.films import windows
from bigsleep.morph import along_sphere, between, morph, paired

QUICK = {"model": "emoji", "image_size": 128, "cutouts": 4, "steps": 3, "save_every": 1, "auditions": 2, "seed": 1}
DREAM = ("--model", "emoji", "--image-size", "128", "--cutouts", "4", "--steps", "3", "--save-every", "3", "--auditions", "2", "--seed", "1", "-q")  # fmt: skip


@pytest.fixture(scope="module")
def models():
    return Models.load(Settings(model="emoji"))


@pytest.fixture(scope="module")
def pair(models):
    found = []
    for words in ("a red heart", "a house"):
        dreaming = Dream(words, models=models, **QUICK)
        for _ in dreaming:
            pass
        found.append(dreaming.picture(dreaming.best))
    return found


def difference(one, other):
    return float(np.abs(np.asarray(one, dtype=int) - np.asarray(other, dtype=int)).mean())


def test_a_morph_leads_from_one_picture_to_the_other_at_an_even_pace(models, pair):
    images = list(morph(pair, 12, models=models))
    assert len(images) == 12 and images[0].size == pair[0].image.size
    assert difference(images[0], pair[0].image) < 1.5 and difference(images[-1], pair[1].image) < 1.5
    paces = [difference(a, b) for a, b in itertools.pairwise(images)]
    assert max(paces) < 3 * np.mean(paces)


def test_a_loop_comes_back_to_where_it_began_without_showing_it_twice(models, pair):
    images = list(morph(pair, 8, loop=True, models=models))
    assert len(images) == 8 and 0 < difference(images[-1], images[0]) < difference(images[4], images[0])


def test_a_morph_begins_with_its_first_picture_whatever_its_class_temperature(models, pair):
    dreaming = Dream("a red heart", models=models, **QUICK | {"steps": 1}, max_classes=1, class_temperature=0.5)
    for _ in dreaming:
        pass
    first = dreaming.picture(dreaming.best)
    assert difference(next(iter(morph([first, pair[1]], 2, models=models))), first.image) < 1.5


def test_noise_goes_along_the_sphere_and_the_rest_straight():
    one, other = torch.eye(2, 4)[:1] * 3, torch.eye(2, 4)[1:] * 3
    assert along_sphere(one, other, 0.5).norm() == pytest.approx(3)
    assert along_sphere(one, one, 0.3).allclose(one)
    ends = {"layer0.placement": torch.tensor([0.0, 0, 0, 3.0])}, {"layer0.placement": torch.tensor([1.0, 0, 0, -3.0])}
    halfway = between(*ends, 0.5)["layer0.placement"]
    assert halfway[0] == 0.5 and abs(abs(float(halfway[3])) - np.pi) < 0.01  # the short way round


def test_layers_go_to_those_that_are_most_like_them_and_grounds_stay_behind():
    def state(*classes, ground=None):
        layers = {}
        for i, number in enumerate(classes):
            layers[f"layer{i}.logits"] = torch.eye(5)[number : number + 1]
            layers[f"layer{i}.stand"] = torch.tensor([1.0, float(i == ground)])
        return layers

    found = paired(state(0, 1, 2, ground=0), state(2, 1, 4, ground=2), torch.eye(5))
    assert [int(found[f"layer{i}.logits"].argmax()) for i in range(3)] == [4, 1, 2]


def test_pictures_that_cannot_be_morphed_are_refused(models, pair):
    foreign, bare = Picture(Image.new("RGB", (8, 8))), replace(pair[1], state=b"")
    other = replace(pair[1], recipe=pair[1].recipe | {"weights": {"generator": "0"}})
    for pictures, message in (
        ([pair[0]], "two pictures"), ([pair[0], foreign], "says nothing"), ([pair[0], bare], "no latents"),
        ([pair[0], other], "another generator"),
    ):  # fmt: skip
        with pytest.raises(BigsleepError, match=message) as caught:
            morph(pictures, 3, models=models)
        assert caught.value.usage


def test_a_dream_shows_how_it_grew(models):
    dreaming = Dream("a red heart", models=models, **QUICK)
    dreaming.trails = {}
    for _ in dreaming:
        pass
    images = list(dreaming.growth(5))
    assert len(images) == 5 and difference(images[-1], dreaming.picture(dreaming.best).image) < 1.5


def test_a_sentence_is_told_some_words_at_a_time():
    assert windows(["one", "two", "three", "four", "five", "six"], 4) == ["one two three four", "three four five six"]
    assert windows(["one"], 5) == ["one"] and windows([], 5) == []
    assert " ".join(windows([str(i) for i in range(23)], 5)).split()[-1] == "22"


def work(bigsleep):
    return bigsleep.keywords["cwd"]


@pytest.mark.slow
def test_the_commands_make_films(bigsleep):
    for words, *film in (("a red heart", "--video", "growth.gif", "--seconds", "1", "--fps", "5"), ("a house",)):
        done = bigsleep(words, *DREAM, *film)
        assert done.returncode == 0, done.stderr
    done = bigsleep("morph", "a_red_heart.png", "a_house.png", "-o", "m.webp", "--seconds", "1", "--fps", "6", "--loop")
    assert (done.stdout, done.returncode) == ("m.webp\n", 0), done.stderr
    (work(bigsleep) / "story.txt").write_text("# a story\na cat\na house\n")
    done = bigsleep("story", "story.txt", *DREAM, "-o", "s.gif", "--seconds", "1", "--fps", "4", "--progress", "json")
    told = [json.loads(line) for line in done.stderr.splitlines()]
    assert [one["prompt"] for one in told if one["event"] == "done"] == ["a cat", "a house"]
    assert told[0]["event"] == "start" and told[-1]["path"] == ""
    assert (done.stdout, done.returncode) == ("s.gif\n", 0), done.stderr
    for name, count in (("growth.gif", 5), ("m.webp", 6), ("s.gif", 4)):
        with Image.open(work(bigsleep) / name) as film:
            assert 2 <= film.n_frames <= count
    assert not list(work(bigsleep).glob(".bigsleep*"))


@pytest.mark.parametrize(
    ("args", "message"),
    [(("morph", "a.png", "b.png", "-o", "x.avi"), ".mp4"), (("morph", "a.png", "b.png", "-o", "x.gif"), "no file a.png"),
     (("morph", "a.png", "-o", "x.gif", "--seconds", "100"), "at most"), (("story", "a.txt", "-o", "x.gif"), "cannot be read"),
     (("a cat", "a dog", "--video", "x.gif"), "2 pictures"), (("a cat", "--video", "x.doc"), ".webm")],
)  # fmt: skip
def test_bad_input_gets_one_line_exit_2_and_writes_nothing(bigsleep, args, message):
    done = bigsleep(*args)
    assert done.returncode == 2 and done.stdout == "" and message in done.stderr
    assert len(done.stderr.splitlines()) == 1 and list(work(bigsleep).iterdir()) == []


@pytest.mark.slow
def test_a_long_morph_takes_no_more_memory_than_a_short_one(models, pair, tmp_path):
    pytest.importorskip("av")
    for name, picture in zip("ab", pair, strict=True):
        replace(picture, recipe=picture.recipe | {"settings": picture.recipe["settings"] | {"image_size": 128}}).save(
            tmp_path / f"{name}.png"
        )
    peaks = []
    for seconds in ("2", "20"):
        program = "import sys; from benchmarks.memory import peak_memory; from bigsleep.commands import main\n"
        program += "try:\n    main(sys.argv[1:])\nfinally:\n    print(peak_memory(), file=sys.stderr)"
        args = ["morph", "a.png", "b.png", "-o", "x.mp4", "--seconds", seconds, "-q"]
        here = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)}
        done = subprocess.run(
            [sys.executable, "-c", program, *args], cwd=tmp_path, env=here, capture_output=True, text=True
        )
        peaks.append(int(done.stderr.split()[-1]))
    assert peaks[1] < 1.05 * peaks[0]
