"""The models that are fetched: their files, addresses, hashes, sizes and licences. torch is not imported here."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from bigsleep.errors import BigsleepError
from bigsleep.models.lean import lean_import
from bigsleep.models.weights import Published, Source, first_line

UP, SAME = True, False
# What the published config.json of a size has under "layers": whether a block doubles the side, and its channels in and
# out in widths. The 256's was compared with the published file, whose SHA-256 is known; the library's default is the 128's.
BIGGAN_LAYERS = {
    128: [(SAME, 16, 16), (UP, 16, 16), (SAME, 16, 16), (UP, 16, 8), (SAME, 8, 8), (UP, 8, 4), (SAME, 4, 4),
          (UP, 4, 2), (SAME, 2, 2), (UP, 2, 1)],
    256: [(SAME, 16, 16), (UP, 16, 16), (SAME, 16, 16), (UP, 16, 8), (SAME, 8, 8), (UP, 8, 8), (SAME, 8, 8),
          (UP, 8, 4), (SAME, 4, 4), (UP, 4, 2), (SAME, 2, 2), (UP, 2, 1)],
    512: [(SAME, 16, 16), (UP, 16, 16), (SAME, 16, 16), (UP, 16, 8), (SAME, 8, 8), (UP, 8, 8), (SAME, 8, 8),
          (UP, 8, 4), (SAME, 4, 4), (UP, 4, 2), (SAME, 2, 2), (UP, 2, 1), (SAME, 1, 1), (UP, 1, 1)],
}  # fmt: skip


def by_name(*models: Published) -> dict[str, Published]:
    return {model.name: model for model in models}


def biggan_table(name: str) -> dict[str, Any]:
    """What the ``config.json`` of a published BigGAN says other than the library's defaults."""
    size = int(name.rpartition("-")[2])
    return {"output_dim": size, "layers": BIGGAN_LAYERS[size]}


def biggan(size: int, file_bytes: int, sha256: str = "", mirrors: tuple[Source, ...] = ()) -> Published:
    """The published BigGAN-deep of a size: at the address in pytorch-pretrained-biggan, and elsewhere."""
    url = f"https://s3.amazonaws.com/models.huggingface.co/biggan/biggan-deep-{size}-pytorch_model.bin"
    name, first = f"biggan-deep-{size}", Source("pytorch_model.bin", url, sha256=sha256, etag_is_md5=True)
    return Published(name, "generator", "Apache-2.0", file_bytes, (first, *mirrors), partial(check_biggan, name))


def check_biggan(name: str, path: Path) -> None:
    """Raise :class:`BigsleepError` for a file that has not the tensors, by name and shape, of a published BigGAN."""
    from bigsleep.models.checkpoint import read_state
    from bigsleep.models.generator import Generator

    config = lean_import("pytorch_pretrained_biggan.config").BigGANConfig.from_dict(biggan_table(name))
    Generator(config, read_state(path))


BIGGANS = by_name(
    # The mirror's file is not proven to be the same as the one at the first address, whose SHA-256 nobody has published.
    biggan(128, 210_800_000, mirrors=(
        Source("pytorch_model.bin", hub="osanseviero/BigGAN-deep-128",
               sha256="b86146a8cfcde4cda135adba4b2806f78b3abe2dac9d0fd090cc3ab318604ad9"),
    )),
    biggan(256, 234_411_737, "5900ef4065047e3aa0d1b66197b7f2664dceb59b27080e414ad57e203c485bc5"),
    biggan(512, 235_700_000),
)  # fmt: skip


def clip_of_openai(name: str, repository: str, file_bytes: int, address: str) -> Published:
    """A CLIP: in fp32 on the hub, and half as large in OpenAI's own file, whose address begins with its SHA-256."""
    sha256, _, file = address.partition("/")
    return Published(name, "CLIP", "MIT", file_bytes, (
        Source("open_clip_model.safetensors", hub=f"timm/{repository}.openai"),
        Source(file, f"https://openaipublic.azureedge.net/clip/models/{address}", sha256=sha256),
    ), check_clip)  # fmt: skip


def check_clip(path: Path) -> None:
    """Raise :class:`BigsleepError` for a safetensors file that is damaged or no CLIP. OpenAI's own have hashes."""
    if ".safetensors" not in path.name:
        return
    try:
        with safe_open(path, framework="np") as file:
            if "text_projection" not in set(file.keys()):
                raise BigsleepError("it is no CLIP")
    except SafetensorError as error:
        raise BigsleepError(first_line(error)) from error


PERCEPTORS = by_name(
    clip_of_openai("RN50", "resnet50_clip", 408_000_000, "afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762/RN50.pt"),
    clip_of_openai("RN101", "resnet101_clip", 479_000_000, "8fa8567bab74a42d41c5915025a8e4538c3bdbe8804a470a72f30b0d94fab599/RN101.pt"),
    clip_of_openai("RN50x4", "resnet50x4_clip", 714_000_000, "7e526bd135e493cef0776de27d5f42653e6b4c8bf9e0f653bb11773263205fdd/RN50x4.pt"),
    clip_of_openai("RN50x16", "resnet50x16_clip", 1_165_000_000, "52378b407f34354e150460fe41077663dd5b39c54cd0bfd2b27167a4a06ec9aa/RN50x16.pt"),
    clip_of_openai("RN50x64", "resnet50x64_clip", 2_495_000_000, "be1cfb55d75a9666199fb2206c106743da0f6468c9d327f3e0d0a543a9919d9c/RN50x64.pt"),
    clip_of_openai("ViT-B/32", "vit_base_patch32_clip_224", 605_000_000, "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af/ViT-B-32.pt"),
    clip_of_openai("ViT-B/16", "vit_base_patch16_clip_224", 598_000_000, "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f/ViT-B-16.pt"),
    clip_of_openai("ViT-L/14", "vit_large_patch14_clip_224", 1_710_000_000, "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836/ViT-L-14.pt"),
    clip_of_openai("ViT-L/14@336px", "vit_large_patch14_clip_336", 1_712_000_000, "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02/ViT-L-14-336px.pt"),
)  # fmt: skip
PUBLISHED = BIGGANS | PERCEPTORS
OFFICIAL_CLIPS = frozenset(source.sha256 for each in PERCEPTORS.values() for source in each.sources if source.sha256)
