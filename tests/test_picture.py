import io
import json
import os
import re
import struct
import threading
import unicodedata
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from bigsleep.disk import save_new
from bigsleep.errors import BigsleepError
from bigsleep.picture import (
    MOST_PIXELS,
    STATE_CHUNK,
    Picture,
    check_target,
    name_of,
    read_recipe,
    slug_of,
)


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


ANY_TEXT = st.text(st.characters(exclude_categories=[]), max_size=300) | st.sampled_from(
    ["../../x", "-rf", "/etc/passwd", "CON", "nul.txt", "com¹", "a" * 10_000, "é" * 300, "e\u0301" * 300, "\u202ecod.exe",
     "İ" * 200, "a\nb\tc\0d\x1b[2J", "👩‍👩‍👧" * 100, "عربي", ".hidden", "a.", "a ", "~", "$HOME", "%PATH%", "\ud800"]
)  # fmt: skip
DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{digit}" for port in ("com", "lpt") for digit in "0123456789¹²³")}


@given(ANY_TEXT)
def test_every_prompt_has_a_short_name_that_is_safe_on_linux_macos_and_windows(prompt):
    slug = slug_of(prompt)
    assert 1 <= len(slug.encode()) <= 81 and not set(slug) & set('/\\:*?"<>|. -~$%') and slug.isprintable()
    assert slug not in DEVICES and slug_of(prompt) == slug
    name = name_of("{slug}", 1, 1, prompt, 1, "emoji")
    assert Path(name).name == name and len(os.fsencode(name)) <= 204


@given(ANY_TEXT)
def test_spellings_that_a_disk_may_not_tell_apart_have_the_same_name(prompt):
    for form in ("NFC", "NFD"):
        name = unicodedata.normalize(form, slug_of(prompt))
        # As macOS and Windows compare names: were there two, one picture would be lost among them.
        assert unicodedata.normalize("NFC", slug_of(unicodedata.normalize(form, prompt))) == slug_of(prompt)
        assert unicodedata.normalize("NFC", name) == slug_of(prompt)


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
    for target in ("x" * 300 + ".png", "x" * 300 + "/a.png"):
        with pytest.raises(BigsleepError, match="too long"):
            check_target(tmp_path / target)
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
    assert re.fullmatch(r"\d{4}-\d\d-\d\d-a_cat\.png", name_of("{date}-{slug}", 1, 1, "a cat", 1, "emoji"))
    assert re.fullmatch(r"\d{6}-\d{6}\.png", name_of("{date:%y%m%d-%H%M%S}", 1, 1, "a cat", 1, "emoji"))


@pytest.mark.parametrize(
    "template", ["{prompt}", "{}", "{slug", "{slug:04d}", "{seed.x.y}", "a/{slug}", "", ".{slug}", "x" * 300, "\udcff"]
)
def test_a_template_that_makes_no_file_name_is_refused(template):
    with pytest.raises(BigsleepError, match="--name") as caught:
        name_of(template, 1, 1, "a house", 1, "emoji")
    assert caught.value.usage and len(str(caught.value).splitlines()) == 1


def test_a_picture_gives_back_what_was_put_into_it(tmp_path):
    made = Picture(Image.radial_gradient("L").convert("RGB"), {"prompt": "a house"}, b"tensors")
    made.save(tmp_path / "a.png")
    found = Picture.open(tmp_path / "a.png")
    assert (found.recipe, found.state) == (made.recipe, made.state)
    assert found.image.tobytes() == made.image.tobytes()


def test_a_bare_picture_holds_pixels_alone(tmp_path):
    made = Picture(Image.new("RGB", (8, 8)), {"prompt": "a house"}, b"tensors")
    (tmp_path / "a.png").write_bytes(made.png(bare=True))
    found = Picture.open(tmp_path / "a.png")
    assert (found.recipe, found.state, found.latents) == ({}, b"", {})
    assert b"house" not in (tmp_path / "a.png").read_bytes()


def test_other_programs_show_what_a_picture_is_of(tmp_path):
    recipe = {"settings": {"model": "emoji", "seed": 7}, "step": 60, "versions": {"bigsleep": "0.1.0"}, "score": 0.3}
    picture(**recipe, prompt="日本 house").save(tmp_path / "a.png")
    text = Image.open(tmp_path / "a.png").text
    assert text["Title"] == "日本 house" and text["Software"] == "bigsleep 0.1.0"
    assert text["Description"] == "emoji, seed 7, step 60, score 0.3"


def gradient(mode="RGB"):
    return Image.merge("RGB", [Image.linear_gradient("L").rotate(90 * i) for i in range(3)]).convert(mode)


FORMATS = [
    (ending, mode)
    for ending in ("png", "jpg", "webp", "gif", "bmp", "tiff", "ppm", "tga", "ico")
    for mode in ("RGB", "L")
]


