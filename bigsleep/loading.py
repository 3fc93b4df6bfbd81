"""Models made ready, and settings made complete: device, precision, and what the models prefer."""

from __future__ import annotations

import secrets
import shutil
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from bigsleep.budget import fitting_steps, pace
from bigsleep.errors import BigsleepError, ShortOfMemory, out_of_memory
from bigsleep.models.catalogue import check_names, generator_row, load_generator, load_perceptor
from bigsleep.models.generator import Generator
from bigsleep.models.perceptor import Perceptor
from bigsleep.models.weights import WeightsMissing
from bigsleep.optimizer import Optimizer
from bigsleep.settings import SIZES, Settings

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Models:
    """A generator and a perceptor on one device, with the names they were asked for by."""

    generator: Generator
    perceptor: Perceptor
    model: str
    clip: str
    device: torch.device
    precision: str
    compile: bool = False

    @cached_property
    def optimizer(self) -> Optimizer:
        """The loop over these models, with their copies in the steps' precision."""
        return Optimizer(self.generator, self.perceptor, DTYPES[self.precision], self.compile)

    @cached_property
    def paces(self) -> dict[int, float]:
        """Seconds of a step by its number of cutouts, as far as they were timed."""
        return {}

    def fitting_steps(self, settings: Settings, seconds: float, note: Callable[[str], None]) -> int:
        """The steps under complete ``settings`` that fit ``seconds``; ``note`` gets a line when they are first timed."""
        timed = settings.cutouts in self.paces
        if not timed:
            self.paces[settings.cutouts] = pace(self.optimizer, settings)
        steps = fitting_steps(seconds, self.paces[settings.cutouts], settings.best_of)
        if not timed:
            note(f"{steps} steps fit {seconds:.0f} s here; --steps, --time or --preset set another budget")
        return steps

    @cached_property
    def weights(self) -> dict[str, str]:
        """Checksums that tell these weights from others under the same names."""
        return {"generator": checksum(self.generator.embeddings), "perceptor": checksum(self.perceptor.visual)}

    @classmethod
    def load(cls, settings: Settings, note: Callable[[str], None] = lambda _: None, quiet: bool = False) -> Models:
        """The models that ``settings`` name. ``note`` gets a line where ``auto`` falls back to the built-in pair.

        Raises
        ------
        WeightsMissing
            If a model named outright is in no cache and cannot be fetched.
        BigsleepError
            If a name is unknown, a file damaged, a device not there, or memory too small.
        """
        try:
            return cls.loaded(settings, note, quiet)
        except Exception as error:
            if out_of_memory(error):
                raise too_small("this machine", settings.model) from error
            raise

    @classmethod
    def loaded(cls, settings: Settings, note: Callable[[str], None], quiet: bool) -> Models:
        check_names(settings.model, settings.clip)
        device = find_device(settings.device)
        precision = find_precision(settings.precision, device)
        if settings.threads is not None:
            torch.set_num_threads(settings.threads)
        if settings.compile and device.type == "cpu" and not any(map(shutil.which, ("c++", "g++", "clang++", "cl"))):
            raise BigsleepError("--compile needs a C++ compiler on a CPU, and there is none: leave it out")
        model = settings.model
        if model == "auto":
            model = f"biggan-deep-{settings.image_size or 512}"
        try:
            generator, perceptor, clip = load_pair(model, settings, quiet)
        except WeightsMissing as error:
            if settings.model != "auto":
                raise BigsleepError(f"{error}: check the network, or use --model emoji, which is built in") from error
            note(
                f"dreaming with the small built-in models, since {error.brief}; with a network, run it again for BigGAN"
            )
            model = "emoji"
            generator, perceptor, clip = load_pair(model, settings, quiet)
        generator = generator.to(device)
        perceptor.visual.to(device)  # texts are few and short: their tower need not take the device's memory
        return cls(generator, perceptor, model, clip, device, precision, settings.compile)


