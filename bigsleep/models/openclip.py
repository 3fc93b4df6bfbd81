"""Any model of open_clip as a perceptor: CLIP trained on LAION, SigLIP, ConvNeXt, MobileCLIP, robust ones."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bigsleep.errors import BigsleepError, out_of_memory
from bigsleep.models.eyes import Eye
from bigsleep.models.weights import first_line


class Tower(nn.Module):
    """open_clip's image tower behind its own normalisation."""

    mean: Tensor
    std: Tensor

    def __init__(self, visual: Any) -> None:
        super().__init__()
        self.visual = visual
        self.register_buffer("mean", torch.tensor(visual.image_mean)[:, None, None])
        self.register_buffer("std", torch.tensor(visual.image_std)[:, None, None])

    def forward(self, pixels: Tensor) -> Tensor:
        """Features ``[N, D]`` of ``pixels`` ``[N, 3, size, size]`` in 0..1."""
        features = self.visual(((pixels - self.mean.float()) / self.std.float()).to(self.mean.dtype))
        return features[0] if isinstance(features, tuple) else features  # a CoCa has tokens beside them


class OpenClip(nn.Module):
    """An open_clip ``model`` with its ``tokenizer`` (texts → tokens ``[N, L]``), as :class:`Perceptor` is used."""

    def __init__(self, model: Any, tokenizer: Callable[[list[str]], Tensor], name: str) -> None:
        super().__init__()
        self.name, self.tokenizer = name, tokenizer
        size = model.visual.image_size
        self.size = size if isinstance(size, int) else size[0]
        self.visual = Tower(model.visual)
        del model.visual
        self.text: Any = model
        self.requires_grad_(False).eval()
        self.width = self.encode_text([""]).shape[1]

    @property
    def eyes(self) -> list[Eye]:
        return [Eye(self)]

    def lowered(self, dtype: torch.dtype) -> OpenClip:
        """A copy whose image tower runs in ``dtype``, without a text tower."""
        other = copy.copy(self)
        other._modules = {"visual": copy.deepcopy(self.visual).to(dtype), "text": None}
        return other

    @torch.no_grad()
    def encode_text(self, texts: list[str]) -> Tensor:
        """Unit text features ``[N, D]``; of a text that is too long, of its beginning."""
        return F.normalize(self.text.encode_text(self.tokenizer(texts)).float(), dim=1)

    def encode_images(self, pixels: Tensor) -> Tensor:
        """Unit image features ``[N, D]`` in fp32 of ``pixels`` ``[N, 3, size, size]`` in 0..1, with their gradient."""
        return F.normalize(self.visual(pixels).float(), dim=1)


def load_openclip(name: str) -> OpenClip:
    """``"ViT-B-32/laion2b_s34b_b79k"``, ``"ViT-B-32//path/to/weights"`` or ``"hf-hub:owner/name"``, fetched by open_clip.

    Raises
    ------
    BigsleepError
        If open_clip is not installed, does not know it, or cannot fetch it.
    """
    try:
        import open_clip
    except ImportError:
        raise BigsleepError("openclip: needs open_clip: pip install 'bigsleep[openclip]'", usage=True) from None
    architecture, _, weights = (name, "", "") if name.startswith(("hf-hub:", "local-dir:")) else name.partition("/")
    known = open_clip.list_models()
    if architecture in known and not weights:
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(architecture))
        raise BigsleepError(
            f"openclip:{name} lacks its weights: add one of {tags}, as in openclip:{name}/TAG", usage=True
        )
    if (not weights and ":" not in architecture) or (weights and architecture not in known):
        raise BigsleepError(f"open_clip has no {architecture}: choose one of {', '.join(known)}", usage=True)
    try:
        model = open_clip.create_model(architecture, pretrained=weights or None, require_pretrained=True)
        tokenizer = open_clip.get_tokenizer(architecture)
    except Exception as error:  # open_clip, the hub, torch and timm each raise their own
        if out_of_memory(error):
            raise
        raise BigsleepError(f"openclip:{name} cannot be had ({first_line(error)}): check name and network") from error
    return OpenClip(model, tokenizer, f"openclip:{name}")
