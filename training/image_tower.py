"""Step 5: the image tower, CLIP's ResNet at 64 px, taught to see what the words mean.

    python -m training.image_tower DATA --minutes 50
    python -m training.image_tower DATA --minutes 25 --judge

Targets are the concepts' vectors in the sentence encoder's space. Batches mix the art in all styles, recoloured art
that stands for "a purple tulip", and the generator's own pictures and blends of two of its classes (read anew from
``DATA/generator.pt`` as that trains). ``--judge`` trains another shape from another seed for ``benchmarks.quality``.
Both go on from their checkpoints, ``DATA/image_tower.pt`` and ``DATA/judge.pt``.
"""

from __future__ import annotations

import math
import time
from pathlib import Path

import click
import torch
import torch.nn.functional as F
from clip.model import ModifiedResNet
from torch import Tensor, nn

from training.generator import Twin, emoji_config
from training.pictures import Pictures, compose, dominant_hue, hue_of, turn_colours, warp
from training.run import Run
from training.texts import COLOURS, DIM

SIZE = 64
# CLIP's own normalisation of RGB in 0..1
MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073])[:, None, None]
STD = torch.tensor([0.26862954, 0.26130258, 0.27577711])[:, None, None]


def build_tower(judge: bool) -> ModifiedResNet:
    """The perceptor's image tower, or the judge's: fewer early blocks, more width."""
    layers, width = ((1, 1, 2, 1), 40) if judge else ((2, 2, 2, 2), 32)
    tower = ModifiedResNet(layers, DIM, width * 32 // 64, SIZE, width)
    for name, parameter in tower.named_parameters():
        if name.endswith("bn3.weight") and name.startswith("layer"):
            nn.init.zeros_(parameter)
        if name.startswith("attnpool") and name.endswith("proj.weight"):
            nn.init.normal_(parameter, std=(width * 32) ** -0.5)
    return tower.to(memory_format=torch.channels_last)


def augment(rgba: Tensor, strength: float) -> Tensor:
    """Crops, tilts, flips, grounds, light, blur and noise on premultiplied RGBA in 0..1: RGB ``[B, 3, SIZE, SIZE]``."""
    batch = len(rgba)

    def spread(*shape: int) -> Tensor:
        return torch.randn(batch, *shape) * strength

    flip = torch.rand(batch) < 0.5
    rgba = torch.where(flip[:, None, None, None], rgba.flip(3), rgba)
    rgba = warp(rgba, 0.15 * spread(2), torch.exp(0.08 + 0.25 * spread()), 0.2 * spread(), SIZE)
    rgb = turn_colours(rgba[:, :3], 0.1 * spread(), torch.exp(0.25 * spread()))
    plain = torch.where(torch.rand(batch, 1) < 0.4, torch.ones(batch, 3), torch.sigmoid(2 + 2 * torch.randn(batch, 3)))
    rgb = compose(torch.cat([rgb, rgba[:, 3:]], 1), plain)
    rgb = ((rgb - 0.5) * torch.exp(0.2 * spread(1, 1, 1)) + 0.5 + 0.08 * spread(1, 1, 1)).clamp(0, 1)
    if torch.rand(()) < 0.5:
        half = int(batch * torch.rand(()) * strength)
        size = int(torch.randint(20, 56, ()))
        small = F.interpolate(rgb[:half], size=(size, size), mode="bilinear", antialias=True) if half else rgb[:0]
        rgb = torch.cat([F.interpolate(small, size=(SIZE, SIZE), mode="bilinear"), rgb[half:]]) if half else rgb
    return rgb + 0.04 * strength * torch.rand(batch, 1, 1, 1) * torch.randn_like(rgb)


class Dreamt:
    """A stock of the generator's own pictures, a third of them blends, with what they should mean."""

    def __init__(self, checkpoint: Path, targets: Tensor) -> None:
        self.checkpoint, self.targets = checkpoint, targets

    @torch.no_grad()
    def refresh(self, count: int = 3072) -> None:
        average = torch.load(self.checkpoint, weights_only=True)["average"]
        twin = Twin(emoji_config(len(self.targets))).eval()
        twin.load_state_dict(average)
        twin.to(memory_format=torch.channels_last)
        first, second = torch.randint(len(self.targets), (2, count))
        weight = torch.where(torch.rand(count, 1) < 0.33, 0.5 + 0.5 * torch.rand(count, 1), torch.ones(count, 1))
        codes = weight * twin.codes(first) + (1 - weight) * twin.codes(second)
        noise = torch.randn(count, twin.config.z_dim) * torch.rand(count, 1).sqrt() * 1.2
        with torch.autocast("cpu", torch.bfloat16):
            made = [twin(n, c) for n, c in zip(noise.split(64), codes.split(64), strict=True)]
        self.pixels = ((torch.cat(made).float() / 2 + 0.5).clamp(0, 1) * 255).byte()
        self.meaning = F.normalize(weight * self.targets[first] + (1 - weight) * self.targets[second], dim=1)
        self.first = torch.where(weight[:, 0] > 0.7, first, -1)  # -1: no single right answer

    def draw(self, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """``(RGBA pixels in 0..1, target vectors, concept or -1)``."""
        index = torch.randint(len(self.pixels), (count,))
        rgb = self.pixels[index].float() / 255
        return torch.cat([rgb, torch.ones_like(rgb[:, :1])], 1), self.meaning[index], self.first[index]


def resize(rgba: Tensor, size: int) -> Tensor:
    return F.interpolate(rgba, size=(size, size), mode="bilinear", align_corners=False)


@torch.no_grad()
def accuracy(tower: nn.Module, art: Pictures, index: Tensor, targets: Tensor) -> str:
    """Top-1 share and median rank of the right concept for clean pictures on white."""
    rgba = F.interpolate(art.pixels[index].float() / 255, size=(SIZE, SIZE), mode="bilinear", antialias=True)
    rgb = compose(rgba, torch.ones(len(rgba), 3))
    features = torch.cat([F.normalize(tower((x - MEAN) / STD).float(), dim=1) for x in rgb.split(128)])
    scores = features @ targets.T
    right = scores.gather(1, art.concept[index][:, None])
    rank = (scores > right).sum(1)
    return f"top-1 {(rank == 0).float().mean():.3f} median rank {rank.median().item() + 1}"


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True))
@click.option("--minutes", default=50.0, show_default=True)
@click.option("--judge", is_flag=True, help="Train the benchmark's independent judge instead.")
@click.option("--batch", default=64, show_default=True)
@click.option("--lr", default=1.3e-3, show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(folder: Path, minutes: float, judge: bool, batch: int, lr: float, seed: int) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(seed + 1000 * judge)
    art = Pictures.load(folder)
    texts = torch.load(folder / "texts.pt", weights_only=True)
    targets, coloured = texts["concepts"].float(), texts["coloured"].float()
    hue, ruled = dominant_hue(art.pixels)
    hue_names = torch.tensor([hue_of(rgb) for rgb in COLOURS.values()])
    # Held out: some pictures of the styles that the generator does not draw.
    held_out = (torch.rand(len(art.concept), generator=torch.Generator().manual_seed(7)) < 0.05) & (art.style > 1)
    train, unseen = (~held_out).nonzero()[:, 0], held_out.nonzero()[:, 0]
    tower = build_tower(judge)
    helper = nn.Linear(tower.attnpool.k_proj.in_features, len(targets))  # classifies pooled features; dropped later
    pooled: list[Tensor] = []
    tower.layer4.register_forward_hook(lambda _m, _i, out: pooled.append(out.mean((2, 3))))
    parameters = [*tower.parameters(), *helper.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=lr, betas=(0.9, 0.98), weight_decay=0.02, fused=True)
    parts = {"tower": tower, "helper": helper, "optimizer": optimizer}
    run = Run(
        folder / ("judge.pt" if judge else "image_tower.pt"), tower, parts, optimizer, minutes,
        report=lambda average: report(judge, average, art, unseen, targets),
    )  # fmt: skip
    dreamt = Dreamt(folder / "generator.pt", targets)
    refreshed = -math.inf
    for share in run:
        if time.monotonic() - refreshed > 240:
            dreamt.refresh()
            refreshed = time.monotonic()
        strength = 0.1 + 0.6 * min(1.0, share / 0.7)
        made = int(batch * 0.4)
        index = train[torch.randint(len(train), (batch - made,))]
        rgba = resize(art.pixels[index].float() / 255, SIZE)
        meaning, concept = targets[art.concept[index]], art.concept[index]
        recolour = (torch.rand(len(index)) < 0.25) & (ruled[index] > 0.6)
        colour = torch.randint(len(COLOURS), (len(index),))
        turn = torch.where(recolour, hue_names[colour] - hue[index], torch.zeros(len(index)))
        rgba = torch.cat([turn_colours(rgba[:, :3], turn, torch.ones(len(index))).clamp(0, 1), rgba[:, 3:]], 1)
        own_colours = coloured[art.concept[index]]
        meaning = torch.where(recolour[:, None], own_colours[torch.arange(len(index)), colour], meaning)
        extra, extra_meaning, extra_concept = dreamt.draw(made)
        images = augment(torch.cat([rgba, extra]), strength)
        images = ((images - MEAN) / STD).contiguous(memory_format=torch.channels_last)
        meaning, concept = torch.cat([meaning, extra_meaning]), torch.cat([concept, extra_concept])
        pooled.clear()
        with torch.autocast("cpu", torch.bfloat16):
            features = tower(images)
            guesses = helper(pooled[0])
        features = F.normalize(features.float(), dim=1)
        # A recoloured thing is judged among its colours, all others among the concepts.
        plain = torch.where(torch.cat([recolour, torch.zeros(made, dtype=torch.bool)]), -1, concept)
        loss = 2 * (1 - (features * meaning).sum(1).mean())
        loss = loss + F.cross_entropy(25 * features @ targets.T, plain, ignore_index=-1)
        loss = loss + 0.5 * F.cross_entropy(guesses.float(), concept, ignore_index=-1, label_smoothing=0.1)
        if recolour.any():
            near = torch.einsum("bd,bcd->bc", features[: len(index)][recolour], own_colours[recolour])
            loss = loss + 0.3 * F.cross_entropy(25 * near, colour[recolour])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        run.tell(loss)


def report(judge: bool, average: dict[str, Tensor], art: Pictures, unseen: Tensor, targets: Tensor) -> None:
    tower = build_tower(judge).eval()
    tower.load_state_dict(average)
    click.echo(f"unseen pictures: {accuracy(tower, art, unseen, targets)}")


if __name__ == "__main__":
    main()
