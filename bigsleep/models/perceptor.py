"""CLIP (Radford et al. 2021) as the judge of pictures: text features once, image features with their gradient.

Built from any state dict in OpenAI's layout by ``clip.model.build_model``; the image towers' forward passes are ours.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.overrides import TorchFunctionMode

from bigsleep.errors import BigsleepError, out_of_memory
from bigsleep.models.eyes import Eye
from bigsleep.models.lean import lean_import

if TYPE_CHECKING:
    from clip import model as clip_model
else:
    clip_model = lean_import("clip.model")

CONTEXT = 77
START, END = 49406, 49407  # the tokens around every text
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


@cache
def tokenizer() -> Any:
    """CLIP's byte-pair encoder; reading its table takes a moment."""
    return lean_import("clip.simple_tokenizer").SimpleTokenizer()


def tokens_of(texts: list[str]) -> Tensor:
    """CLIP's tokens ``[N, 77]``, zeros after the end token.

    Raises
    ------
    BigsleepError
        If a text needs more than 77 tokens, its start and end included.
    """
    rows = torch.zeros(len(texts), CONTEXT, dtype=torch.long)
    for row, text in zip(rows, texts, strict=True):
        tokens = [START, *tokenizer().encode(text), END]
        if len(tokens) > CONTEXT:
            raise BigsleepError(
                f"a phrase of {len(tokens)} tokens is too long for CLIP, which reads {CONTEXT}: "
                f"shorten {text[:40]!r}…, or split it with |",
                usage=True,
            )
        row[: len(tokens)] = torch.tensor(tokens)
    return rows


class VisionTransformer(nn.Module):
    """CLIP's ViT, patches cut by a matrix product, with the last block computed for the class token alone."""

    def __init__(self, visual: clip_model.VisionTransformer) -> None:
        super().__init__()
        self.patch, self.size = visual.conv1.kernel_size[0], visual.input_resolution
        # Normalising the pixels is affine, so the first layer can do it: one pass over the crops less.
        weight = visual.conv1.weight.data.float()
        self.patch_weight = nn.Parameter((weight / torch.tensor(STD)[:, None, None]).flatten(1))
        self.patch_bias = nn.Parameter(
            -(weight * (torch.tensor(MEAN) / torch.tensor(STD))[:, None, None]).sum((1, 2, 3))
        )
        self.class_token = nn.Parameter((visual.class_embedding + visual.positional_embedding[0]).data)
        self.positions = nn.Parameter(visual.positional_embedding.data[1:])
        self.ln_pre, self.ln_post, self.proj = visual.ln_pre, visual.ln_post, visual.proj
        self.blocks = visual.transformer.resblocks
        for block in self.blocks:
            scale_to_silu(block.mlp)

    def forward(self, pixels: Tensor) -> Tensor:
        """Features ``[N, D]`` of ``pixels`` ``[N, 3, size, size]`` in 0..1."""
        count, side = len(pixels), self.size // self.patch
        patches = pixels.to(self.proj.dtype).view(count, 3, side, self.patch, side, self.patch)
        patches = patches.permute(0, 2, 4, 1, 3, 5).reshape(count, side * side, -1)
        x = F.linear(patches, self.patch_weight, self.patch_bias) + self.positions
        x = torch.cat([self.class_token.expand(len(x), 1, -1), x], 1)
        x = norm(x, self.ln_pre)
        for block in self.blocks[:-1]:
            x = x + attention(block.attn, norm(x, block.ln_1), queries=x.shape[1])
            x = x + mlp(block.mlp, norm(x, block.ln_2))
        last = self.blocks[-1]
        x = x[:, :1] + attention(last.attn, norm(x, last.ln_1), queries=1)
        x = x + mlp(last.mlp, norm(x, last.ln_2))
        return norm(x[:, 0], self.ln_post) @ self.proj


@torch.no_grad()
def scale_to_silu(layers: Any) -> None:
    """Scale the weights around a QuickGELU, x sigmoid(1.702 x), so that a SiLU, y sigmoid(y), stands in its place.

    torch has SiLU's gradient in one pass that keeps its input alone.
    """
    layers.c_fc.weight.mul_(1.702)
    layers.c_fc.bias.mul_(1.702)
    layers.c_proj.weight.div_(1.702)


def mlp(layers: Any, x: Tensor) -> Tensor:
    """The block's two layers, scaled by :func:`scale_to_silu`."""
    return layers.c_proj(F.silu(layers.c_fc(x)))


def norm(x: Tensor, layer: nn.LayerNorm) -> Tensor:
    """Layer norm in the dtype of ``x``; torch keeps the sums in fp32 within."""
    return F.layer_norm(x, layer.normalized_shape, layer.weight, layer.bias, layer.eps)


