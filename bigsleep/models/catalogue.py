"""The models by name: what goes with what, what each generator prefers, and how they are loaded.

Where the published ones' files are stands in ``published``. torch is imported when a model is loaded, not before.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from bigsleep.errors import BigsleepError
from bigsleep.models.lean import lean_import
from bigsleep.models.published import BIGGANS, OFFICIAL_CLIPS, PERCEPTORS, PUBLISHED, biggan_table
from bigsleep.models.weights import find

if TYPE_CHECKING:
    from bigsleep.models.generator import Generator
    from bigsleep.models.perceptor import Perceptor

EMOJI = Path(__file__).parent / "emoji"
BUILT_IN = {"emoji": EMOJI}

# What Big Sleep published in 2021 and thousands of pictures were made with.
BIG_SLEEP = dict(
    lr=0.07, class_lr=0.07, schedule="constant", cutout_min=0.5, cutout_max=0.95, augment=0.0, classes="sigmoid",
    stages="free", init="random", auditions=1, noise_weight=1.0, class_weight=1.0, ema=0.5, save_every=50,
    resample="antialiased", layers="1", finish="smooth", views="cutouts", latents="rows",
)  # fmt: skip
# Cost decides these, and nothing was tuned on the real weights: Big Sleep's own budget is the preset's below. On a CPU a
# step takes seconds, so a dream has as many as fit ``seconds``.
ON_GPU = dict(steps=1000, cutouts=128)
ON_CPU = dict(cutouts=32)
CPU_SECONDS = 180.0

# What FuseDream published: 10,000 pictures of single classes, the five best mixed, AugCLIP, Adam at 5e-3 along a cosine.
FUSEDREAM = dict(
    steps=1000, cutouts=50, views="augclip", latents="basis", init="classes", classes="linear", auditions=10_000,
    stages="shared", lr=5e-3, class_lr=5e-3, schedule="cosine", noise_weight=0.0, class_weight=0.0, ema=0.0, layers="1",
)  # fmt: skip

# Chosen by eye with the built-in pair, on benchmarks/tuning_prompts.txt.
EMOJI_PREFERENCES = dict(
    steps=40, cutouts=6, lr=0.03, class_lr=0.25, schedule="cosine", cutout_min=0.8, cutout_max=1.3, augment=1.0,
    classes="softmax", stages="shared", init="words", auditions=60, noise_weight=0.0, class_weight=1.0, ema=0.9,
    save_every=20, layers="auto", finish="crisp", resample="bilinear", views="cutouts", latents="rows",
)  # fmt: skip


@dataclass(frozen=True)
class Preset:
    """Preferences in front of a model's own. ``seconds`` stands for the steps that fit them."""

    preferences: dict[str, Any]
    seconds: float | None = None


BIGGAN_PRESETS = {
    # the command's own budget (20 epochs of 1,050) and its cutouts, so that who knows Big Sleep gets Big Sleep
    "bigsleep": Preset(dict(steps=21_000, cutouts=128, resample="nearest")),
    "fusedream": Preset(FUSEDREAM),
    "fast": Preset(dict(cutouts=32, init="words", auditions=5), seconds=60),
    "best": Preset(dict(cutouts=128, init="words", auditions=50), seconds=1800),
}
EMOJI_PRESETS = {
    "fusedream": Preset(FUSEDREAM | dict(auditions=2000, resample="bilinear")),
    "fast": Preset(dict(steps=10, auditions=12)),
    "best": Preset(dict(steps=120, auditions=240)),
}


@dataclass(frozen=True)
class GeneratorRow:
    """A generator: the CLIP that goes with it, its presets, its preferences on any device, on a GPU and on a CPU."""

    clip: str = "ViT-B/32"
    preferences: dict[str, Any] = field(default_factory=lambda: BIG_SLEEP)
    on_gpu: dict[str, Any] = field(default_factory=lambda: ON_GPU)
    on_cpu: dict[str, Any] = field(default_factory=lambda: ON_CPU)
    presets: dict[str, Preset] = field(default_factory=lambda: BIGGAN_PRESETS)

    def preferred(self, device_type: str, preset: str | None = None) -> dict[str, Any]:
        """Settings by name for a device type as torch has it (``"cpu"``, ``"cuda"``, ``"mps"``).

        Where there are no steps among them, as many are meant as fit :meth:`seconds`.
        """
        preferred = self.preferences | (self.on_cpu if device_type == "cpu" else self.on_gpu)
        if preset is None:
            return preferred
        if preset not in self.presets:
            raise BigsleepError(f"this model has no --preset {preset}: choose {', '.join(self.presets)}", usage=True)
        if self.presets[preset].seconds is not None:
            preferred.pop("steps", None)
        return preferred | self.presets[preset].preferences

    def seconds(self, preset: str | None = None) -> float:
        """How long a dream shall take where no steps are preferred."""
        return (self.presets[preset].seconds if preset else None) or CPU_SECONDS


