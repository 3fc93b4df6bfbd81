"""How near to the art, and how crisp, are the built-in generator's drawings, enlarged?

    python -m benchmarks.crispness DATA [--sheet crisp.png]

draws every class of the built-in generator without noise, enlarges it to 256 pixels as ``--finish crisp`` and ``smooth`` do,
and lays both over white beside the art at that size, which ``training.data`` put into ``DATA``. Prints the mean L1 distance
(0..1) and the edge energy (mean squared differences of neighbouring pixels) over the art's. Beside it stand the art itself
reduced to 64 pixels and enlarged in the same way, which is the most that can be had, and, of the worst kind, plain white.
"""

from __future__ import annotations

import json
from pathlib import Path

import click
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.utils import save_image

from bigsleep.finish import enlarged
from bigsleep.layers import sprites_of
from bigsleep.models.catalogue import load_generator

SIDE = 256


def over_white(rgba: Tensor) -> Tensor:
    return rgba[:, :3] + 1 - rgba[:, 3:]


def edge_energy(pictures: Tensor) -> float:
    across, down = pictures[..., 1:] - pictures[..., :-1], pictures[..., 1:, :] - pictures[..., :-1, :]
    return float(across.square().mean() + down.square().mean())


def compared(made: Tensor, art: Tensor) -> dict[str, float]:
    """``l1`` and ``edges`` of pictures ``[N, 3, 256, 256]`` in 0..1 against the art's."""
    return {
        "l1": round(float((made - art).abs().mean()), 4),
        "edges": round(edge_energy(made) / edge_energy(art), 3),
    }


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True))
@click.option(
    "--sheet", type=click.Path(path_type=Path), help="Write some drawings beside the art, at 512, to this file."
)
@torch.no_grad()
def main(folder: Path, sheet: Path | None) -> None:
    generator = load_generator("emoji")
    art = torch.from_numpy(np.load(folder / "drawn.npz")["pictures"]).permute(0, 3, 1, 2)
    logits = torch.eye(generator.num_classes)
    sprites = []
    for shares in logits.split(32):
        noise = torch.zeros(len(shares), generator.stages, generator.noise_size)
        sprites.append(sprites_of(generator(noise, shares[:, None].expand(-1, generator.stages, -1))))
    drawn = torch.cat(sprites)
    things = [i for i in range(len(art)) if i not in generator.grounds]
    figures: dict[str, object] = {"things": len(things), "grounds": len(generator.grounds)}
    for kind, places in (("", things), ("grounds_", list(generator.grounds))):
        whole = over_white(art[places].float() / 255)
        small = F.avg_pool2d(art[places].float() / 255, SIDE // generator.size)
        for name, source, crisp in (
            ("crisp", drawn[places], True),
            ("smooth", drawn[places], False),
            ("ceiling", small, True),
        ):
            made = over_white(torch.stack([enlarged(sprite, SIDE, crisp) for sprite in source]))
            figures[kind + name] = compared(made, whole)
        figures[kind + "white"] = compared(torch.ones_like(whole), whole)
    if sheet:
        names = ("house", "cat face", "owl", "rocket", "pizza", "guitar", "sailboat", "robot", "castle", "dog face")
        places = [generator.class_names.index(name) for name in names]
        large = torch.stack([enlarged(drawn[place], 512) for place in places])
        real = F.interpolate(art[places].float() / 255, size=512, mode="bicubic").clamp(0, 1)
        pairs = torch.stack([real, large], 1).flatten(0, 1)
        save_image(over_white(pairs), sheet, nrow=4)
    for name, value in figures.items():
        click.echo(f"{name}: {value}")
    click.echo(json.dumps(figures))


if __name__ == "__main__":
    main()
