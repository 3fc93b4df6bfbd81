"""BigGAN-deep (Brock et al. 2019) for optimising: frozen, folded, with one condition vector per stage.

Built from a ``pytorch_pretrained_biggan`` checkpoint. Spectral norms are divided out of the weights, batch norms become
one scale and shift, and the last convolution makes the three channels that are used instead of all. The pictures are
the library's own to rounding.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bigsleep.errors import BigsleepError
from bigsleep.models.lean import lean_import

if TYPE_CHECKING:
    from pytorch_pretrained_biggan import BigGANConfig

State = Mapping[str, Tensor]


def folded_weight(state: State, name: str) -> Tensor:
    """The weight ``name`` divided by its spectral norm, as the library's eval mode has it.

    Spectral norm estimates the greatest singular value as ``u^T W v`` with the stored vectors (Miyato et al. 2018).
    """
    weight, u = state[f"{name}.weight_orig"].float(), state[f"{name}.weight_u"].float()
    matrix = weight.flatten(1)
    v = state.get(f"{name}.weight_v")
    v = F.normalize(matrix.T @ u, dim=0) if v is None else v.float()
    return weight / torch.dot(u, matrix @ v)


def frozen(tensor: Tensor) -> nn.Parameter:
    return nn.Parameter(tensor, requires_grad=False)


def frozen_conv(state: State, name: str, outputs: int | None = None) -> nn.Conv2d:
    """A convolution with its spectral norm folded in; only the first ``outputs`` channels where given."""
    weight = folded_weight(state, name)[:outputs].contiguous(memory_format=torch.channels_last)
    bias = state.get(f"{name}.bias")
    conv = nn.Conv2d(1, 1, 1, padding=weight.shape[-1] // 2, bias=bias is not None, device="meta")
    conv.weight = frozen(weight)
    if bias is not None:
        conv.bias = frozen(bias[:outputs].float().clone())
    return conv


def statistics_at(rows: Tensor, truncation: float) -> Tensor:
    """Batch-norm statistics ``[F]`` for a truncation in 0..1 out of ``rows`` ``[51, F]``, linearly between two rows.

    The library gives each of two neighbouring rows the other's share; at its grid of 0.02 there is no difference.
    """
    place = truncation * (len(rows) - 1)
    # 0.3 * 50 is 14.999...: a grid point must be met exactly, or an untouched neighbour row would leak in.
    place = round(place) if abs(place - round(place)) < 1e-6 else place
    low = math.floor(place)
    share = place - low
    return rows[low].float() if share == 0 else torch.lerp(rows[low].float(), rows[low + 1].float(), share)


class ConditionalScaleShift(nn.Module):
    """Conditional batch norm and ReLU: relu(scale(c) * x + shift(c)), with fixed statistics.

    ``condition`` ``[B, 2Z]`` stays in fp32; ``x`` ``[B, F, H, W]`` may be lower.
    """

    def __init__(self, state: State, name: str, truncation: float, eps: float) -> None:
        super().__init__()
        mean = statistics_at(state[f"{name}.running_means"], truncation)
        deviation = (statistics_at(state[f"{name}.running_vars"], truncation) + eps).rsqrt()
        # (x - mean) * deviation * (1 + scale c) + offset c, sorted by powers of x
        scale = folded_weight(state, f"{name}.scale") * deviation[:, None]
        offset = folded_weight(state, f"{name}.offset") - scale * mean[:, None]
        self.weight = frozen(torch.cat([scale, offset]))
        self.bias = frozen(torch.cat([deviation, -mean * deviation]))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, shift = F.linear(condition, self.weight, self.bias).to(x.dtype)[:, :, None, None].chunk(2, 1)
        return torch.addcmul(shift, x, scale).relu()


class GenBlock(nn.Module):
    """BigGAN-deep's residual bottleneck: 1x1, 3x3, 3x3, 1x1, each behind a conditional scale and shift."""

    bn_0: ConditionalScaleShift
    bn_1: ConditionalScaleShift
    bn_2: ConditionalScaleShift
    bn_3: ConditionalScaleShift
    conv_0: nn.Conv2d
    conv_1: nn.Conv2d
    conv_2: nn.Conv2d
    conv_3: nn.Conv2d

    def __init__(self, state: State, name: str, up: bool, truncation: float, eps: float) -> None:
        super().__init__()
        self.up = up
        for i in range(4):
            self.add_module(f"bn_{i}", ConditionalScaleShift(state, f"{name}.bn_{i}", truncation, eps))
            self.add_module(f"conv_{i}", frozen_conv(state, f"{name}.conv_{i}"))
        self.out_channels = self.conv_3.weight.shape[0]

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        skip = x[:, : self.out_channels]
        x = self.conv_0(self.bn_0(x, condition))
        x = self.bn_1(x, condition)
        if self.up:
            x = F.interpolate(x, scale_factor=2, mode="nearest")
            skip = F.interpolate(skip, scale_factor=2, mode="nearest")
        x = self.conv_1(x)
        x = self.conv_2(self.bn_2(x, condition))
        return self.conv_3(self.bn_3(x, condition)) + skip


