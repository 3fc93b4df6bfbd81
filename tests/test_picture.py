import json
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from bigsleep.errors import BigsleepError
from bigsleep.picture import Picture, check_target, read_recipe, slug_of


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
    names = [picture(c).save_new(tmp_path / "a.png").name for c in ("red", "green", "blue")]
    assert names == ["a.png", "a-2.png", "a-3.png"]
    assert Image.open(tmp_path / "a.png").getpixel((0, 0)) == (255, 0, 0)


def test_many_writers_at_once_each_get_a_name(tmp_path):
    threads = [threading.Thread(target=picture().save_new, args=(tmp_path / "a.png",)) for _ in range(20)]
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
