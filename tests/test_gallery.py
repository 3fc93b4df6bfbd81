"""The page of a folder: what is in it, how it is used, and that nothing in a picture can do anything to it."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from bigsleep.gallery import Gallery
from bigsleep.picture import RECIPE_CHUNK
from tests.browser import chromium, grave_violations, watched  # noqa: F401

SETTINGS = {"steps": 3, "seed": 7, "model": "emoji", "clip": "emoji", "avoid": ["night"]}
EVIL = (
    "<script>alert(1)</script>", "</title><img src=x onerror=alert(2)>", "\"' onmouseover=alert(3) x='",
    "javascript:alert(4)", "</script><script>alert(5)</script>", "{{ 7 * 7 }} {% raw %}", "<!--", "שלום", "\ud800",
)  # fmt: skip


def put(
    folder: Path, name: str, prompt: object = "a house", score: object = 0.5, made: int = 0, **settings: object
) -> None:
    """A small picture with a recipe, which may be one that no dream writes, of a colour of its own."""
    colour = tuple(random.Random(name).randbytes(3))
    recipe = {"prompt": prompt, "settings": SETTINGS | settings, "score": score, "step": 3, "versions": {}}
    path, info = folder / name, PngInfo()
    info.add_itxt(RECIPE_CHUNK, json.dumps(recipe))
    Image.new("RGB", (64, 64), colour).save(path, pnginfo=info)
    os.utime(path, (1_000_000 + made, 1_000_000 + made))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    put(folder, "cat.png", "a cat", 0.3, 1, seed=11)
    put(folder, "dog.png", "a dog", 0.6, 2, model="biggan-deep-128")
    put(folder, "owl.png", "an owl", 0.4, 3)
    return folder


def made(folder: Path) -> str:
    Gallery(folder, folder / "index.html").write()
    return (folder / "index.html").as_uri()


def order(page) -> list[str]:
    return page.locator("#grid .words").all_text_contents()


def width_shown(page) -> int:
    """The width of the file behind the large picture, once it is there."""
    return page.locator("#picture").evaluate("async (image) => { await image.decode(); return image.naturalWidth; }")


def test_the_command_writes_a_page_and_prints_where_it_is(bigsleep):
    work = bigsleep.keywords["cwd"]
    (work / "out").mkdir()
    put(work / "out", "cat.png", "a cat")
    Image.new("RGB", (8, 8)).save(work / "out" / "foreign.png")
    (work / "out" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno")
    done = bigsleep("gallery", "out")
    assert done.returncode == 0 and done.stdout == "out/index.html\n" and "1 picture" in done.stderr
    page = (work / "out" / "index.html").read_text()
    assert "a cat" in page and "foreign" not in page and "broken" not in page
    elsewhere = bigsleep("gallery", "out", "-o", "all.html", "--quiet")
    assert (
        elsewhere.stdout == "all.html\n"
        and elsewhere.stderr == ""
        and 'href="out/cat.png"' in (work / "all.html").read_text()
    )


@pytest.mark.parametrize(
    ("args", "message"),
    [(("missing",), "missing"), ((".", "-o", "no/x.html"), "mkdir"), ((".", "-o", "mine.html"), "no gallery")],
)
def test_what_cannot_be_a_gallery_gets_one_line_and_nothing_is_written_over(bigsleep, args, message):
    mine = bigsleep.keywords["cwd"] / "mine.html"
    mine.write_text("<p>precious")
    done = bigsleep("gallery", *args)
    assert done.returncode == 2 and done.stdout == "" and len(done.stderr.splitlines()) == 1 and message in done.stderr
    assert mine.read_text() == "<p>precious" and list(mine.parent.iterdir()) == [mine]


def test_torch_is_not_imported_for_it():
    program = "import sys, bigsleep.gallery; sys.exit('torch' in sys.modules or 'jinja2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_a_page_written_again_looks_only_at_what_is_new(folder, monkeypatch):
    for number in range(120):
        put(folder, f"{number:03}.png", made=-200 + number)
    gallery = Gallery(folder, folder / "index.html")
    assert gallery.write() == 123
    read: list[str] = []
    look = gallery.look.__wrapped__
    monkeypatch.setattr(gallery, "look_at", lambda *file: pytest.fail("cached"))
    gallery.look = lambda *file: read.append(file[0]) or look(*file)
    put(folder, "new.png", "a new one", made=9)
    assert gallery.write() == 124 and len(read) == 24  # the sheet that was not full; its pictures are remembered
    (folder / "000.png").unlink()
    assert gallery.write() == 123 and "a new one" in (folder / "index.html").read_text()


def test_batch_keeps_the_page_up_to_date(bigsleep):
    work = bigsleep.keywords["cwd"]
    (work / "list.txt").write_text("a cat\na dog\n")
    quick = ("--model", "emoji", "--image-size", "128", "--steps", "1", "--auditions", "1", "--cutouts", "2")
    done = bigsleep("batch", "list.txt", *quick, "--output-dir", "out", "--gallery")
    page = (work / "out" / "index.html").read_text()
    assert (
        done.returncode == 0 and done.stdout == "out/a_cat.png\nout/a_dog.png\n" and "a cat" in page and "a dog" in page
    )
    (work / "out" / "index.html").unlink()
    bigsleep("batch", "list.txt", *quick, "--output-dir", "out", "--gallery")  # nothing left to dream
    assert "a dog" in (work / "out" / "index.html").read_text()


def test_search_order_and_filter(chromium, folder):  # noqa: F811
    page = chromium.new_page()
    asked, complaints = watched(page)
    page.goto(made(folder))
    assert order(page) == ["an owl", "a dog", "a cat"]
    page.select_option("#sort", "score")
    assert order(page) == ["a dog", "an owl", "a cat"]
    page.select_option("#model", "emoji")
    assert order(page) == ["an owl", "a cat"] and page.inner_text("#count") == "2 of 3 pictures"
    page.keyboard.press("Escape")
    page.locator("h1").click()
    page.keyboard.press("/")
    page.keyboard.type("CAT 11")
    assert order(page) == ["a cat"]
    page.fill("#search", "no such thing")
    assert order(page) == [] and page.is_visible("#none")
    page.click("#clear")
    assert order(page) == ["an owl", "a dog", "a cat"]
    assert complaints == [] and all(address.startswith("file:") for address in asked)


def test_by_keyboard_alone_a_picture_is_found_looked_at_and_left(chromium, folder):  # noqa: F811
    page = chromium.new_page()
    page.goto(made(folder))
    page.locator("#grid a").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    assert page.inner_text("#title") == "a dog" and page.is_visible("dialog")
    assert width_shown(page) == 64
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#title") == "a cat" and page.is_disabled("#after")
    command = page.inner_text("#command")
    assert command == "bigsleep 'a cat' --steps 3 --seed 11 --avoid night --model emoji --clip emoji"
    assert json.loads(page.locator("#recipe").text_content())["settings"]["seed"] == 11
    page.keyboard.press("Escape")
    assert page.is_hidden("dialog") and page.evaluate("document.activeElement.innerText").startswith("a cat")
    page.goto("about:blank")
    page.goto((folder / "index.html").as_uri() + "#owl.png")
    assert page.inner_text("#title") == "an owl"


def test_a_tile_shows_its_own_picture(chromium, folder):  # noqa: F811
    page = chromium.new_page()
    page.goto(made(folder))
    for name in ("owl", "dog", "cat"):
        shot = page.locator(f"#grid a[href$='{name}.png'] .thumb").screenshot(path=folder.parent / "tile.png")
        assert shot
        with Image.open(folder.parent / "tile.png") as tile, Image.open(folder / f"{name}.png") as picture:
            middle = tile.convert("RGB").getpixel((tile.width // 2, tile.height // 2))
            wanted = picture.getpixel((32, 32))
        assert max(abs(a - b) for a, b in zip(middle, wanted, strict=True)) < 12


def test_nothing_in_a_picture_or_its_name_does_anything_to_the_page(chromium, tmp_path):  # noqa: F811
    folder = tmp_path / "<b>evil & 'quoted'"
    folder.mkdir()
    names = [prompt.replace("/", "∕") for prompt in EVIL[:-1]] + ["javascript:alert(9)", "a#b?c%20d", "é"]
    for number, name in enumerate(names):
        put(folder, f"{name}.png", EVIL[number % len(EVIL)], made=number, model=EVIL[number % 8])
    put(folder, "odd.png", ["no", "text"], float("nan"), model=7, seed="x")
    put(folder, "surrogate.png", EVIL[-1])
    page = chromium.new_page()
    asked, complaints = watched(page)
    page.goto(made(folder))
    assert page.locator("#grid li").count() == len(names) + 2
    assert page.locator("script, img").count() == 3 and page.title() == f"{folder.name} · bigsleep"
    for number in range(len(names) + 2):
        page.locator("#grid a").nth(number).click()
        assert width_shown(page) == 64
        page.keyboard.press("Escape")
    assert "<script>alert(1)</script>" in order(page) and complaints == []
    assert all(address.startswith("file:") for address in asked)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_grave_in_the_page_and_the_large_picture(chromium, folder, scheme):  # noqa: F811
    page = chromium.new_page(color_scheme=scheme)
    page.goto(made(folder))
    assert grave_violations(page) == []
    page.locator("#grid a").first.click()
    assert grave_violations(page) == []


@pytest.mark.parametrize("width", [400, 1280])
def test_nothing_is_wider_than_the_window(chromium, folder, width):  # noqa: F811
    put(folder, f"{'n' * 200}.png", "w" * 300)
    page = chromium.new_page(viewport={"width": width, "height": 800})
    page.goto(made(folder))
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.locator("#grid a[href*=nnn]").click()
    box = page.locator("dialog").bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= width
    assert page.evaluate("document.querySelector('dialog section').scrollWidth") <= width


def test_without_scripts_the_tiles_are_links_to_the_pictures(chromium, folder):  # noqa: F811
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(made(folder))
    assert len(order(page)) == 3 and page.locator("#grid a").first.get_attribute("href").endswith("cat.png")
    context.close()
