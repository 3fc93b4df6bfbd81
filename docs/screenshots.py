"""Takes the screenshots in docs/pictures, of the pictures in examples/: python -m docs.screenshots [FOLDER]

Needs the extras `web` and `test`, and Chromium. Look at them before they are kept.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

from tests.browser import FLAGS

EXAMPLES = Path(__file__).parent.parent / "examples" / "pictures"
COMMAND = [sys.executable, "-m", "bigsleep"]
WIDTHS = {1280: 900, 400: 800}
PATIENCE = 300_000  # milliseconds


def keep(page: Any, name: str, scheme: str, folder: Path) -> None:
    """A screenshot of ``page`` as it is in each width."""
    page.emulate_media(color_scheme=scheme)
    for width, height in WIDTHS.items():
        page.set_viewport_size({"width": width, "height": height})
        shot = folder / f"{name}-{scheme}-{width}.png"
        page.screenshot(path=shot)
        Image.open(shot).convert("RGB").save(shot.with_suffix(".webp"), quality=80, method=6)
        shot.unlink()


def of_the_gallery(browser: Any, pictures: Path, folder: Path) -> None:
    subprocess.run([*COMMAND, "gallery", str(pictures), "--quiet"], check=True, stdout=subprocess.DEVNULL)
    page = browser.new_page()
    page.goto((pictures / "index.html").as_uri())
    keep(page, "gallery", "light", folder)
    page.click("#grid a[href*=rocket]")
    keep(page, "gallery", "dark", folder)


def of_the_page(browser: Any, pictures: Path, folder: Path) -> None:
    command = [*COMMAND, "web", "--port", "0", "--offline", "--model", "emoji", "--save-every", "2", "--output-dir"]
    server = subprocess.Popen([*command, str(pictures)], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        page = browser.new_page()
        page.set_default_timeout(PATIENCE)
        page.goto(server.stdout.readline().strip())
        page.fill("#prompt", "a house under a rainbow")
        page.click("#dream")
        page.wait_for_selector("#curve circle:nth-child(5)")
        page.evaluate("document.activeElement.blur()")
        keep(page, "web", "light", folder)
        page.click("#stop")
        page.wait_for_selector("#status:has-text('kept')")
        page.locator("#grid button", has_text="an owl at night").click()
        keep(page, "web", "dark", folder)
    finally:
        server.terminate()
        server.wait()


def main(folder: Path) -> None:
    os.environ["NO_PROXY"] = "*"
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as place, sync_playwright() as playwright:
        pictures = Path(place) / "pictures"
        shutil.copytree(EXAMPLES, pictures)
        browser = playwright.chromium.launch(executable_path=program, args=list(FLAGS))
        of_the_gallery(browser, pictures, folder)
        of_the_page(browser, pictures, folder)
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "pictures")
