"""Step 2: the generator, a small BigGAN that learns every emoji, and every ground, by heart.

    python -m training.generator DATA --minutes 90

An auto-decoder: picture = G(noise, class code), with a code per class and L1 losses at several sizes and on the
gradient. Pictures are premultiplied RGBA: alpha is a fourth channel of the last convolution, and losses see them over
random grounds. Where a thing stands, how large and how turned, is the placement's business; the noise stands for tint
alone (see ``pictures.tinted``), and the capacity goes into the drawing. Training begins from the landed weights, runs on
a twin of the library's class with live batch norm and without spectral norm, and holds the batch norms' statistics
still for its last part. ``training.export`` turns the twin into ``pytorch_pretrained_biggan``'s format. Resumable: the
same command goes on from ``DATA/generator.pt``.
"""

from __future__ import annotations

import json
from pathlib import Path

import click
import numpy as np
import torch
import torch.nn.functional as F
from pytorch_pretrained_biggan import BigGANConfig
from torch import Tensor, nn
from torchvision.utils import save_image

from bigsleep.models.catalogue import EMOJI
from bigsleep.models.checkpoint import read_state
from training.grounds import GROUNDS
from training.pictures import compose, tinted
from training.run import Run
from training.texts import concept_text

SIZE = 64
GROUND_PRACTICE = 10.0  # how much more often a ground is drawn than a thing: few, wide, and behind everything
STILL_FROM = 0.6  # share of the time after which batch norms keep their statistics


def emoji_config(num_classes: int) -> BigGANConfig:
    """BigGAN for 64 px: like BigGAN-deep, two blocks a size, an eighth of its least width, no attention layer."""
    up, same = True, False
    layers = [
        (same, 16, 16), (up, 16, 8), (same, 8, 8), (up, 8, 4), (same, 4, 4), (up, 4, 2), (same, 2, 2), (up, 2, 1),
    ]  # fmt: skip
    return BigGANConfig(
        output_dim=SIZE, channel_width=32, num_classes=num_classes, layers=layers, attention_layer_position=99
    )


class ConditionalBatchNorm(nn.Module):
    """Batch norm whose scale and shift are read off the condition vector; statistics are the batch's own."""

    def __init__(self, features: int, condition: int, eps: float) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(features, affine=False, eps=eps, momentum=0.02)
        self.scale = nn.Linear(condition, features, bias=False)
        self.offset = nn.Linear(condition, features, bias=False)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale = 1 + self.scale(condition)[:, :, None, None]
        return torch.addcmul(self.offset(condition)[:, :, None, None], self.norm(x), scale)


