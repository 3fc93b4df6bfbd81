import json
import os
import subprocess
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from bigsleep.errors import BigsleepError
from bigsleep.picture import Picture, check_target, name_of, read_recipe, save_new, slug_of, sweep, write_beside


def picture(colour="red", **recipe):
    return Picture(Image.new("RGB", (32, 32), colour), {"prompt": "a house", **recipe})


def test_the_recipe_inside_a_picture_comes_back(tmp_path):
    recipe = {"prompt": "日本 “house”\n", "settings": {"seed": 2**60, "avoid": ["x"]}, "score": 0.25}
    Picture(Image.new("RGB", (8, 8)), recipe).save(tmp_path / "a.png")
    assert read_recipe(tmp_path / "a.png") == recipe


def test_a_picture_without_a_recipe_has_none(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "plain.png")
    assert read_recipe(tmp_path / "plain.png") is None


def test_new_pictures_never_replace_old_ones(tmp_path):
    names = [save_new(picture(c).png(), tmp_path / "a.png").name for c in ("red", "green", "blue")]
    assert names == ["a.png", "a-2.png", "a-3.png"]
    assert Image.open(tmp_path / "a.png").getpixel((0, 0)) == (255, 0, 0)


def test_many_writers_at_once_each_get_a_name(tmp_path):
    threads = [threading.Thread(target=save_new, args=(picture().png(), tmp_path / "a.png")) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["a.png", *(f"a-{i}.png" for i in range(2, 21))])


def test_saving_over_a_picture_leaves_one_whole_file(tmp_path):
    picture("red").save(tmp_path / "a.png")
    picture("blue").save(tmp_path / "a.png")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    assert Image.open(tmp_path / "a.png").getpixel((0, 0)) == (0, 0, 255)


def test_a_failed_write_leaves_nothing(tmp_path):
    unwritable = Picture(Image.new("RGB", (8, 8)), {"prompt": {1, 2}})
    with pytest.raises(TypeError):
        unwritable.save(tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []


@given(st.text())
def test_every_prompt_has_a_safe_short_name(prompt):
    slug = slug_of(prompt)
    assert slug and len(slug.encode()) <= 81 and not set(slug) & set('/\\:*?"<>|\0\n. ')
    assert slug_of(prompt) == slug


@pytest.mark.parametrize(
    ("prompt", "slug"),
    [("a beautiful house", "a_beautiful_house"), ("../../etc/passwd", "etc_passwd"), ("…", "dream"), ("CON", "con_"),
     ("a house:2|fog", "a_house_2_fog"), ("маленький дом", "маленький_дом")],
)  # fmt: skip
def test_names_read_like_their_prompts(prompt, slug):
    assert slug_of(prompt) == slug


def test_where_no_picture_can_be_written_is_known_beforehand(tmp_path):
    (tmp_path / "folder.png").mkdir()
    for target in ("missing/a.png", "folder.png", "a.jpg"):
        with pytest.raises(BigsleepError) as caught:
            check_target(tmp_path / target)
        assert caught.value.usage
    check_target(tmp_path / "a.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.png"]


def test_a_recipe_is_json_that_other_tools_can_read(tmp_path):
    picture(score=0.5).save(tmp_path / "a.png")
    text = Image.open(tmp_path / "a.png").text["bigsleep"]
    assert json.loads(text)["score"] == 0.5


def test_names_come_from_a_template():
    assert name_of("{index:04d}-{slug}-{seed}", 7, 1, "A house!", 3, "emoji") == "0007-a_house-3.png"
    assert name_of("{slug}.png", 7, 1, "A house!", 3, "emoji") == "a_house.png"
    assert name_of("{model}_v{variation}", 7, 2, "x", 3, "/models/big gan") == "models_big_gan_v2.png"


@pytest.mark.parametrize(
    "template", ["{prompt}", "{}", "{slug", "{slug:04d}", "{seed.x.y}", "a/{slug}", "", ".{slug}", "x" * 300]
)
def test_a_template_that_makes_no_file_name_is_refused(template):
    with pytest.raises(BigsleepError, match="--name") as caught:
        name_of(template, 1, 1, "a house", 1, "emoji")
    assert caught.value.usage and len(str(caught.value).splitlines()) == 1


def test_sweeping_removes_what_killed_processes_left_and_nothing_else(tmp_path):
    program = "import os, sys; from pathlib import Path; from bigsleep.picture import write_beside\n"
    program += "write_beside(b'x', Path(sys.argv[1]) / 'a.png'); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", program, str(tmp_path)])
    assert len(list(tmp_path.iterdir())) == 1
    ours = write_beside(b"x", tmp_path / "b.png")
    theirs = tmp_path / ".bigsleep-another-machine-1-abc.tmp"
    theirs.touch()
    # The number of a process that has gone may be another's by now: here, ours.
    reborn = write_beside(b"x", tmp_path / "c.png")
    os.utime(reborn, (0, 0))
    sweep(tmp_path)
    assert set(tmp_path.iterdir()) == {ours, theirs}
