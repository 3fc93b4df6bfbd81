"""BigGAN-deep (Brock et al. 2019) for optimising: frozen, folded, with one condition vector per stage.

Built from a ``pytorch_pretrained_biggan`` checkpoint. Spectral norms are divided out of the weights, batch norms become
one scale and shift, and the last convolution makes the three channels that are used (four with alpha) instead of all.
The pictures are the library's own to rounding.

Conditions may vary over the picture (Suzuki et al. 2018): several layers of latents, each with a mask of where it holds,
have their scales and shifts mixed place by place. Nothing is trained for it.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bigsleep.errors import BigsleepError
from bigsleep.models.scale_shift import LayeredScaleShiftConv, ScaleShiftConv

if TYPE_CHECKING:
    from pytorch_pretrained_biggan import BigGANConfig


class Checkpoint:
    """The tensors of a BigGAN checkpoint by name, each checked for the shape that its place asks for."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        self.state = state

    def take(self, name: str, *shape: int) -> Tensor:
        """The tensor ``name`` in fp32.

        Raises
        ------
        BigsleepError
            If it is not there, or of another shape.
        """
        if name not in self.state:
            raise BigsleepError(f"the BigGAN checkpoint lacks {name}: it does not fit its config.json, get both again")
        found = tuple(self.state[name].shape)
        if found != shape:
            raise BigsleepError(
                f"in the BigGAN checkpoint {name} is {found}, not {shape}: get it and config.json again"
            )
        return self.state[name].float()

    def weight(self, name: str, *shape: int) -> Tensor:
        """The weight ``name`` divided by its spectral norm, as the library's eval mode has it.

        Spectral norm estimates the greatest singular value as ``u^T W v`` with the stored vectors (Miyato et al. 2018).
        """
        weight, u = self.take(f"{name}.weight_orig", *shape), self.take(f"{name}.weight_u", shape[0])
        matrix = weight.flatten(1)
        if f"{name}.weight_v" in self.state:
            v = self.take(f"{name}.weight_v", matrix.shape[1])
        else:  # torch before 1.0 did not store it; it follows from u
            v = F.normalize(matrix.T @ u, dim=0)
        return weight / torch.dot(u, matrix @ v)

    def statistics(self, name: str, features: int, rows: int, truncation: float) -> tuple[Tensor, Tensor]:
        """``(means, variances)`` ``[features]`` of the batch norm ``name`` for a truncation in 0..1."""
        means = self.take(f"{name}.running_means", rows, features)
        variances = self.take(f"{name}.running_vars", rows, features)
        return statistics_at(means, truncation), statistics_at(variances, truncation)


def frozen(tensor: Tensor) -> nn.Parameter:
    return nn.Parameter(tensor, requires_grad=False)