def too_small(device: object, model: str) -> ShortOfMemory:
    """What to say where memory ends."""
    return ShortOfMemory(
        f"{device} has too little memory for {model}: close other programs, or give a smaller --image-size or --model"
    )


def load_pair(model: str, settings: Settings, quiet: bool) -> tuple[Generator, Perceptor, str]:
    """``(generator, perceptor, CLIP's name)``; the CLIP is the model's own unless the settings name one."""
    clip = settings.clip or generator_row(model).clip
    # CLIP is the smaller file: where there is no network, that is known before a gigabyte is asked for.
    perceptor = load_perceptor(clip, quiet)
    return load_generator(model, settings.truncation, quiet), perceptor, clip


def checksum(weights: Tensor | torch.nn.Module) -> str:
    """Eight letters that tell weights from others, by a sample of them."""
    tensor = weights if isinstance(weights, Tensor) else next(weights.parameters())
    return f"{zlib.crc32(tensor.detach().flatten()[:65536].float().cpu().numpy().tobytes()):08x}"


def find_device(name: str) -> torch.device:
    """``auto`` is CUDA, else Apple's GPU, else the CPU. A :class:`BigsleepError` for a device that is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise BigsleepError(f"unknown device {name!r}: choose auto, cpu, cuda, cuda:N or mps", usage=True) from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise BigsleepError(f"there is no CUDA device here for --device {name}: leave it out or give cpu", usage=True)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise BigsleepError(f"there is no {name} here, only {torch.cuda.device_count()} CUDA devices", usage=True)
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise BigsleepError("there is no Apple GPU here: leave out --device or give --device cpu", usage=True)
    if device.type not in ("cpu", "cuda", "mps"):
        raise BigsleepError(f"unknown device {name!r}: choose auto, cpu, cuda, cuda:N or mps", usage=True)
    return device


def find_precision(name: str, device: torch.device) -> str:
    """``auto`` is bf16 where the device multiplies it fast, else fp16 (CLIP's alone) on CUDA, and fp32 elsewhere."""
    if name == "fp16" and device.type == "cpu":
        raise BigsleepError("fp16 needs a GPU: give --precision bf16, fp32 or auto", usage=True)
    if name != "auto":
        return name
    if device.type == "cuda":
        with torch.cuda.device(device):  # it asks the current one; before Ampere bf16 is emulated
            return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if device.type == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()):
        return "bf16"  # without such instructions it is emulated, and slower than fp32
    return "fp32"


def complete_settings(settings: Settings, models: Models, note: Callable[[str], None] = lambda _: None) -> Settings:
    """``settings`` with every preference of the models filled in: what the recipe records.

    ``note`` gets a line where the steps are those that fit a time.
    """
    row = generator_row(models.model)
    preferred = row.preferred(models.device.type, settings.preset)
    # A generator of another size than the published ones is enlarged, or reduced, to 512.
    size = models.generator.size if models.generator.size in SIZES else 512
    seed = secrets.randbelow(2**32) if settings.seed is None else settings.seed
    settings = settings.filled(preferred | {"image_size": size})
    if settings.init == "words" and models.generator.names is None:
        raise BigsleepError(
            f"--init words needs class names, and {models.model} has none: give --init random", usage=True
        )
    if settings.max_classes is not None and settings.max_classes > models.generator.num_classes:
        most = models.generator.num_classes
        raise BigsleepError(f"--max-classes is {settings.max_classes}: {models.model} has {most} classes", usage=True)
    settings = replace(
        settings, seed=seed, model=models.model, clip=models.clip, device=str(models.device),
        precision=models.precision, threads=torch.get_num_threads(), compile=models.compile,
    )  # fmt: skip
    if settings.steps is None and settings.time is None:
        settings = replace(settings, steps=models.fitting_steps(settings, row.seconds(settings.preset), note))
    return settings
