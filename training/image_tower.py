"""Step 5: the image tower, CLIP's ResNet at 64 px, learns to see what is in a scene.

    python -m training.image_tower DATA --minutes 35

Goes on from the landed weights; the text tower stays as it is, and pictures learn to lie where it puts their captions.
Batches are scenes with their siblings (``training.scenes``), so that each picture has its hardest rivals beside it, and
single pictures of every concept. Resumes from ``DATA/image_tower.pt``. Prints, before and after: which of 100 captions fits
best, whether the caption beats its sibling's (and the picture its sibling) by kind, both on held-out pairs of things, and
what share of the plain art is known for what it is.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import click
import torch
import torch.nn.functional as F
from clip.model import ModifiedResNet
from torch import Tensor, nn

from bigsleep.models.catalogue import EMOJI, load_perceptor
from bigsleep.models.checkpoint import read_state
from training.pictures import Pictures, compose, turn_colours, warp
from training.rendering import Renderer, as_seen
from training.run import Run
from training.scenes import Writer

SIZE = 64
# CLIP's own normalisation of RGB in 0..1
MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073])[:, None, None]
STD = torch.tensor([0.26862954, 0.26130258, 0.27577711])[:, None, None]
SHARPNESS = 28  # of the softmax over cosines; what the landed tower was taught with, about
Encode = Callable[[list[str]], Tensor]
ALIKE = 0.97  # cosine of captions from which on the picture cannot tell them apart


def landed_tower() -> ModifiedResNet:
    """The shipped perceptor's image tower, ready to be trained."""
    state = read_state(EMOJI / "perceptor.safetensors")
    visual = {key.removeprefix("visual."): value.float() for key, value in state.items() if key.startswith("visual.")}
    width = visual["layer1.0.conv1.weight"].shape[0]
    blocks = tuple(len({key.split(".")[1] for key in visual if key.startswith(f"layer{i}.")}) for i in range(1, 5))
    tower = ModifiedResNet(blocks, visual["attnpool.c_proj.bias"].shape[0], width * 32 // 64, SIZE, width)
    tower.load_state_dict(visual, strict=False)  # the batch norms' counters are not shipped
    return tower.to(memory_format=torch.channels_last)


def augment(rgba: Tensor, strength: float) -> Tensor:
    """Crops, tilts, flips, grounds, light, blur and noise on premultiplied RGBA in 0..1: RGB ``[B, 3, SIZE, SIZE]``."""
    batch, device = len(rgba), rgba.device

    def spread(*shape: int) -> Tensor:
        return torch.randn(batch, *shape, device=device) * strength

    flip = torch.rand(batch, device=device) < 0.5
    rgba = torch.where(flip[:, None, None, None], rgba.flip(3), rgba)
    rgba = warp(rgba, 0.15 * spread(2), torch.exp(0.08 + 0.25 * spread()), 0.2 * spread(), SIZE)
    rgb = turn_colours(rgba[:, :3], 0.1 * spread(), torch.exp(0.25 * spread()))
    white = torch.rand(batch, 1, device=device) < 0.4
    plain = torch.where(white, 1.0, torch.sigmoid(2 + 2 * torch.randn(batch, 3, device=device)))
    rgb = compose(torch.cat([rgb, rgba[:, 3:]], 1), plain)
    rgb = ((rgb - 0.5) * torch.exp(0.2 * spread(1, 1, 1)) + 0.5 + 0.08 * spread(1, 1, 1)).clamp(0, 1)
    if half := int(batch * torch.rand(()) * strength) if torch.rand(()) < 0.5 else 0:
        size = int(torch.randint(20, 56, ()))
        small = F.interpolate(rgb[:half], size=(size, size), mode="bilinear", antialias=True)
        rgb = torch.cat([F.interpolate(small, size=(SIZE, SIZE), mode="bilinear"), rgb[half:]])
    return rgb + 0.04 * strength * torch.rand(batch, 1, 1, 1, device=device) * torch.randn_like(rgb)


def features(tower: nn.Module, rgb: Tensor) -> Tensor:
    """Unit features ``[B, D]`` of RGB ``[B, 3, SIZE, SIZE]`` in 0..1, in bf16 within."""
    rgb = ((rgb - MEAN.to(rgb)) / STD.to(rgb)).contiguous(memory_format=torch.channels_last)
    with torch.autocast(rgb.device.type, torch.bfloat16):
        seen = tower(rgb)
    return F.normalize(seen.float(), dim=1)


def choice(logits: Tensor, alike: Tensor) -> Tensor:
    """Cross-entropy of the diagonal among what is not ``alike`` to it, by rows and by columns."""
    logits = logits.masked_fill(alike, -1e4)
    right = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2


def siblings_apart(logits: Tensor, alike: Tensor) -> Tensor:
    """Softplus of how far a sibling's caption, or picture, is ahead; the first half's siblings are the second half."""
    half = len(logits) // 2
    own, other = logits.diagonal(), logits.roll(half, 1).diagonal()
    ahead = torch.cat([other - own, logits.roll(half, 0).diagonal() - own])
    told_apart = ~alike.roll(half, 1).diagonal().repeat(2)
    return F.softplus(ahead[told_apart]).mean() if told_apart.any() else logits.sum() * 0


class Exam:
    """Held-out scenes with their siblings, and the plain art: what a tower makes of them."""

    def __init__(self, art: Pictures, renderer: Renderer, encode: Encode, concepts: Tensor, count: int = 400) -> None:
        chance = random.Random(5)
        writer = Writer(art.concepts, chance, unseen=True)
        self.scenes = [writer.write() for _ in range(count)]
        scenes = self.scenes + [writer.sibling(scene) for scene in self.scenes]
        seeds = [chance.randrange(2**31) for _ in range(count)] * 2
        self.pictures = renderer.render(scenes, seeds, 0.3)
        self.texts = encode([scene.caption for scene in scenes])
        self.concepts = concepts
        main = F.interpolate(
            art.pixels[art.main_style()].float() / 255, size=(SIZE, SIZE), mode="bilinear", antialias=True
        )
        self.singles = compose(main, torch.ones(len(main), 3)).to(self.pictures)

    @torch.no_grad()
    def mark(self, tower: nn.Module) -> str:
        """A line of figures."""
        tower.eval()
        seen = torch.cat([features(tower, part) for part in self.pictures.split(100)])
        half = len(self.scenes)
        own, other = seen[:half], seen[half:]
        ranks = torch.cat([
            ((scores := pictures @ texts.T) > scores.diagonal()[:, None]).sum(1)
            for pictures, texts in zip(own.split(100), self.texts[:half].split(100), strict=True)
        ])  # fmt: skip
        right = (own * self.texts[:half]).sum(1)
        by_text, by_picture = right > (own * self.texts[half:]).sum(1), right > (other * self.texts[:half]).sum(1)
        known = torch.cat([features(tower, part) for part in self.singles.split(100)]) @ self.concepts.T
        top = (known.argmax(1) == torch.arange(len(known), device=known.device)).float().mean()
        kinds = defaultdict(list)
        for scene, text, picture in zip(self.scenes, by_text.tolist(), by_picture.tolist(), strict=True):
            kinds[scene.kind] += [text, picture]
        shares = ", ".join(f"{kind} {sum(marks) / len(marks):.2f}" for kind, marks in sorted(kinds.items()))
        return (
            f"of 100 captions first {(ranks == 0).float().mean():.3f}, in five {(ranks < 5).float().mean():.3f}; sibling's "
            f"caption beaten {by_text.float().mean():.3f}, picture {by_picture.float().mean():.3f}; cosine "
            f"{right.mean():.3f}; singles {top:.4f}\n  {shares}"
        )


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True))
@click.option("--minutes", default=35.0, show_default=True, help="Training time in all, restarts included.")
@click.option("--batch", default=64, show_default=True)
@click.option("--lr", default=8e-4, show_default=True)
@click.option("--threads", default=1, show_default=True)
@click.option("--device", default="cpu", show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(folder: Path, minutes: float, batch: int, lr: float, threads: int, device: str, seed: int) -> None:
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    art = Pictures.load(folder)
    perceptor = load_perceptor("emoji")
    concepts = read_state(EMOJI / "generator.safetensors")["class_features"][: len(art.concepts)].float().to(device)

    def encode(texts: list[str]) -> Tensor:
        return perceptor.encode_text(texts).to(device)

    everything = torch.ones(len(art.concept), dtype=torch.bool)
    renderer = Renderer(art, folder, everything, plainest=0.5, seed=seed, device=device)
    exam = Exam(art, renderer, encode, concepts)
    tower = landed_tower().to(device)
    click.echo(f"before: {exam.mark(tower)}")
    optimizer = torch.optim.AdamW(tower.parameters(), lr=lr, betas=(0.9, 0.98), weight_decay=0.02, fused=True)
    parts = {"tower": tower, "optimizer": optimizer}

    def report(average: dict[str, Tensor]) -> None:
        judged = landed_tower().to(device)
        judged.load_state_dict(average)
        click.echo(f"step {run.step}, {run.spent / 60:.0f} minutes: {exam.mark(judged)}")

    run = Run(folder / "image_tower.pt", tower, parts, optimizer, minutes, warmup=60, floor=0.0, report=report)
    chance = random.Random(seed + run.step)
    writer = Writer(art.concepts, chance)
    look = as_seen(0.8, 1.3, 1.0)
    pairs = batch // 3
    main_rows = art.main_style()
    for _ in run:
        tower.train()
        scenes = [writer.write() for _ in range(pairs)]
        scenes += [writer.sibling(scene) for scene in scenes]
        seeds = [chance.randrange(2**31) for _ in range(pairs)] * 2
        composites = look(renderer.render(scenes, seeds, 0.6))
        index = torch.randint(len(art.concept), (batch - len(scenes),))
        index = torch.where(torch.rand(len(index)) < 0.5, index, main_rows[art.concept[index]])
        concept = art.concept[index].to(device)
        singles = augment(
            F.interpolate(art.pixels[index].to(device).float() / 255, size=(SIZE, SIZE), mode="bilinear"), 0.5
        )
        seen = features(tower, torch.cat([composites, singles]))
        meant = torch.cat([encode([scene.caption for scene in scenes]), concepts[concept]])
        alike = (meant @ meant.T > ALIKE).fill_diagonal_(False)
        logits = SHARPNESS * seen @ meant.T
        loss = 2 * (1 - (seen * meant).sum(1).mean()) + choice(logits, alike)
        loss = loss + 0.3 * siblings_apart(logits[: len(scenes), : len(scenes)], alike[: len(scenes), : len(scenes)])
        loss = loss + 0.35 * F.cross_entropy(25 * seen[len(scenes) :] @ concepts.T, concept)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(tower.parameters(), 5.0)
        optimizer.step()
        run.tell(loss)


if __name__ == "__main__":
    main()