class Block(nn.Module):
    """pytorch_pretrained_biggan's GenBlock, same names, without spectral norm."""

    def __init__(self, in_size: int, out_size: int, condition: int, up: bool, eps: float) -> None:
        super().__init__()
        middle = in_size // 4
        self.up, self.out_size = up, out_size
        self.bn_0 = ConditionalBatchNorm(in_size, condition, eps)
        self.conv_0 = nn.Conv2d(in_size, middle, 1)
        self.bn_1 = ConditionalBatchNorm(middle, condition, eps)
        self.conv_1 = nn.Conv2d(middle, middle, 3, padding=1)
        self.bn_2 = ConditionalBatchNorm(middle, condition, eps)
        self.conv_2 = nn.Conv2d(middle, middle, 3, padding=1)
        self.bn_3 = ConditionalBatchNorm(middle, condition, eps)
        self.conv_3 = nn.Conv2d(middle, out_size, 1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        skip = x[:, : self.out_size]
        x = self.conv_0(F.relu(self.bn_0(x, condition)))
        x = F.relu(self.bn_1(x, condition))
        if self.up:
            x, skip = (F.interpolate(t, scale_factor=2, mode="nearest") for t in (x, skip))
        x = self.conv_1(x)
        x = self.conv_2(F.relu(self.bn_2(x, condition)))
        return self.conv_3(F.relu(self.bn_3(x, condition))) + skip


class Twin(nn.Module):
    """The trainable twin of ``pytorch_pretrained_biggan.BigGAN``: noise, class code → premultiplied RGBA in -1..1."""

    def __init__(self, config: BigGANConfig) -> None:
        super().__init__()
        self.config = config
        width, condition = config.channel_width, 2 * config.z_dim
        self.codes = nn.Embedding(config.num_classes, config.z_dim)
        self.gen_z = nn.Linear(condition, 16 * 16 * width)
        self.layers = nn.ModuleList(
            Block(width * ins, width * outs, condition, up, config.eps) for up, ins, outs in config.layers
        )
        self.bn = nn.BatchNorm2d(width, eps=config.eps, momentum=0.02)
        self.conv_to_rgb = nn.Conv2d(width, 4, 3, padding=1)

    def forward(self, noise: Tensor, code: Tensor) -> Tensor:
        condition = torch.cat([noise, code], 1)
        x = self.gen_z(condition).view(len(noise), 4, 4, -1).permute(0, 3, 1, 2)
        for layer in self.layers:
            x = layer(x, condition)
        return torch.tanh(self.conv_to_rgb(F.relu(self.bn(x))))


def landed(twin: Twin, names: list[str]) -> None:
    """Start the twin from the shipped weights: those of a class by its name, all others as they are."""
    state, before = read_state(EMOJI / "generator.safetensors"), json.loads((EMOJI / "config.json").read_text())
    place = {name: i for i, name in enumerate(before["class_names"])}
    codes = state["embeddings.weight"].float().T
    own = twin.state_dict()
    for i, name in enumerate(names):
        # A class that is new begins in the middle of the others.
        own["codes.weight"][i] = (
            codes[place[name]] if name in place else codes.mean(0) + 0.1 * torch.randn(codes.shape[1])
        )
    for name, value in own.items():
        name, _, part = name.rpartition(".")
        source = f"generator.{name.removesuffix('.norm')}"
        if part in ("running_mean", "running_var"):
            value.copy_(state[f"{source}.{part}s"][0])
        elif f"{source}.{part}_orig" in state:
            value.copy_(state[f"{source}.{part}_orig"][: len(value)].float())
        elif f"{source}.{part}" in state:
            value.copy_(state[f"{source}.{part}"][: len(value)].float())
    twin.load_state_dict(own)


def drawn(folder: Path) -> tuple[Tensor, Tensor]:
    """What the generator shall draw: premultiplied RGBA in 0..1 at 64 px ``[C, 4, 64, 64]``, and uint8 at 256."""
    large = torch.from_numpy(np.load(folder / "drawn.npz")["pictures"]).permute(0, 3, 1, 2).contiguous()
    # Reduced by area: bilinear sampling would alias.
    small = torch.cat([F.avg_pool2d(part.float() / 255, large.shape[2] // SIZE) for part in large.split(128)])
    return small, large


def gradient_l1(a: Tensor, b: Tensor) -> Tensor:
    """L1 distance of the pictures' horizontal and vertical differences."""
    d = a - b
    return (d[..., 1:] - d[..., :-1]).abs().mean() + (d[..., 1:, :] - d[..., :-1, :]).abs().mean()


def reconstruction(fake: Tensor, real: Tensor) -> Tensor:
    """L1 at 64, 32 and 16 pixels, and on the gradient at 64."""
    loss = F.l1_loss(fake, real) + 0.8 * gradient_l1(fake, real)
    for factor in (2, 4):
        loss = loss + 0.5 * F.l1_loss(F.avg_pool2d(fake, factor), F.avg_pool2d(real, factor))
    return loss


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True))
@click.option("--minutes", default=90.0, show_default=True, help="Training time in all, restarts included.")
@click.option("--batch", default=16, show_default=True)
@click.option("--lr", default=1.3e-3, show_default=True)
@click.option("--threads", default=1, show_default=True)
@click.option("--device", default="cpu", show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(folder: Path, minutes: float, batch: int, lr: float, threads: int, device: str, seed: int) -> None:
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    pixels = drawn(folder)[0].to(device)
    twin = Twin(emoji_config(len(pixels)))
    landed(twin, class_names(folder))
    twin = twin.to(device, memory_format=torch.channels_last)
    body = [p for name, p in twin.named_parameters() if not name.startswith("codes")]
    groups = [{"params": body}, {"params": [twin.codes.weight], "lr": 5 * lr}]
    optimizer = torch.optim.Adam(groups, lr=lr, betas=(0.5, 0.99), fused=True)
    run = Run(
        folder / "generator.pt", twin, {"twin": twin, "optimizer": optimizer}, optimizer, minutes, decay=0.998,
        floor=0.02, report=lambda average: show(twin.config, average, pixels.cpu(), folder / "generator.png"),
    )  # fmt: skip
    misses = torch.ones(len(pixels), device=device)  # by class, of late: what is drawn badly is practised more
    often = torch.ones(len(pixels), device=device)
    often[-len(GROUNDS) :] = GROUND_PRACTICE
    for share in run:
        twin.train(share < STILL_FROM)
        index = torch.multinomial(misses * often, batch, replacement=True)
        # A half without noise: the picture at zero is what most dreams begin from.
        noise = torch.randn(batch, twin.config.z_dim, device=device) * (torch.rand(batch, 1, device=device) < 0.5)
        real = tinted(pixels[index], noise).contiguous(memory_format=torch.channels_last)
        code = twin.codes(index)
        with torch.autocast(device.split(":")[0], torch.bfloat16):
            fake = twin(noise, code + 0.03 * torch.randn_like(code))
        fake = fake.float() / 2 + 0.5
        ground = torch.rand(batch, 3, device=device)
        alpha = (fake[:, 3] - real[:, 3]).abs().mean()
        loss = reconstruction(compose(fake, ground, clamp=False), compose(real, ground)) + 0.5 * alpha
        with torch.no_grad():
            misses[index] = misses[index].lerp((fake - real).abs().mean((1, 2, 3)) / 0.02, 0.2).clamp(0.3, 3)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        run.tell(loss)


def class_names(folder: Path) -> list[str]:
    """What the generator's classes are called: the concepts, then the grounds."""
    concepts = json.loads((folder / "concepts.json").read_text())
    return [concept_text(concept["label"]) for concept in concepts] + list(GROUNDS)


@torch.no_grad()
def show(config: BigGANConfig, average: dict[str, Tensor], pixels: Tensor, path: Path) -> None:
    """The averaged generator's L1 distance from the art, and a sheet of both, plain and under random noise."""
    twin = Twin(config).eval()
    twin.load_state_dict(average)
    nothing = torch.zeros(len(pixels), config.z_dim)
    plain = torch.cat([twin(nothing[i], twin.codes(i)) / 2 + 0.5 for i in torch.arange(len(pixels)).split(64)])
    grounds, things = (
        (plain[-len(GROUNDS) :], pixels[-len(GROUNDS) :]),
        (plain[: -len(GROUNDS)], pixels[: -len(GROUNDS)]),
    )
    click.echo(f"L1 over white: things {distance(*things):.4f}, grounds {distance(*grounds):.4f}")
    index = torch.cat([torch.linspace(0, len(pixels) - 16, 45).long(), torch.arange(len(pixels) - 15, len(pixels))])
    noise = torch.randn(len(index), config.z_dim)
    rows = [pixels[index], plain[index], tinted(pixels[index], noise), twin(noise, twin.codes(index)) / 2 + 0.5]
    rows = [compose(row, torch.full((len(row), 3), 0.9)) for row in rows]
    sheet = torch.cat([torch.cat([row[i : i + 20] for row in rows]) for i in (0, 20, 40)])
    save_image(sheet, path, nrow=20)


def distance(made: Tensor, art: Tensor) -> float:
    """Mean L1 of premultiplied RGBA over white."""
    white = torch.ones(len(art), 3)
    return F.l1_loss(compose(made, white), compose(art, white)).item()


if __name__ == "__main__":
    main()