def frozen_conv(
    state: Checkpoint, name: str, ins: int, outs: int, kernel: int = 1, bias: bool = True, used: int | None = None
) -> nn.Conv2d:
    """A convolution with its spectral norm folded in; only the first ``used`` of its ``outs`` channels where given."""
    weight = state.weight(name, outs, ins, kernel, kernel)[:used]
    conv = nn.Conv2d(1, 1, 1, padding=kernel // 2, bias=bias, device="meta")
    conv.weight = frozen(weight.contiguous(memory_format=torch.channels_last))
    if bias:
        conv.bias = frozen(state.take(f"{name}.bias", outs)[:used].clone())
    return conv


def statistics_at(rows: Tensor, truncation: float) -> Tensor:
    """Batch-norm statistics ``[F]`` for a truncation in 0..1 out of ``rows`` ``[51, F]``, linearly between two rows.

    The library gives each of two neighbouring rows the other's share. On its grid of 0.02 there is no difference but at
    0.14, 0.28, 0.56, 0.58 and 0.94, where its division leaves a hair and it takes the row beside.
    """
    place = truncation * (len(rows) - 1)
    # 0.58 * 50 is 28.999...: a grid point must be met exactly, or an untouched neighbour row would leak in.
    place = round(place) if abs(place - round(place)) < 1e-6 else place
    low = math.floor(place)
    share = place - low
    return rows[low] if share == 0 else torch.lerp(rows[low], rows[low + 1], share)


def upsampled_conv(conv: nn.Conv2d) -> nn.ConvTranspose2d:
    """``conv``, 3x3, behind a nearest twofold upsampling, as one transposed convolution: 4 products for 9.

    Each input pixel stands for four equal ones, whose weights add up: the kernel smeared over 2x2, at a stride of 2.
    """
    outs, ins = conv.weight.shape[:2]
    smeared = F.conv2d(conv.weight.reshape(-1, 1, 3, 3), torch.ones(1, 1, 2, 2), padding=1).view(outs, ins, 4, 4)
    # A transposed convolution scatters where a convolution gathers: its kernel is the mirrored one.
    weight = smeared.flip(2, 3).transpose(0, 1)
    up = nn.ConvTranspose2d(1, 1, 1, stride=2, padding=1, device="meta")
    up.weight, up.bias = frozen(weight.contiguous(memory_format=torch.channels_last)), conv.bias
    return up


class ConditionalScaleShift(nn.Module):
    """Conditional batch norm with fixed statistics: scale(c) and shift(c) of a condition ``[B, 2Z]``, in fp32."""

    def __init__(self, state: Checkpoint, name: str, features: int, config: BigGANConfig, truncation: float) -> None:
        super().__init__()
        mean, variance = state.statistics(name, features, config.n_stats, truncation)
        deviation = (variance + config.eps).rsqrt()
        # (x - mean) * deviation * (1 + scale c) + offset c, sorted by powers of x
        scale = state.weight(f"{name}.scale", features, 2 * config.z_dim) * deviation[:, None]
        offset = state.weight(f"{name}.offset", features, 2 * config.z_dim) - scale * mean[:, None]
        self.weight = frozen(torch.cat([scale, offset]))
        self.bias = frozen(torch.cat([deviation, -mean * deviation]))

    def forward(self, condition: Tensor) -> tuple[Tensor, ...]:
        """``(scale, shift)``, each ``[B, F, 1, 1]``; ``[B, L, F]`` of conditions ``[B, L, 2Z]``."""
        both = F.linear(condition, self.weight, self.bias)
        return both.chunk(2, 2) if both.dim() == 3 else both[:, :, None, None].chunk(2, 1)


class GenBlock(nn.Module):
    """BigGAN-deep's residual bottleneck: 1x1, 3x3, 3x3, 1x1, each behind a conditional scale and shift."""

    def __init__(self, state: Checkpoint, name: str, position: int, config: BigGANConfig, truncation: float) -> None:
        super().__init__()
        self.up, ins, outs = config.layers[position]
        ins, self.outs = ins * config.channel_width, outs * config.channel_width
        middle = ins // 4
        sizes = [(ins, middle, 1), (middle, middle, 3), (middle, middle, 3), (middle, self.outs, 1)]
        self.norms, self.convs = nn.ModuleList(), nn.ModuleList()
        for i, (features, made, kernel) in enumerate(sizes):
            self.norms.append(ConditionalScaleShift(state, f"{name}.bn_{i}", features, config, truncation))
            conv = frozen_conv(state, f"{name}.conv_{i}", features, made, kernel)
            self.convs.append(upsampled_conv(conv) if self.up and i == 1 else conv)

    def forward(self, x: Tensor, condition: Tensor, masks: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """The next map of ``x`` under a condition ``[B, 2Z]``, or under ``[B, L, 2Z]`` with their :class:`Masks`."""
        skip = x[:, : self.outs]
        if self.up:
            skip = doubled(skip)
        for norm, conv in zip(self.norms, self.convs, strict=True):
            scale_shift, up = norm(condition), isinstance(conv, nn.ConvTranspose2d)
            if masks is None:
                x = ScaleShiftConv.apply(x, *scale_shift, conv.weight, conv.bias, up)
            else:
                x = LayeredScaleShiftConv.apply(x, *scale_shift, masks(x), conv.weight, conv.bias, up)
        return x + skip


def doubled(x: Tensor) -> Tensor:
    """Nearest twofold upsampling of ``x`` ``[B, C, H, W]``."""
    if x.device.type != "mps":
        return F.interpolate(x, scale_factor=2, mode="nearest")
    # Apple's own sends gradients to wrong places at some sizes.
    rows = x.permute(0, 2, 3, 1)[:, :, None, :, None].expand(-1, -1, 2, -1, 2, -1)
    return rows.flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)


class Masks:
    """Masks ``[B, L, H, W]`` of layers at the size of any map: called with ``[B, F, h, w]`` they are ``[B, L, h * w]``."""

    def __init__(self, masks: Tensor) -> None:
        self.masks = masks
        self.sizes: dict[tuple[int, torch.dtype], Tensor] = {}

    def __call__(self, x: Tensor) -> Tensor:
        key = (x.shape[2], x.dtype)
        if key not in self.sizes:
            # Either keeps a sum of 1 in every place.
            mode = "area" if x.shape[2] <= self.masks.shape[2] else "bilinear"
            self.sizes[key] = F.interpolate(self.masks, size=x.shape[2:], mode=mode).flatten(2).to(x.dtype)
        return self.sizes[key]


class SelfAttention(nn.Module):
    """SAGAN's attention over all places of one layer, keys and values at half size (Zhang et al. 2018)."""

    def __init__(self, state: Checkpoint, name: str, channels: int) -> None:
        super().__init__()
        self.theta = frozen_conv(state, f"{name}.snconv1x1_theta", channels, channels // 8, bias=False)
        self.phi = frozen_conv(state, f"{name}.snconv1x1_phi", channels, channels // 8, bias=False)
        self.g = frozen_conv(state, f"{name}.snconv1x1_g", channels, channels // 2, bias=False)
        self.o_conv = frozen_conv(state, f"{name}.snconv1x1_o_conv", channels // 2, channels, bias=False)
        with torch.no_grad():
            self.o_conv.weight.mul_(state.take(f"{name}.gamma", 1))

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
    alpha
        Whether its pictures are premultiplied RGBA, so that they can be laid over each other; RGB otherwise.
    grounds
        Its opaque classes that only serve as what is behind; BigGAN has none.
    names
        Looks up what its classes show, one text each, where that is known.
    keywords
        Words that belong to each class, where they came with the weights.
    class_features
        CLIP text features ``[num_classes, D]`` of the classes, where they came with the weights.
    """

    def __init__(
        self, config: BigGANConfig, tensors: Mapping[str, Tensor], truncation: float = 1.0, alpha: bool = False
    ) -> None:
        super().__init__()
        state, width = Checkpoint(tensors), config.channel_width
        self.noise_size, self.num_classes = config.z_dim, config.num_classes
        self.stages = len(config.layers) + 1
        self.size = 4 * 2 ** sum(bool(up) for up, _, _ in config.layers)
        self.alpha, self.grounds = alpha, list[int]()
        self.names: Callable[[], list[str]] | None = None
        self.keywords: list[list[str]] = []
        self.class_features: Tensor | None = None
        self.embeddings = frozen(state.take("embeddings.weight", config.z_dim, config.num_classes))
        self.channels = 16 * width
        self.gen_z_weight = frozen(state.weight("generator.gen_z", 4 * 4 * self.channels, 2 * config.z_dim))
        self.gen_z_bias = frozen(state.take("generator.gen_z.bias", 4 * 4 * self.channels))
        self.layers = nn.ModuleList()
        for position, (_, ins, _) in enumerate(config.layers):
            if position == config.attention_layer_position:
                self.layers.append(SelfAttention(state, f"generator.layers.{len(self.layers)}", ins * width))
            name = f"generator.layers.{len(self.layers)}"
            self.layers.append(GenBlock(state, name, position, config, truncation))
        mean, variance = state.statistics("generator.bn", width, config.n_stats, truncation)
        scale = state.take("generator.bn.weight", width) * (variance + config.eps).rsqrt()
        shift = state.take("generator.bn.bias", width) - mean * scale
        self.last_scale, self.last_shift = frozen(scale[:, None, None]), frozen(shift[:, None, None])
        self.conv_to_rgb = frozen_conv(state, "generator.conv_to_rgb", width, width, 3, used=4 if alpha else 3)
        self.eval()

    @cached_property
    def class_names(self) -> list[str]:
        """What the classes show, looked up when first asked for."""
        assert self.names is not None, "the dreamer checks that there are names"
        return self.names()

    @property
    def dtype(self) -> torch.dtype:
        return self.conv_to_rgb.weight.dtype

    def lowered(self, dtype: torch.dtype) -> Generator:
        """A copy whose convolutions run in ``dtype``; conditions stay in fp32.

        For fp16 they stay in fp32 too: BigGAN's activations leave its range.
        """
        other = copy.deepcopy(self)
        dtype = torch.float32 if dtype == torch.float16 else dtype
        for module in other.modules():
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
                module.to(dtype)
        other.last_scale.data, other.last_shift.data = self.last_scale.to(dtype), self.last_shift.to(dtype)
        return other

    def forward(self, noise: Tensor, classes: Tensor, masks: Tensor | None = None) -> Tensor:
        """Pictures ``[B, 3, size, size]`` in -1..1 of ``noise`` ``[B, stages, Z]`` and shares ``[B, stages, C]``.

        With :attr:`alpha` they are premultiplied RGBA ``[B, 4, size, size]``, each channel's 0..1 as -1..1.

        With ``masks`` ``[B, L, H, W]``, at least 0 and with a sum of 1 over the layers, ``noise`` is
        ``[B, L, stages, Z]`` and ``classes`` ``[B, L, stages, C]``: each place of the picture is conditioned on the
        layers in the shares that their masks have there.
        """
        conditions = torch.cat([noise, classes @ self.embeddings.T], -1).unbind(-2)
        mixed = None if masks is None else Masks(masks)
        x = self.input(conditions[0], masks).to(self.dtype)
        stage = 1
        for layer in self.layers:
            if isinstance(layer, GenBlock):
                x = layer(x, conditions[stage], mixed)
                stage += 1
            else:
                x = layer(x)
        x = torch.addcmul(self.last_shift, x, self.last_scale).relu_()
        return self.conv_to_rgb(x).float().tanh()

    def input(self, condition: Tensor, masks: Tensor | None) -> Tensor:
        """The map ``[B, C, 4, 4]`` that a condition ``[B, 2Z]`` begins with, or conditions ``[B, L, 2Z]`` in masks."""
        x = F.linear(condition, self.gen_z_weight, self.gen_z_bias)
        if masks is not None:
            x = (x.unflatten(2, (16, self.channels)) * F.interpolate(masks, 4, mode="area").flatten(2)[..., None]).sum(
                1
            )
        # The weights came from TensorFlow: channels last. Seen from torch, that is a channels_last [B, C, 4, 4].
        return x.view(-1, 4, 4, self.channels).permute(0, 3, 1, 2)
