"""A gallery of many pictures: what writing it takes, and what a browser needs to show it and to scroll through it.

python -m benchmarks.gallery --pictures 1000

Needs Chromium and Playwright. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import tempfile
import time
from pathlib import Path

import psutil

from bigsleep.gallery import Gallery
from bigsleep.picture import Picture
from tests.browser import FLAGS

PAINTED = """() => new Promise((done) => new PerformanceObserver((list) => done(list.getEntries().at(-1).startTime))
    .observe({ type: "largest-contentful-paint", buffered: true }))"""
FIRST = "() => performance.getEntriesByName('first-contentful-paint')[0].startTime"
# Scroll by a window's height at a time; the longest that a frame took, in milliseconds.
SCROLLED = """async () => {
    let slowest = 0, last = await new Promise(requestAnimationFrame);
    while (scrollY + innerHeight < document.documentElement.scrollHeight - 2) {
        scrollBy(0, innerHeight);
        const now = await new Promise(requestAnimationFrame);
        slowest = Math.max(slowest, now - last);
        last = now;
    }
    return slowest;
}"""


def write_pictures(folder: Path, count: int) -> None:
    """``count`` pictures of 512 x 512 pixels: those of the examples, turned, each with a recipe of its own."""
    found = [Picture.open(path) for path in sorted(Path("examples/pictures").glob("*.png"))]
    draw = random.Random(0)
    for number in range(count):
        picture = found[number % len(found)]
        settings = picture.recipe["settings"] | {"seed": number}
        recipe = picture.recipe | {"settings": settings, "score": round(draw.uniform(0.2, 0.6), 4)}
        Picture(picture.image.rotate(90 * (number // len(found) % 4)), recipe).save(folder / f"{number:05}.png")


def memory() -> float:
    """Megabytes of all processes of the browser, shared pages counted once (Linux)."""
    return sum(child.memory_full_info().pss for child in psutil.Process().children(recursive=True)) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=1000)
    count = parser.parse_args().pictures
    from playwright.sync_api import sync_playwright

    found = {"pictures": count}
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name)
        write_pictures(folder, count)
        gallery = Gallery(folder, folder / "index.html")
        for what in ("write_seconds", "write_again_seconds"):
            began = time.monotonic()
            gallery.write()
            found[what] = round(time.monotonic() - began, 2)
        found["page_megabytes"] = round((folder / "index.html").stat().st_size / 1e6, 2)
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=list(FLAGS))
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto("about:blank")
        before = memory()
        page.goto((folder / "index.html").as_uri())
        found["first_paint_ms"] = round(page.evaluate(FIRST))
        found["largest_paint_ms"] = round(page.evaluate(PAINTED))
        page.wait_for_timeout(1000)
        found["memory_megabytes"] = round(memory() - before)
        found["slowest_frame_ms"] = round(page.evaluate(SCROLLED))
        found["memory_scrolled_megabytes"] = round(memory() - before)
        began = time.monotonic()
        page.fill("#search", "house")
        page.evaluate("() => new Promise(requestAnimationFrame)")
        found["search_ms"] = round(1000 * (time.monotonic() - began))
        browser.close()
    for what, value in found.items():
        print(f"{what.replace('_', ' ')}: {value}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
