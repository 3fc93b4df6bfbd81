"""``bigsleep gallery``: a page of a folder."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from bigsleep.terminal import Say, Show


@click.command("gallery")
@click.argument("folder", type=click.Path(path_type=Path), metavar="FOLDER")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write this file.  [default: FOLDER/index.html]")
@click.option("-q", "--quiet", is_flag=True, help="Nothing on stderr but errors.")
@click.option("--debug", is_flag=True, help="Show a traceback for errors.")
def gallery_command(folder: Path, output: Path | None, quiet: bool, debug: bool) -> None:
    """Make a page of a FOLDER's pictures, to look at in a browser, and print its path.

    Thumbnails, recipes and all else are inside the page; the large pictures are the files, as seen from where it is.
    """
    from tqdm import tqdm

    from bigsleep.gallery import Gallery

    page = output or folder / "index.html"
    gallery = Gallery(folder, page)
    with tqdm(unit=" pictures", leave=False, disable=quiet or not sys.stderr.isatty()) as bar:
        found = gallery.write(lambda seen, total: bar_at(bar, seen, total))
    Show(quiet, 1).note(f"{found} picture{'' if found == 1 else 's'} of {folder}")
    Say(as_json=False, null=False)({}, page)


def bar_at(bar: Any, seen: int, total: int) -> None:
    bar.total = total
    bar.update(seen - bar.n)
