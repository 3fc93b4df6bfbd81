"""Dreams in layers, as a user asks for them."""

import json

import pytest
from PIL import Image


def test_a_scene_is_told_of_in_its_recipe(bigsleep):
    done = bigsleep(
        "a fish@left | a guitar@right", "--model", "emoji", "--steps", "2", "--auditions", "1", "--seed", "1"
    )
    assert done.returncode == 0, done.stderr
    told = bigsleep("info", "--json", done.stdout.strip())
    assert told.returncode == 0, told.stderr
    layers = json.loads(told.stdout)["layers"]
    assert [layer["phrase"] for layer in layers] == ["a fish", "a guitar"]
    assert layers[0]["class"].startswith("fish ") and layers[0]["x"] < 0.4 and layers[1]["x"] > 0.6


def test_the_plan_is_printed_and_nothing_is_dreamt(bigsleep, tmp_path):
    done = bigsleep("--plan", "an owl wearing a red hat at night", "--model", "emoji")
    assert done.returncode == 0, done.stderr
    assert done.stdout == (
        "an owl wearing a red hat at night\n  ground: night\n  thing: owl\n  thing: hat (red)\n"
        "  layout: (owl wearing-head hat)\n"
    )
    assert not list((tmp_path / "work").iterdir())


@pytest.mark.parametrize(
    "words, complaint",
    [
        (["a cat", "--layers", "12"], "layers"),
        (["a cat@(3,3)"], "the place in"),
        (["a cat | a dog | a fish", "--layers", "2"], "asks for 3 layers"),
        (["a cat@left | a dog@right", "--layers", "1"], "give --layers 2"),
        (["a wall@ground | a sky@ground | a cat"], "two grounds"),
    ],
)
def test_what_layers_cannot_do_is_refused_in_one_line(bigsleep, tmp_path, words, complaint):
    done = bigsleep(*words, "--model", "emoji", "--steps", "1")
    assert done.returncode == 2 and complaint in done.stderr and "Traceback" not in done.stderr
    assert not list((tmp_path / "work").iterdir())


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes_crisp_or_smooth(bigsleep, tmp_path):
    asked = ["a cat wearing a crown at night", "--model", "emoji", "--steps", "3", "--seed", "5", "--threads", "1"]
    made = []
    for extra in ([], [], ["--finish", "smooth"]):
        done = bigsleep(*asked, *extra)
        assert done.returncode == 0, done.stderr
        made.append(Image.open(tmp_path / "work" / done.stdout.strip()).tobytes())
    assert made[0] == made[1] != made[2]