@pytest.mark.parametrize(("ending", "mode"), [*FORMATS, *((ending, "P") for ending in ("png", "gif", "bmp", "tiff"))])
def test_images_of_many_formats_are_opened(tmp_path, ending, mode):
    image = gradient(mode)
    image.save(tmp_path / f"a.{ending}")
    opened = Picture.open(tmp_path / f"a.{ending}").image
    assert opened.mode == "RGB" and opened.size == image.size
    difference = np.asarray(opened, dtype=int) - np.asarray(image.convert("RGB"), dtype=int)
    assert np.abs(difference).mean() < 6


def test_an_image_is_turned_as_its_camera_says(tmp_path):
    image, exif = Image.new("RGB", (20, 10)), Image.Exif()
    image.paste("red", (0, 0, 10, 10))
    exif[0x0112] = 6  # a quarter to the right
    image.save(tmp_path / "a.png", exif=exif)
    opened = Picture.open(tmp_path / "a.png").image
    assert opened.size == (10, 20) and opened.getpixel((5, 2)) == (255, 0, 0) and opened.getpixel((5, 17)) == (0, 0, 0)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_lies_on_white(tmp_path, mode):
    image = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 0, 4, 8))
    image.convert(mode).save(tmp_path / "a.png")
    opened = Picture.open(tmp_path / "a.png").image
    assert opened.getpixel((6, 4)) == (255, 255, 255) and opened.getpixel((1, 4)) == (0, 0, 0)


def test_sixteen_bits_and_cmyk_and_floats_look_as_they_should(tmp_path):
    grey = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    Image.fromarray(grey).save(tmp_path / "a.png")
    Image.fromarray((grey / 65535).astype(np.float32)).save(tmp_path / "b.tiff")
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "c.tiff")
    for name in ("a.png", "b.tiff"):
        assert np.abs(np.asarray(Picture.open(tmp_path / name).image)[..., 0] - grey / 257).max() < 1
    assert Picture.open(tmp_path / "c.tiff").image.getpixel((3, 3)) == (255, 0, 0)


def test_an_animation_is_its_first_frame(tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert Picture.open(tmp_path / "a.gif").image.getpixel((3, 3)) == (255, 0, 0)


def png_of(*chunks: tuple[bytes, bytes]) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in chunks)


def header(width: int, height: int) -> tuple[bytes, bytes]:
    return b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)


END = (b"IDAT", zlib.compress(b"")), (b"IEND", b"")
BAD = {
    "empty": b"", "text": b"words", "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n%%EOF\n",
    "cut short": Picture(gradient()).png()[:700], "no pixels": png_of(header(0, 0), *END),
    "bomb": png_of(header(MOST_PIXELS // 1000, 1001), *END),
    "great bomb": png_of(header(2**31 - 1, 2**31 - 1), *END),
    "two states": png_of(header(1, 1), (b"tEXt", b"bigsleep\0{}"), (STATE_CHUNK, b""), (STATE_CHUNK, b""), *END),
    "a recipe that is no JSON": png_of(header(1, 1), (b"tEXt", b"bigsleep\0{"), *END),
    "a recipe that is no table": png_of(header(1, 1), (b"tEXt", b"bigsleep\0[1]"), *END),
    "a recipe of nothing but depth": png_of(header(1, 1), (b"tEXt", b"bigsleep\0" + b"[" * 100_000), *END),
    "a text that unpacks to a gigabyte": png_of(
        header(1, 1), (b"iTXt", b"bigsleep\0\1\0\0\0" + zlib.compress(bytes(10**7))), *END
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_image_gets_one_line(tmp_path, kind):
    (tmp_path / "a.png").write_bytes(BAD[kind])
    with pytest.raises(BigsleepError, match=r"a\.png") as caught:
        Picture.open(tmp_path / "a.png")
    assert caught.value.usage and len(str(caught.value).splitlines()) == 1


def test_folders_and_missing_files_are_no_images(tmp_path):
    for path in (tmp_path, tmp_path / "missing.png"):
        with pytest.raises(BigsleepError, match="no file"):
            Picture.open(path)


def test_a_recipe_elsewhere_in_a_text_is_not_taken_for_one(tmp_path):
    info = PngInfo()
    info.add_text("parameters", json.dumps({"prompt": "x"}))
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", pnginfo=info)
    assert Picture.open(tmp_path / "a.png").recipe == {}


def test_a_picture_is_read_from_its_file_alone(tmp_path):
    picture().save(tmp_path / "a.png")
    found = Picture.open(tmp_path / "a.png")
    (tmp_path / "a.png").unlink()
    assert Image.open(io.BytesIO(found.png())).getpixel((3, 3)) == (255, 0, 0)
