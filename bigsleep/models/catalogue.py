"""The models by name: where their files are, what goes with what, and what each generator prefers."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bigsleep.errors import BigsleepError
from bigsleep.models.generator import Generator
from bigsleep.models.lean import lean_import
from bigsleep.models.perceptor import Perceptor
from bigsleep.models.weights import find_biggan, find_clip, first_line, read_state
from bigsleep.settings import SIZES

EMOJI = Path(__file__).parent / "emoji"

# What Big Sleep published in 2021 and thousands of pictures were made with.
BIG_SLEEP = dict(
    lr=0.07, class_lr=0.07, schedule="constant", cutout_min=0.5, cutout_max=0.95, augment=0.0, classes="sigmoid",
    stages="free", init="random", auditions=1, noise_weight=1.0, class_weight=1.0, ema=0.99, save_every=50,
)  # fmt: skip
# Cost decides these: a CPU takes seconds for a step. Not tuned on the real weights.
ON_GPU = dict(steps=1000, cutouts=128)
ON_CPU = dict(steps=200, cutouts=32)

# Chosen by eye with the built-in pair, on benchmarks/tuning_prompts.txt.
EMOJI_PREFERENCES = dict(
    steps=60, cutouts=6, lr=0.05, class_lr=0.25, schedule="cosine", cutout_min=0.62, cutout_max=1.19, augment=1.0,
    classes="softmax", stages="shared", init="words", auditions=24, noise_weight=1.0, class_weight=1.0, ema=0.9,
    save_every=20,
)  # fmt: skip


@dataclass(frozen=True)
class GeneratorRow:
    """A generator: the CLIP that goes with it, and its preferences, on any device, on a GPU and on a CPU."""

    clip: str = "ViT-B/32"
    preferences: dict[str, Any] = field(default_factory=lambda: BIG_SLEEP)
    on_gpu: dict[str, Any] = field(default_factory=lambda: ON_GPU)
    on_cpu: dict[str, Any] = field(default_factory=lambda: ON_CPU)

    def preferred(self, device_type: str) -> dict[str, Any]:
        """Settings by name for a device type as torch has it (``"cpu"``, ``"cuda"``, ``"mps"``)."""
        return self.preferences | (self.on_cpu if device_type == "cpu" else self.on_gpu)


GENERATORS = {
    "emoji": GeneratorRow("emoji", EMOJI_PREFERENCES, {}, {}),
    **{f"biggan-deep-{size}": GeneratorRow() for size in SIZES},
}

OPENAI = "https://openaipublic.azureedge.net/clip/models"
# name: (repository on the Hugging Face hub, SHA-256 and name of OpenAI's own file)
PERCEPTORS = {
    "RN50": ("resnet50_clip", "afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762/RN50.pt"),
    "RN101": ("resnet101_clip", "8fa8567bab74a42d41c5915025a8e4538c3bdbe8804a470a72f30b0d94fab599/RN101.pt"),
    "RN50x4": ("resnet50x4_clip", "7e526bd135e493cef0776de27d5f42653e6b4c8bf9e0f653bb11773263205fdd/RN50x4.pt"),
    "RN50x16": ("resnet50x16_clip", "52378b407f34354e150460fe41077663dd5b39c54cd0bfd2b27167a4a06ec9aa/RN50x16.pt"),
    "RN50x64": ("resnet50x64_clip", "be1cfb55d75a9666199fb2206c106743da0f6468c9d327f3e0d0a543a9919d9c/RN50x64.pt"),
    "ViT-B/32": ("vit_base_patch32_clip_224", "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af/ViT-B-32.pt"),
    "ViT-B/16": ("vit_base_patch16_clip_224", "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f/ViT-B-16.pt"),
    "ViT-L/14": ("vit_large_patch14_clip_224", "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836/ViT-L-14.pt"),
    "ViT-L/14@336px": ("vit_large_patch14_clip_336", "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02/ViT-L-14-336px.pt"),
}  # fmt: skip
OFFICIAL_CLIPS = frozenset(address.split("/")[0] for _, address in PERCEPTORS.values())


def check_names(model: str, clip: str | None) -> None:
    """Raise :class:`BigsleepError` for a model or CLIP that is neither in the catalogue nor on the disk."""
    if model != "auto" and model not in GENERATORS and not Path(model).exists():
        raise BigsleepError(
            f"unknown model {model!r}: choose auto, {', '.join(GENERATORS)}, or give a path", usage=True
        )
    if clip is not None and clip not in ("emoji", *PERCEPTORS) and not Path(clip).exists():
        raise BigsleepError(f"unknown CLIP {clip!r}: choose emoji, {', '.join(PERCEPTORS)}, or give a path", usage=True)


def generator_row(model: str) -> GeneratorRow:
    """The row of a model's name; a path is a BigGAN that prefers what Big Sleep did."""
    return GENERATORS.get(model) or GeneratorRow()


