"""How exact the fast path is, and whether bf16 costs any likeness.

    python -m benchmarks.exactness

At full size with random weights, 8 cutouts at 256 px: our generator, CLIP features and latents' gradient against the plain
libraries' in fp32, and our bf16 gradient against our fp32 one. Then, with the built-in pair, 20 prompts with two seeds in
both precisions: the difference that bf16 makes to the final score, beside the difference that a seed makes.
"""

from __future__ import annotations

import json
from pathlib import Path

import click
import torch
import torch.nn.functional as F
from clip.model import CLIP
from torch import Tensor

from benchmarks.quality import read_prompts
from benchmarks.random_models import VIT_B_32, biggan_config, random_biggan
from bigsleep import Dream, Models, Settings
from bigsleep.cutouts import cut, draw_cutouts
from bigsleep.models.generator import Generator
from bigsleep.models.perceptor import MEAN, STD, Perceptor

SIZE, CUTOUTS = 256, 8


def full_size() -> dict[str, float]:
    """Differences to the plain libraries on one start, all stages given the same row."""
    config = biggan_config(SIZE)
    library = random_biggan(config)
    generator = Generator(config, library.state_dict())
    clip = CLIP(**VIT_B_32).eval()
    for parameter in clip.parameters():  # as published: CLIP's loader keeps no more than fp16 holds
        parameter.data.copy_(parameter.data.half())
    perceptor = Perceptor(clip.state_dict(), "ViT-B/32")
    random = torch.Generator().manual_seed(0)
    cutouts = draw_cutouts(CUTOUTS, 0.5, 0.95, 0.0, random)
    noise = torch.randn(1, 128, generator=random)
    classes = torch.sigmoid(-3.9 + 0.3 * torch.randn(1, 1000, generator=random))
    goal = perceptor.encode_text(["a beautiful house"])[0]
    normalise = (torch.tensor(MEAN)[:, None, None], torch.tensor(STD)[:, None, None])

    def plain(row: Tensor) -> tuple[Tensor, Tensor]:
        image = library(row, classes, 1.0) / 2 + 0.5
        return image, F.normalize(clip.encode_image((cut(image, cutouts, 224) - normalise[0]) / normalise[1]), dim=1)

    def ours(row: Tensor, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
        lower = dtype != torch.float32
        g, p = (generator.lowered(dtype), perceptor.lowered(dtype)) if lower else (generator, perceptor)
        image = g(row[:, None].expand(-1, g.stages, -1), classes[:, None].expand(-1, g.stages, -1)) / 2 + 0.5
        return image, p.encode_images(cut(image, cutouts, 224))

    results = []
    for forward in (plain, ours, lambda row: ours(row, torch.bfloat16)):
        row = noise.clone().requires_grad_()
        image, features = forward(row)
        (gradient,) = torch.autograd.grad((features @ goal).mean(), row)
        results.append((image.detach(), features.detach(), gradient[0]))
    (image, features, gradient), (our_image, our_features, our_gradient), (_, _, low_gradient) = results
    return {
        "picture_max_difference": float((our_image - image).abs().max()),
        "features_relative_difference": float((our_features - features).norm() / features.norm()),
        "gradient_cosine_fp32": float(torch.cosine_similarity(our_gradient, gradient, dim=0)),
        "gradient_cosine_bf16": float(torch.cosine_similarity(low_gradient, our_gradient, dim=0)),
    }


def scores(precision: str, prompts: list[str]) -> Tensor:
    """Best scores ``[prompts, 2 seeds]`` of the built-in pair."""
    settings = Settings(model="emoji", precision=precision, save_every=1_000_000)
    models = Models.load(settings)
    rows = []
    for prompt in prompts:
        row = []
        for seed in (1, 2):
            row += [snapshot.score for snapshot in Dream(prompt, settings, models=models, seed=seed)]
        rows.append(row)
    return torch.tensor(rows)


@click.command()
def main() -> None:
    prompts = read_prompts(Path(__file__).parent / "tuning_prompts.txt")[:20]
    low, full = scores("bf16", prompts), scores("fp32", prompts)
    figures = full_size() | {
        "score_difference_of_precision": float((low - full).abs().mean()),
        "score_difference_of_seed": float((full[:, 0] - full[:, 1]).abs().mean()),
        "mean_score_bf16": float(low.mean()),
        "mean_score_fp32": float(full.mean()),
    }
    click.echo(json.dumps({name: float(f"{value:.5g}") for name, value in figures.items()}))


if __name__ == "__main__":
    main()
