"""The published architectures at full size with random weights that behave: for benchmarks and tests."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pytorch_pretrained_biggan import BigGAN, BigGANConfig
from torch import nn

from bigsleep.models.published import BIGGAN_LAYERS

VIT_B_32 = dict(
    embed_dim=512, image_resolution=224, vision_layers=12, vision_width=768, vision_patch_size=32, context_length=77,
    vocab_size=49408, transformer_width=512, transformer_heads=8, transformer_layers=12,
)  # fmt: skip

RN50_X4 = dict(
    embed_dim=640, image_resolution=288, vision_layers=(4, 6, 10, 6), vision_width=80, vision_patch_size=None,
    context_length=77, vocab_size=49408, transformer_width=640, transformer_heads=10, transformer_layers=12,
)  # fmt: skip
CLIPS = {"ViT-B/32": VIT_B_32, "RN50x4": RN50_X4}


def biggan_config(size: int, channel_width: int = 128, num_classes: int = 1000) -> BigGANConfig:
    """The published configuration of a size, at full width unless told otherwise."""
    return BigGANConfig(
        output_dim=size, layers=BIGGAN_LAYERS[size], channel_width=channel_width, num_classes=num_classes
    )


@torch.no_grad()
def settle(model: nn.Module) -> None:
    """Make a randomly initialised BigGAN usable: spectral norms estimated, no uninitialised memory left."""
    for module in model.modules():
        if hasattr(module, "weight_orig"):
            matrix = module.weight_orig.flatten(1)
            for _ in range(12):
                module.weight_v.copy_(F.normalize(matrix.T @ module.weight_u, dim=0))
                module.weight_u.copy_(F.normalize(matrix @ module.weight_v, dim=0))
        if hasattr(module, "running_means"):
            module.running_means.normal_(0, 0.1)
            module.running_vars.uniform_(0.5, 1.5)
        if hasattr(module, "gamma"):
            module.gamma.fill_(0.7)
    nn.init.uniform_(model.generator.bn.weight, 0.5, 1.5)
    nn.init.normal_(model.generator.bn.bias, 0, 0.1)


def random_biggan(config: BigGANConfig, seed: int = 0) -> BigGAN:
    """The library's BigGAN with random weights, in eval mode."""
    torch.manual_seed(seed)
    model = BigGAN(config).eval()
    settle(model)
    return model