def load_generator(model: str, truncation: float = 1.0, quiet: bool = False) -> Generator:
    """The generator of a catalogue name, or of a folder or file with its ``config.json`` beside it.

    Raises
    ------
    WeightsMissing
        If a published one is in no cache and cannot be fetched.
    BigsleepError
        If a file is missing, damaged or of another model.
    """
    if model == "emoji":
        weights, config_file = EMOJI / "generator.safetensors", EMOJI / "config.json"
    elif model in GENERATORS:
        weights, config_file = find_biggan(model, *biggan_addresses(model), quiet=quiet)
    else:
        weights, config_file = local_generator(Path(model))
    try:
        table = json.loads(config_file.read_text())
        names, alpha, grounds = table.pop("class_names", None), table.pop("alpha", False), table.pop("grounds", [])
        config = lean_import("pytorch_pretrained_biggan.config").BigGANConfig.from_dict(table)
        config.layers = [tuple(layer) for layer in config.layers]
        if not isinstance(alpha, bool) or not all(ground in range(config.num_classes) for ground in grounds):
            raise ValueError("alpha is true or false, grounds are numbers of classes")
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise BigsleepError(f"{config_file} is no BigGAN configuration ({first_line(error)}): get it again") from error
    state = read_state(weights)
    generator = Generator(config, state, truncation, alpha)
    generator.grounds = grounds
    generator.names = (lambda: names) if names else imagenet_names if generator.num_classes == 1000 else None
    generator.class_features = state.get("class_features")
    return generator


def biggan_addresses(model: str) -> tuple[str, str]:
    """Where pytorch-pretrained-biggan says that the weights and the configuration of a model are."""
    library = lean_import("pytorch_pretrained_biggan.model")
    return library.PRETRAINED_MODEL_ARCHIVE_MAP[model], library.PRETRAINED_CONFIG_ARCHIVE_MAP[model]


def local_generator(path: Path) -> tuple[Path, Path]:
    """``(weights, config)`` of a folder, or of a weight file beside its ``config.json``."""
    folder = path if path.is_dir() else path.parent
    names = ["pytorch_model.bin", "generator.safetensors", "model.safetensors"] if path.is_dir() else [path.name]
    weights = next((folder / name for name in names if (folder / name).exists()), None)
    if weights is None:
        raise BigsleepError(f"no BigGAN in {path}: it needs {' or '.join(names)}", usage=True)
    if not (folder / "config.json").exists():
        raise BigsleepError(f"{weights} has no config.json beside it: put BigGAN's there", usage=True)
    return weights, folder / "config.json"


def load_perceptor(clip: str, quiet: bool = False) -> Perceptor:
    """The CLIP of a catalogue name or of a file.

    Raises
    ------
    WeightsMissing
        If a published one is in no cache and cannot be fetched.
    BigsleepError
        If the file is damaged, no CLIP, or a program that is not OpenAI's.
    """
    if clip == "emoji":
        path = EMOJI / "perceptor.safetensors"
    elif clip in PERCEPTORS:
        repository, address = PERCEPTORS[clip]
        path = find_clip(f"timm/{repository}.openai", f"{OPENAI}/{address}", quiet)
    else:
        path = Path(clip)
        if path.is_dir():
            raise BigsleepError(f"{path} is a folder: give the CLIP file in it", usage=True)
    return Perceptor(read_state(path, trusted=OFFICIAL_CLIPS), clip)


def imagenet_names() -> list[str]:
    """The names of ImageNet's thousand classes, in BigGAN's order."""
    from torchvision.models import ResNet50_Weights  # 170 MB and a second, so not before they are asked for

    return list(ResNet50_Weights.DEFAULT.meta["categories"])
