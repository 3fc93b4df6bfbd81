"""What big-sleep 0.9.1 itself does in thirty steps, as numbers for the tests to hold ours against.

    python -m benchmarks.beside_big_sleep tests/big_sleep.json

A small BigGAN and a small CLIP with random weights, and cutouts that are told to both programs; all else is the command's
own default: nearest resampling, Adam, sigmoid classes, penalties. Done twice, in fp32 as it ships and in fp64, where rounding
does not grow: Adam's steps are as long where a gradient is all rounding. Needs big-sleep (``pip install --no-deps big-sleep==0.9.1``).
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import torch
from clip.model import CLIP, LayerNorm
from torch import Tensor, nn

from benchmarks.random_models import biggan_config, random_biggan
from benchmarks.step import big_sleep_imagine
from bigsleep.cutouts import Cutouts, draw_cutouts
from bigsleep.models import perceptor

SIZE, CUTOUTS, STEPS, PROMPT = 128, 6, 30, "a beautiful house"
CONFIG = biggan_config(SIZE, channel_width=8)
# Of crops of this side torch's ``nearest`` takes one row and one column from beside, by a rounding which ours has not: the one
# side of 64 to 121, and 7 of the 231 at 512 pixels.
ROUNDED = 76
SMALL_CLIP = dict(
    embed_dim=64, image_resolution=224, vision_layers=2, vision_width=64, vision_patch_size=32, context_length=77,
    vocab_size=49408, transformer_width=64, transformer_heads=1, transformer_layers=1,
)  # fmt: skip


def small_clip() -> CLIP:
    """A CLIP with random weights, of numbers that fp16 can hold as the published ones are."""
    torch.manual_seed(1)
    model = CLIP(**SMALL_CLIP).eval()
    for parameter in model.parameters():
        parameter.data.copy_(parameter.data.half())
    return model


def start() -> tuple[Tensor, Tensor]:
    """Noise ``[11, 128]`` and class logits ``[11, 1000]`` to begin with, distributed as big-sleep's are."""
    chance = torch.Generator().manual_seed(2)
    stages = len(CONFIG.layers) + 1
    noise = torch.randn(stages, CONFIG.z_dim, generator=chance)
    return noise, -3.9 + 0.3 * torch.randn(stages, CONFIG.num_classes, generator=chance)


def crops() -> list[tuple[int, int, int]]:
    """``(top, left, side)`` in pixels of each cutout of each step, one after the other."""
    chance = random.Random(3)
    sides = [int(SIZE * min(0.95, max(0.5, chance.gauss(0.8, 0.3)))) for _ in range(STEPS * CUTOUTS)]
    sides = [side + (side == ROUNDED) for side in sides]
    return [(chance.randint(0, SIZE - side), chance.randint(0, SIZE - side), side) for side in sides]


def cutouts_of(step: int) -> Cutouts:
    """The crops of a step as ours take them."""
    drawn = draw_cutouts(CUTOUTS, 0.5, 0.95, 0.0, torch.Generator(), "nearest")
    theta = torch.zeros(CUTOUTS, 2, 3)
    for each, (top, left, side) in zip(theta, crops()[step * CUTOUTS :], strict=False):
        each[0, 0] = each[1, 1] = side / SIZE
        each[:, 2] = torch.tensor([2 * left + side, 2 * top + side]) / SIZE - 1
    return replace(drawn, theta=theta)


@contextmanager
def in_double() -> Iterator[None]:
    """All that is made meanwhile is in fp64, in either program, and stays so where fp32 is asked for."""
    norms = {LayerNorm, perceptor.clip_model.LayerNorm}  # the same one only where CLIP was imported in whole first
    honest, forwards = torch.Tensor.float, {norm: norm.forward for norm in norms}
    torch.Tensor.float = torch.Tensor.double  # type: ignore[method-assign]
    for norm in norms:
        norm.forward = nn.LayerNorm.forward  # type: ignore[method-assign]
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)
        torch.Tensor.float = honest  # type: ignore[method-assign]
        for norm, forward in forwards.items():
            norm.forward = forward  # type: ignore[method-assign]


def big_sleeps_steps(biggan: dict[str, Tensor], clip: CLIP, begun: tuple[Tensor, Tensor]) -> dict[str, list[float]]:
    """big-sleep's loss before each step, and some of its latents after the last."""

    def ready(model: Any) -> Any:
        model.load_state_dict(biggan)
        return model

    dtype = torch.get_default_dtype()
    imagine = big_sleep_imagine(SIZE, ready, lambda: clip.to(dtype), config=CONFIG, text=PROMPT, num_cutouts=CUTOUTS)
    from big_sleep import big_sleep

    left = iter(crops())
    big_sleep.rand_cutout = lambda image, *_, **__: sliced(image, *next(left))
    latents, losses = imagine.model.model.latents.model, list[float]()
    noise, logits = begun
    latents.normu.data.copy_(noise)
    latents.cls.data.copy_(logits)
    step = imagine.model.forward

    def listening(*given: Any) -> Any:
        picture, parts = step(*given)
        losses.append(float(sum(parts)))
        return picture, parts

    imagine.model.forward = listening
    for i in range(STEPS):
        imagine.train_step(0, i)
    return {"losses": losses} | shown(latents.normu, latents.cls)


def sliced(image: Tensor, top: int, left: int, side: int) -> Tensor:
    return image[:, :, top : top + side, left : left + side]


def shown(noise: Tensor, logits: Tensor) -> dict[str, list[float]]:
    """Every seventh number of the noise and every 97th of the class logits."""
    return {"noise": noise.detach().flatten()[::7].tolist(), "logits": logits.detach().flatten()[::97].tolist()}


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
def main(file: Path) -> None:
    parts = random_biggan(CONFIG).state_dict(), small_clip(), start()
    table = big_sleeps_steps(*parts)
    with in_double():
        table |= {f"{name} in fp64": numbers for name, numbers in big_sleeps_steps(*parts).items()}
    file.write_text(json.dumps({name: [float(f"{x:.15g}") for x in row] for name, row in table.items()}) + "\n")
    click.echo(json.dumps({"first_loss": table["losses"][0], "last_loss": table["losses"][-1]}))


if __name__ == "__main__":
    main()
