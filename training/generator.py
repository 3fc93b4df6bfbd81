"""Step 2: the generator, a small BigGAN that learns every emoji by heart.

    python -m training.generator DATA --minutes 90

An auto-decoder: picture = G(noise, class code), with a code per concept, L1 losses at several sizes and on the
gradient, and an adversarial last part for the edges. The noise stands for continuous changes of the picture (see
``pictures.picture_of_noise``), so that the optimiser can later move, turn and tint what it dreams. Training runs on a
twin of the library's class with live batch norm and without spectral norm; ``training.export`` turns it into
``pytorch_pretrained_biggan``'s format. Resumable: the same command goes on from ``DATA/generator.pt``.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import click
import torch
import torch.nn.functional as F
from pytorch_pretrained_biggan import BigGANConfig
from torch import Tensor, nn
from torchvision.utils import save_image

from training.pictures import Pictures, picture_of_noise
from training.run import Run

SIZE = 64


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
    """The trainable twin of ``pytorch_pretrained_biggan.BigGAN``: noise, class code → picture in -1..1."""

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
        self.conv_to_rgb = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, noise: Tensor, code: Tensor) -> Tensor:
        condition = torch.cat([noise, code], 1)
        x = self.gen_z(condition).view(len(noise), 4, 4, -1).permute(0, 3, 1, 2)
        for layer in self.layers:
            x = layer(x, condition)
        return torch.tanh(self.conv_to_rgb(F.relu(self.bn(x))))


class Discriminator(nn.Module):
    """A small spectrally normalised patch critic, told the class code by projection."""

    def __init__(self, width: int, code: int) -> None:
        super().__init__()
        sizes = [3, width, 2 * width, 4 * width, 8 * width]
        self.convs = nn.ModuleList(
            nn.utils.parametrizations.spectral_norm(nn.Conv2d(ins, outs, 4, stride=2, padding=1))
            for ins, outs in pairwise(sizes)
        )
        self.score = nn.utils.parametrizations.spectral_norm(nn.Conv2d(sizes[-1], 1, 1))
        self.project = nn.Linear(code, sizes[-1])

    def forward(self, x: Tensor, code: Tensor) -> tuple[Tensor, list[Tensor]]:
        features = []
        for conv in self.convs:
            x = F.leaky_relu(conv(x), 0.2)
            features.append(x)
        match = (x * self.project(code)[:, :, None, None]).mean(1)
        return self.score(x)[:, 0] + match, features


def start_codes(pixels: Tensor, dim: int) -> Tensor:
    """Class codes from a PCA of the pictures at 16 px, so that like pictures start with like codes."""
    small = F.avg_pool2d(pixels.float() / 255, 6).flatten(1)
    small = small - small.mean(0)
    u, s, _ = torch.pca_lowrank(small, q=dim, niter=6)
    codes = u * s
    return codes / codes.std()


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
@click.option("--adversarial-from", default=0.65, show_default=True, help="Share of the time without a critic.")
@click.option("--batch", default=16, show_default=True)
@click.option("--lr", default=1.3e-3, show_default=True)
@click.option("--threads", default=1, show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(folder: Path, minutes: float, adversarial_from: float, batch: int, lr: float, threads: int, seed: int) -> None:
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    art = Pictures.load(folder)
    pixels = art.pixels[art.main_style()]
    twin = Twin(emoji_config(len(pixels))).to(memory_format=torch.channels_last)
    twin.codes.weight.data.copy_(start_codes(pixels, twin.config.z_dim))
    critic = Discriminator(32, twin.config.z_dim).to(memory_format=torch.channels_last)
    body = [p for name, p in twin.named_parameters() if not name.startswith("codes")]
    groups = [{"params": body}, {"params": [twin.codes.weight], "lr": 10 * lr}]
    optimizer = torch.optim.Adam(groups, lr=lr, betas=(0.5, 0.99), fused=True)
    critic_optimizer = torch.optim.Adam(critic.parameters(), lr=4e-4, betas=(0.5, 0.99), fused=True)
    parts = {"twin": twin, "critic": critic, "optimizer": optimizer, "critic_optimizer": critic_optimizer}
    run = Run(
        folder / "generator.pt", twin, parts, optimizer, minutes, decay=0.997, floor=0.03,
        report=lambda average: show(twin.config, average, pixels, folder / "generator.png"),
    )  # fmt: skip
    for share in run:
        index = torch.randint(len(pixels), (batch,))
        noise = torch.randn(batch, twin.config.z_dim)
        # Shapes first, changes later: the first tenth learns the plain pictures.
        amount = min(1.0, max(0.0, (share - 0.05) / 0.15))
        with torch.no_grad():
            real = picture_of_noise(pixels[index].float() / 255, noise, SIZE, amount) * 2 - 1
            real = real.contiguous(memory_format=torch.channels_last)
        code = twin.codes(index)
        with torch.autocast("cpu", torch.bfloat16):
            fake = twin(noise, code + 0.05 * torch.randn_like(code))
        fake = fake.float()
        loss = logged = reconstruction(fake, real)
        if share > adversarial_from:
            code = code.detach()
            with torch.autocast("cpu", torch.bfloat16):
                on_real, real_features = critic(real, code)
                on_fake, _ = critic(fake.detach(), code)
            critic_loss = F.relu(1 - on_real.float()).mean() + F.relu(1 + on_fake.float()).mean()
            critic_optimizer.zero_grad(set_to_none=True)
            critic_loss.backward()
            critic_optimizer.step()
            with torch.autocast("cpu", torch.bfloat16):
                on_fake, fake_features = critic(fake, code)
            match = sum(
                F.l1_loss(f.float(), r.detach().float()) for f, r in zip(fake_features, real_features, strict=True)
            )
            ramp = min(1.0, (share - adversarial_from) / 0.05)
            loss = loss + ramp * (0.5 * match - 0.05 * on_fake.float().mean())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        run.tell(logged)


@torch.no_grad()
def show(config: BigGANConfig, average: dict[str, Tensor], pixels: Tensor, path: Path) -> None:
    """A sheet of the art, the averaged generator's pictures of it, and both under random noise."""
    twin = Twin(config).eval()
    twin.load_state_dict(average)
    index = torch.linspace(0, len(pixels) - 1, 40).long()
    rows = []
    for noise in (torch.zeros(40, config.z_dim), torch.randn(40, config.z_dim)):
        rows.append(picture_of_noise(pixels[index].float() / 255, noise, SIZE))
        rows.append(twin(noise, twin.codes(index)) / 2 + 0.5)
    sheet = torch.cat([torch.cat([row[:20] for row in rows]), torch.cat([row[20:] for row in rows])])
    save_image(sheet, path, nrow=20)


if __name__ == "__main__":
    main()
