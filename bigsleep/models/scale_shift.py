"""The one step that BigGAN is made of, conv(relu(scale * x + shift)), with a backward pass that keeps little."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

threshold_backward_ = torch.ops.aten.threshold_backward.grad_input
batch_norm_backward = torch.ops.aten.native_batch_norm_backward.default


def convolved(y: Tensor, weight: Tensor, bias: Tensor, up: bool) -> Tensor:
    if up:
        return F.conv_transpose2d(y, weight, bias, stride=2, padding=1)
    return F.conv2d(y, weight, bias, padding=weight.shape[2] // 2)


def convolved_backward(gradient: Tensor, weight: Tensor, up: bool) -> Tensor:
    """The gradient in what went in: each of the two kinds of convolution is the other's gradient."""
    if up:
        return F.conv2d(gradient, weight, stride=2, padding=1)
    return F.conv_transpose2d(gradient, weight, padding=weight.shape[2] // 2)


class ScaleShiftConv(torch.autograd.Function):
    """conv(relu(scale * x + shift)) with a frozen convolution, or a transposed one of stride 2 where ``up``.

    ``scale`` and ``shift`` ``[B, F, 1, 1]`` are fp32, the rest is in the precision of ``x``.

    autograd would keep what goes into the ReLU and what goes into the convolution. A frozen convolution's gradient
    needs no input and the ReLU's is soon computed again, so that ``x`` is all that is kept.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, shift: Tensor, weight: Tensor, bias: Tensor, up: bool) -> Tensor:
        scale, shift = scale.to(x.dtype), shift.to(x.dtype)
        ctx.save_for_backward(x, scale, shift, weight)
        ctx.up = up
        return convolved(torch.addcmul(shift, x, scale).relu_(), weight, bias, up)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, scale, shift, weight = ctx.saved_tensors
        g = convolved_backward(gradient, weight, ctx.up)
        y = torch.addcmul(shift, x, scale)
        g = threshold_backward_(g, y, 0, grad_input=y)
        product, plain = sums_over_places(g, x)
        return g.mul_(scale), product, plain, None, None, None


def sums_over_places(g: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """The sums of ``g * x`` and of ``g``, both ``[B, F, H, W]``, over H and W: ``[B, F, 1, 1]`` in fp32."""
    if x.device.type != "cpu":  # Apple's batch norm ends the process where its weights are of another precision
        product, plain = (part.sum((2, 3), keepdim=True, dtype=torch.float32) for part in (g * x, g))
        return product, plain
    # A batch norm with mean 0 and variance 1 hands them to its weights, and takes both in one pass.
    zeros, ones = torch.zeros(x.shape[1]), torch.ones(x.shape[1])
    wanted = [False, True, True]
    pictures = zip(g.split(1), x.split(1), strict=True)
    sums = [batch_norm_backward(*both, ones, zeros, ones, None, None, False, 0.0, wanted)[1:] for both in pictures]
    product, plain = (torch.stack(parts)[:, :, None, None] for parts in zip(*sums, strict=True))
    return product, plain


class LayeredScaleShiftConv(torch.autograd.Function):
    """:class:`ScaleShiftConv` whose scale and shift are mixed place by place (Suzuki et al. 2018).

    ``scale`` and ``shift`` ``[B, L, F]`` are fp32; ``masks`` ``[B, L, H * W]``, each layer's share in each place, are
    in the precision of ``x`` ``[B, F, H, W]``. Of what has its size, again only ``x`` is kept.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, scale: Tensor, shift: Tensor, masks: Tensor, weight: Tensor, bias: Tensor, up: bool
    ) -> Tensor:
        scale, shift = scale.to(x.dtype), shift.to(x.dtype)
        ctx.save_for_backward(x, scale, shift, masks, weight)
        ctx.up = up
        return convolved(mixed(shift, masks, x).addcmul_(x, mixed(scale, masks, x)).relu_(), weight, bias, up)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, scale, shift, masks, weight = ctx.saved_tensors
        g = convolved_backward(gradient, weight, ctx.up)
        slope = mixed(scale, masks, x)
        y = mixed(shift, masks, x).addcmul_(x, slope)
        g = threshold_backward_(g, y, 0, grad_input=y)
        plain, product = by_place(g), by_place(g * x)
        of_masks = None
        if ctx.needs_input_grad[3]:
            of_masks = (product @ scale.mT).add_(plain @ shift.mT).mT
        of_scale, of_shift = (masks @ product).float(), (masks @ plain).float()
        return g.mul_(slope), of_scale, of_shift, of_masks, None, None, None


def mixed(rows: Tensor, masks: Tensor, like: Tensor) -> Tensor:
    """Rows ``[B, L, F]`` in the shares of ``masks`` ``[B, L, H * W]``: ``[B, F, H, W]`` as ``like``, channels last."""
    return (masks.mT @ rows).unflatten(1, like.shape[2:]).permute(0, 3, 1, 2)


def by_place(x: Tensor) -> Tensor:
    """``x`` ``[B, F, H, W]`` as ``[B, H * W, F]``."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)
