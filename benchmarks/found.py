"""Pictures found in the built-in generator: SSIM at 128 px of what is found to what was looked for.

    python -m benchmarks.found --count 20 --seed 1 [--sheet found.png]
    python -m benchmarks.found --photos [--sheet photos.png]
    python -m benchmarks.found --art DATA/drawn.npz [--sheet art.png]
    python -m benchmarks.found --images FOLDER [--sheet images.png]

Pictures of the generator itself, saved bare; the photographs that scikit-image's wheel carries; of the art that the generator
learnt to draw (``training/data.py`` writes it), taken evenly; or those of a folder. Beside each stands ``nearest``: what is had without a search, the picture of the class that the perceptor finds likest. Needs
scikit-image.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import torch
from PIL import Image, ImageOps

from benchmarks.quality import read_prompts
from bigsleep import Dream, Models, Picture, Settings
from bigsleep.find import Finder

PROMPTS = Path(__file__).parent / "prompts.txt"
SIDE = 128


PHOTOS = ("astronaut.png", "chelsea.png", "coffee.png", "hubble_deep_field.jpg", "moon.png", "rocket.jpg")


@click.command()
@click.option("--count", default=20, help="Pictures, of the benchmark's first prompts, of the art or of the folder.")
@click.option("--photos", is_flag=True, help="Look for scikit-image's photographs.")
@click.option("--art", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Look for the art's.")
@click.option("--images", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Look for a folder's.")
@click.option("--seed", default=1, help="Seed of the first; the search has another.")
@click.option("--sheet", type=click.Path(path_type=Path), help="Write them, each above what was found.")
def main(count: int, photos: bool, art: Path | None, images: Path | None, seed: int, sheet: Path | None) -> None:
    from skimage.metrics import structural_similarity

    models = Models.load(Settings(model="emoji", device="cpu"))
    pairs, rows, seconds = [], [], []
    for number, (name, sought) in enumerate(wanted(count, photos, art, images, models, seed)):
        nearest = dreamt(models, nearest_name(models, sought), seed=seed, steps=0, auditions=1)
        began = time.monotonic()
        found = dreamt(models, "a picture", seed=seed + 1000 + number, steps=0, start=Picture(sought))
        seconds.append(time.monotonic() - began)
        pairs.append((sought, found))
        likeness = [
            float(structural_similarity(np.asarray(sought), np.asarray(other), channel_axis=2))
            for other in (found, nearest)
        ]
        rows.append(likeness)
        click.echo(f"{likeness[0]:.3f}, nearest {likeness[1]:.3f}  {seconds[-1]:.0f} s  {name}")
    if sheet:
        side_by_side(pairs).save(sheet)
    found_again, nearest_ones = zip(*rows, strict=True)
    result = {
        "pictures": len(pairs),
        "median_ssim": round(statistics.median(found_again), 3),
        "least_ssim": round(min(found_again), 3),
        "nearest_median_ssim": round(statistics.median(nearest_ones), 3),
        "seconds_per_picture": round(statistics.mean(seconds), 1),
    }
    click.echo(json.dumps(result))


def wanted(
    count: int, photos: bool, art: Path | None, images: Path | None, models: Models, seed: int
) -> Iterator[tuple[str, Image.Image]]:
    """What to look for, ``SIDE`` pixels a side, with a name."""
    if art:
        drawn = np.load(art)["pictures"]
        for number in range(0, len(drawn), -(-len(drawn) // count)):
            yield models.generator.class_names[number], on_white(drawn[number])
    elif photos or images:
        import skimage

        folder = images or Path(skimage.__file__).parent / "data"
        names = PHOTOS if photos else sorted(path.name for path in folder.iterdir())[:count]
        for name in names:
            with Image.open(folder / name) as image:
                yield name, ImageOps.fit(image.convert("RGB"), (SIDE, SIDE), Image.Resampling.LANCZOS)
    else:
        for number, prompt in enumerate(read_prompts(PROMPTS)[:count]):
            yield prompt, dreamt(models, prompt, seed=seed + number)


def on_white(drawn: np.ndarray) -> Image.Image:
    """Premultiplied RGBA of the art on white paper."""
    paper = drawn[..., :3] + (255 - drawn[..., 3:])
    return Image.fromarray(paper).resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def dreamt(models: Models, prompt: str, **options: object) -> Image.Image:
    """The best picture of a dream."""
    dreaming = Dream(prompt, models=models, image_size=SIDE, **options)
    for _ in dreaming:
        pass
    assert dreaming.best is not None
    return dreaming.picture(dreaming.best).image


def nearest_name(models: Models, image: Image.Image) -> str:
    """What the class is called whose name the perceptor finds most like the image."""
    settings = Dream("a picture", models=models, image_size=SIDE).settings
    finder = Finder(models.optimizer, image, settings, torch.Generator().manual_seed(0))
    return models.generator.class_names[finder.classes()[0]]


def side_by_side(pairs: list[tuple[Image.Image, Image.Image]]) -> Image.Image:
    sheet = Image.new("RGB", (10 * (SIDE + 4), 2 * (SIDE + 4) * -(-len(pairs) // 10)), "white")
    for number, pair in enumerate(pairs):
        for row, image in enumerate(pair):
            sheet.paste(image, (number % 10 * (SIDE + 4), (number // 10 * 2 + row) * (SIDE + 4)))
    return sheet


if __name__ == "__main__":
    main()