class SelfAttention(nn.Module):
    """SAGAN's attention over all places of one layer, keys and values at half size (Zhang et al. 2018)."""

    def __init__(self, state: State, name: str) -> None:
        super().__init__()
        self.theta = frozen_conv(state, f"{name}.snconv1x1_theta")
        self.phi = frozen_conv(state, f"{name}.snconv1x1_phi")
        self.g = frozen_conv(state, f"{name}.snconv1x1_g")
        self.o_conv = frozen_conv(state, f"{name}.snconv1x1_o_conv")
        with torch.no_grad():
            self.o_conv.weight.mul_(state[f"{name}.gamma"].float())

    def forward(self, x: Tensor) -> Tensor:
        query = self.theta(x).flatten(2).transpose(1, 2)
        key = F.max_pool2d(self.phi(x), 2).flatten(2).transpose(1, 2)
        value = F.max_pool2d(self.g(x), 2).flatten(2).transpose(1, 2)
        seen = F.scaled_dot_product_attention(query, key, value, scale=1.0)
        return x + self.o_conv(
            seen.transpose(1, 2).unflatten(2, x.shape[2:]).contiguous(memory_format=torch.channels_last)
        )


class Generator(nn.Module):
    """A folded BigGAN: latents of each stage → picture.

    Attributes
    ----------
    stages
        Conditions it takes: the input layer's and one per block (15 for BigGAN-deep-512).
    noise_size, num_classes
        Sizes of a noise vector and a class vector.
    size
        Side of its pictures in pixels.
    class_names
        What its classes show, where known; one text each.
    class_features
        CLIP text features ``[num_classes, D]`` of the classes, where they came with the weights.
    """

    def __init__(self, config: BigGANConfig, state: State, truncation: float = 1.0) -> None:
        super().__init__()
        check_state(config, state)
        self.noise_size, self.num_classes = config.z_dim, config.num_classes
        self.stages = len(config.layers) + 1
        self.size = 4 * 2 ** sum(bool(up) for up, _, _ in config.layers)
        self.channels = 16 * config.channel_width
        self.class_names: list[str] | None = None
        self.class_features: Tensor | None = None
        self.embeddings = frozen(state["embeddings.weight"].float())
        self.gen_z_weight = frozen(folded_weight(state, "generator.gen_z"))
        self.gen_z_bias = frozen(state["generator.gen_z.bias"].float())
        self.layers = nn.ModuleList()
        for position, (up, _, _) in enumerate(config.layers):
            if position == config.attention_layer_position:
                self.layers.append(SelfAttention(state, f"generator.layers.{len(self.layers)}"))
            name = f"generator.layers.{len(self.layers)}"
            self.layers.append(GenBlock(state, name, up, truncation, config.eps))
        mean = statistics_at(state["generator.bn.running_means"], truncation)
        variance = statistics_at(state["generator.bn.running_vars"], truncation)
        scale = state["generator.bn.weight"].float() * (variance + config.eps).rsqrt()
        self.last_scale = frozen(scale[:, None, None])
        self.last_shift = frozen((state["generator.bn.bias"].float() - mean * scale)[:, None, None])
        self.conv_to_rgb = frozen_conv(state, "generator.conv_to_rgb", outputs=3)
        self.eval()

    @property
    def dtype(self) -> torch.dtype:
        return self.conv_to_rgb.weight.dtype

    def lowered(self, dtype: torch.dtype) -> Generator:
        """A copy whose convolutions run in ``dtype``; conditions stay in fp32."""
        other = copy.deepcopy(self)
        for module in other.modules():
            if isinstance(module, nn.Conv2d):
                module.to(dtype)
        other.last_scale.data, other.last_shift.data = self.last_scale.to(dtype), self.last_shift.to(dtype)
        return other

    def forward(self, noise: Tensor, classes: Tensor) -> Tensor:
        """Pictures ``[B, 3, size, size]`` in -1..1 of ``noise`` ``[B, stages, Z]`` and shares ``[B, stages, C]``."""
        conditions = torch.cat([noise, classes @ self.embeddings.T], 2).unbind(1)
        x = F.linear(conditions[0], self.gen_z_weight, self.gen_z_bias)
        # The weights came from TensorFlow: channels last. Seen from torch, that is a channels_last [B, C, 4, 4].
        x = x.view(-1, 4, 4, self.channels).permute(0, 3, 1, 2).to(self.dtype)
        stage = 1
        for layer in self.layers:
            if isinstance(layer, GenBlock):
                x = layer(x, conditions[stage])
                stage += 1
            else:
                x = layer(x)
        x = torch.addcmul(self.last_shift, x, self.last_scale).relu()
        return self.conv_to_rgb(x).float().tanh()


def expected_shapes(config: BigGANConfig) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors that a checkpoint of ``config`` must hold."""
    library = lean_import("pytorch_pretrained_biggan.model")
    with torch.device("meta"):
        return {name: tuple(value.shape) for name, value in library.BigGAN(config).state_dict().items()}


def check_state(config: BigGANConfig, state: State) -> None:
    """Raise :class:`BigsleepError` where ``state`` lacks a tensor of ``config`` or holds one of another shape."""
    for name, shape in expected_shapes(config).items():
        if name not in state:
            if name.endswith("weight_v"):  # torch before 1.0 did not store it; it follows from u
                continue
            raise BigsleepError(f"the BigGAN checkpoint lacks {name}: it does not fit its config.json, get both again")
        if tuple(state[name].shape) != shape:
            found = tuple(state[name].shape)
            raise BigsleepError(
                f"in the BigGAN checkpoint {name} is {found}, not {shape}: get it and config.json again"
            )
