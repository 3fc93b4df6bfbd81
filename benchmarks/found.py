"""Pictures of the built-in pair, saved bare, found again in its generator: SSIM at 128 px of what is found.

python -m benchmarks.found --count 20 --seed 1 [--sheet found.png]

Needs scikit-image.
"""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path

import click
import numpy as np
from PIL import Image

from bigsleep import Dream, Models, Picture, Settings

PROMPTS = Path(__file__).parent / "prompts.txt"
SIDE = 128


@click.command()
@click.option("--count", default=20, help="Pictures, of the benchmark's first prompts.")
@click.option("--seed", default=1, help="Seed of the first; the search has another.")
@click.option("--sheet", type=click.Path(path_type=Path), help="Write the pictures beside what was found.")
def main(count: int, seed: int, sheet: Path | None) -> None:
    from skimage.metrics import structural_similarity

    models = Models.load(Settings(model="emoji", device="cpu"))
    lines = PROMPTS.read_text().splitlines()
    prompts = [line for line in lines if line.strip() and not line.startswith("#")][:count]
    found = []
    for number, prompt in enumerate(prompts):
        made, _ = dreamt(models, prompt, seed=seed + number)
        other, seconds = dreamt(models, "a picture", seed=seed + 1000 + number, steps=0, start=Picture(made))
        both = np.asarray(made), np.asarray(other)
        found.append((prompt, made, other, float(structural_similarity(*both, channel_axis=2)), seconds))
        click.echo(f"{found[-1][3]:.3f}  {seconds:.0f} s  {prompt}")
    if sheet:
        side_by_side([pair[1:3] for pair in found]).save(sheet)
    similarities = [pair[3] for pair in found]
    result = {
        "pictures": len(found),
        "median_ssim": round(statistics.median(similarities), 3),
        "least_ssim": round(min(similarities), 3),
        "seconds_per_picture": round(statistics.mean(pair[4] for pair in found), 1),
    }
    click.echo(json.dumps(result))


def dreamt(models: Models, prompt: str, **options: object) -> tuple[Image.Image, float]:
    """The best picture of a dream, and the seconds it took."""
    began = time.monotonic()
    dreaming = Dream(prompt, models=models, image_size=SIDE, **options)
    for _ in dreaming:
        pass
    assert dreaming.best is not None
    return dreaming.picture(dreaming.best).image, time.monotonic() - began


def side_by_side(pairs: list[tuple[Image.Image, Image.Image]]) -> Image.Image:
    sheet = Image.new("RGB", (10 * (SIDE + 4), 2 * (SIDE + 4) * -(-len(pairs) // 10)), "white")
    for number, pair in enumerate(pairs):
        for row, image in enumerate(pair):
            sheet.paste(image, (number % 10 * (SIDE + 4), (number // 10 * 2 + row) * (SIDE + 4)))
    return sheet


if __name__ == "__main__":
    main()