def attention(layer: nn.MultiheadAttention, x: Tensor, queries: int) -> Tensor:
    """Self-attention of the first ``queries`` tokens over all of ``x`` ``[N, L, W]``: ``[N, queries, W]``."""
    width, heads = layer.embed_dim, layer.num_heads
    (wq, wkv), (bq, bkv) = layer.in_proj_weight.split([width, 2 * width]), layer.in_proj_bias.split([width, 2 * width])
    q = F.linear(x[:, :queries], wq, bq).unflatten(2, (heads, -1)).transpose(1, 2)
    k, v = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in F.linear(x, wkv, bkv).chunk(2, 2))
    if x.device.type == "cpu":
        # For CLIP's few tokens the fused kernel's gradient takes five times as long as plain products on a CPU.
        seen = (q * (width // heads) ** -0.5 @ k.transpose(2, 3)).softmax(3) @ v
    else:
        seen = F.scaled_dot_product_attention(q, k, v)
    return F.linear(seen.transpose(1, 2).flatten(2), layer.out_proj.weight, layer.out_proj.bias)


class ResNet(nn.Module):
    """CLIP's ModifiedResNet with its batch norms folded into the convolutions."""

    mean: Tensor
    std: Tensor

    def __init__(self, visual: clip_model.ModifiedResNet) -> None:
        super().__init__()
        self.size = visual.input_resolution
        for module in visual.modules():
            for conv, bn in (("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3"), ("0", "1")):
                if isinstance(getattr(module, bn, None), nn.BatchNorm2d):
                    setattr(module, conv, fuse_conv_bn_eval(getattr(module, conv), getattr(module, bn)))
                    setattr(module, bn, nn.Identity())
        self.visual = visual.to(memory_format=torch.channels_last)
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None])
        self.register_buffer("std", torch.tensor(STD)[:, None, None])

    def forward(self, pixels: Tensor) -> Tensor:
        """Features ``[N, D]`` of ``pixels`` ``[N, 3, size, size]`` in 0..1."""
        x = ((pixels - self.mean) / self.std).to(self.visual.conv1.weight.dtype)
        return self.visual(x.contiguous(memory_format=torch.channels_last))


class Shapes(TorchFunctionMode):
    """Modules made inside it have weights of torch's meta device, of which nothing is computed.

    That device works out what the first values of weights would be like, and loads torch's compiler for it: most of a second.
    """

    BEGIN = ("mul", "div", "fill_", "zero_", "triu_", "normal_", "uniform_", "constant_")

    def __torch_function__(self, call: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if call is torch.randn:
            call = torch.empty
        elif getattr(call, "__name__", "") in self.BEGIN:  # of torch.nn.init too, which passes all by name
            return args[0] if args else kwargs["tensor"]
        return call(*args, **(kwargs or {}))


def built(state: Mapping[str, Tensor]) -> clip_model.CLIP:
    """OpenAI's model with copies of the tensors of ``state``.

    It is built of shapes alone at first, which takes no memory however large a stranger's file says that it is, nor the
    second that random weights take. Raises what torch does where the tensors do not fit.
    """
    table = dict(state)
    with torch.device("meta"), Shapes(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "for .*: copying from a non-meta parameter")
        model = clip_model.build_model(table)
    if (model.context_length, model.vocab_size) != (CONTEXT, END + 1):
        raise ValueError(f"it reads {model.context_length} tokens of {model.vocab_size}")
    # The library rounds most weights to fp16, as which they were published; with the rest they make fp32 again.
    kinds = {name: each.dtype for name, each in model.state_dict().items()}
    table = {name: each.to(kinds[name], copy=True) for name, each in table.items()}
    model.load_state_dict(table, assign=True)
    for block in model.transformer.resblocks:
        block.attn_mask = model.build_attention_mask()
    return model.float()


class Perceptor(nn.Module):
    """CLIP, frozen.

    Attributes
    ----------
    name
        The catalogue's name, or the path it came from.
    size
        Side in pixels of the images it sees.
    width
        Numbers in a feature vector.
    """

    def __init__(self, state: Mapping[str, Tensor], name: str) -> None:
        super().__init__()
        self.name = name
        try:
            model = built(state)
        except (LookupError, RuntimeError, AssertionError, ArithmeticError, ValueError, TypeError) as error:
            if out_of_memory(error):
                raise
            reason = " ".join(str(error).split())[:150]
            raise BigsleepError(f"{name} holds no CLIP in OpenAI's layout ({reason}): get the file again") from error
        visual = model.visual
        fast = VisionTransformer if isinstance(visual, clip_model.VisionTransformer) else ResNet
        self.visual = fast(visual)
        self.size, self.width = self.visual.size, model.text_projection.shape[1]
        del model.visual
        self.text: clip_model.CLIP | None = model
        self.requires_grad_(False).eval()

    @property
    def eyes(self) -> list[Eye]:
        """All that look: it alone (see :class:`Eyes`)."""
        return [Eye(self)]

    def lowered(self, dtype: torch.dtype) -> Perceptor:
        """A copy whose image tower runs in ``dtype``, without a text tower."""
        other = copy.copy(self)
        other._modules = {"visual": copy.deepcopy(self.visual).to(dtype), "text": None}
        return other

    def encode_text(self, texts: list[str]) -> Tensor:
        """Unit text features ``[N, D]``.

        Raises
        ------
        BigsleepError
            If a text is longer than 77 tokens.
        """
        assert self.text is not None, "a lowered perceptor has no text tower"
        tokens = tokens_of(texts)
        # Attention is causal: what follows the longest text's end cannot matter.
        tokens = tokens[:, : int(tokens.argmax(1).max()) + 1].to(self.text.positional_embedding.device)
        model = self.text
        with torch.no_grad():
            x = model.token_embedding(tokens) + model.positional_embedding[: tokens.shape[1]]
            x = model.ln_final(model.transformer(x.transpose(0, 1)).transpose(0, 1))
            ends = x[torch.arange(len(x)), tokens.argmax(1)]
            return F.normalize(ends @ model.text_projection, dim=1)

    def encode_images(self, pixels: Tensor) -> Tensor:
        """Unit image features ``[N, D]`` in fp32 of ``pixels`` ``[N, 3, size, size]`` in 0..1, with their gradient."""
        return F.normalize(self.visual(pixels).float(), dim=1)