GENERATORS = {
    "emoji": GeneratorRow("emoji", EMOJI_PREFERENCES, {}, {}, EMOJI_PRESETS),
    **{name: GeneratorRow() for name in BIGGANS},
}


def check_names(model: str, clip: str | None) -> None:
    """Raise :class:`BigsleepError` for a model or CLIP that is neither in the catalogue nor on the disk."""
    if model != "auto" and model not in GENERATORS and not os.path.exists(model):  # which takes a name too long for one
        raise BigsleepError(
            f"unknown model {model[:80]!r}: choose auto, {', '.join(GENERATORS)}, or give a path", usage=True
        )
    for name, _ in clips_of(clip or "emoji"):
        if name not in ("emoji", *PERCEPTORS) and not name.startswith("openclip:") and not os.path.exists(name):
            known = ", ".join(PERCEPTORS)
            raise BigsleepError(
                f"unknown CLIP {name[:80]!r}: choose emoji, {known}, openclip:…, or give a path", usage=True
            )


def clips_of(clip: str) -> list[tuple[str, float]]:
    """The CLIPs that ``--clip`` names, with their weights.

    >>> clips_of("ViT-B/32|RN50x4:0.5")
    [('ViT-B/32', 1.0), ('RN50x4', 0.5)]
    """
    clips = []
    for part in clip.split("|"):
        name, _, weight = part.strip().rpartition(":")
        weighed = bool(name) and re.fullmatch(r"\d+(\.\d+)?", weight) is not None
        clips.append((name, float(weight)) if weighed else (part.strip(), 1.0))
    if any(weight == 0 for _, weight in clips):
        raise BigsleepError(f"a CLIP of {clip!r} weighs 0: leave it out", usage=True)
    return clips


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
    from bigsleep.models.checkpoint import read_config, read_state
    from bigsleep.models.generator import Generator

    if model in PUBLISHED:
        weights, table = find(PUBLISHED[model], quiet), biggan_table(model)
    else:
        weights, config_file = local_generator(EMOJI if model == "emoji" else Path(model))
        table = read_config(config_file)
    config = lean_import("pytorch_pretrained_biggan.config").BigGANConfig.from_dict(table)
    state, names = read_state(weights), table.get("class_names")
    generator = Generator(config, state, truncation, table.get("alpha", False))
    generator.grounds, generator.keywords = table.get("grounds", []), table.get("class_keywords", [])
    generator.names = (lambda: names) if names else imagenet_names if generator.num_classes == 1000 else None
    generator.class_features = state.get("class_features")
    if generator.class_features is not None and generator.class_features.shape[:-1] != (generator.num_classes,):
        raise BigsleepError(f"{weights} has other class features than {generator.num_classes}: get it again")
    return generator


def drawn_names(model: str) -> list[str]:
    """What the classes of a model that draws things one by one are called; none for one that paints whole pictures."""
    return json.loads((BUILT_IN[model] / "config.json").read_text())["class_names"] if model in BUILT_IN else []


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
    """The CLIP of a catalogue name, of a file or of open_clip, or several as one (see :func:`clips_of`).

    Raises
    ------
    WeightsMissing
        If a published one is in no cache and cannot be fetched.
    BigsleepError
        If the file is damaged, no CLIP, or a program that is not OpenAI's.
    """
    from bigsleep.models.checkpoint import read_state
    from bigsleep.models.eyes import Eyes
    from bigsleep.models.openclip import load_openclip
    from bigsleep.models.perceptor import Perceptor

    clips = clips_of(clip)
    if len(clips) > 1:
        again = [partial(load_perceptor, name, quiet) for name, _ in clips]
        return cast(Perceptor, Eyes([load() for load in again], [weight for _, weight in clips], again))
    clip = clips[0][0]
    if clip.startswith("openclip:"):
        return cast(Perceptor, load_openclip(clip.removeprefix("openclip:")))
    if clip == "emoji":
        path = EMOJI / "perceptor.safetensors"
    elif clip in PERCEPTORS:
        path = find(PERCEPTORS[clip], quiet)
    else:
        path = Path(clip)
        if path.is_dir():
            raise BigsleepError(f"{path} is a folder: give the CLIP file in it", usage=True)
    return Perceptor(read_state(path, trusted=OFFICIAL_CLIPS), clip)


def imagenet_names() -> list[str]:
    """The names of ImageNet's thousand classes, in BigGAN's order; as torchvision has them."""
    return (Path(__file__).parent / "imagenet.txt").read_text().splitlines()
