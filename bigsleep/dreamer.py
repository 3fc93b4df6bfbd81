"""One dream from words to picture: models ready, settings complete, optimise, snapshots out. The public API."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from bigsleep.errors import BigsleepError
from bigsleep.models.catalogue import check_names, generator_row, load_generator, load_perceptor
from bigsleep.models.generator import Generator
from bigsleep.models.perceptor import Perceptor, tokens_of
from bigsleep.models.weights import WeightsMissing
from bigsleep.optimizer import Goal, Optimizer
from bigsleep.picture import Picture
from bigsleep.prompt import Prompt
from bigsleep.settings import SIZES, Settings

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Progress:
    """How far a dream is after a step: ``share`` of the way in 0..1, ``seconds`` since the first step."""

    step: int
    share: float
    seconds: float
    score: float | None

    @property
    def seconds_left(self) -> float:
        return self.seconds * (1 - self.share) / self.share


@dataclass(frozen=True)
class Snapshot:
    """A picture on the way: ``image`` ``[3, H, W]`` in 0..1, its score, the steps it took."""

    image: Tensor
    score: float
    step: int


@dataclass(frozen=True)
class Models:
    """A generator and a perceptor on one device, with the names they were asked for by."""

    generator: Generator
    perceptor: Perceptor
    model: str
    clip: str
    device: torch.device
    precision: str

    @classmethod
    def load(cls, settings: Settings, note: Callable[[str], None] = lambda _: None, quiet: bool = False) -> Models:
        """The models that ``settings`` name. ``note`` gets a line where ``auto`` falls back to the built-in pair.

        Raises
        ------
        WeightsMissing
            If a model named outright is in no cache and cannot be fetched.
        BigsleepError
            If a name is unknown, a file damaged, or a device not there.
        """
        check_names(settings.model, settings.clip)
        device = find_device(settings.device)
        precision = find_precision(settings.precision, device)
        model = settings.model
        if model == "auto":
            model = f"biggan-deep-{settings.image_size or 512}"
        try:
            generator, perceptor, clip = load_pair(model, settings, quiet)
        except WeightsMissing as error:
            if settings.model != "auto":
                raise BigsleepError(f"{error}: check the network, or use --model emoji, which is built in") from error
            note(f"dreaming with the small built-in models, since {error}; with a network, run it again for BigGAN")
            model = "emoji"
            generator, perceptor, clip = load_pair(model, settings, quiet)
        return cls(generator.to(device), perceptor.to(device), model, clip, device, precision)


def load_pair(model: str, settings: Settings, quiet: bool) -> tuple[Generator, Perceptor, str]:
    """``(generator, perceptor, CLIP's name)``; the CLIP is the model's own unless the settings name one."""
    clip = settings.clip or generator_row(model).clip
    # CLIP is the smaller file: where there is no network, that is known before a gigabyte is asked for.
    perceptor = load_perceptor(clip, quiet)
    return load_generator(model, settings.truncation, quiet), perceptor, clip


def read_prompt(text: str, settings: Settings) -> Prompt:
    """The prompt that ``text`` and ``settings.avoid`` make; a :class:`BigsleepError` if it has no words or too many."""
    prompt = Prompt.parse(text, settings.avoid)
    tokens_of([phrase.text for phrase in prompt.phrases])
    return prompt


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
    """``auto`` is bf16 where the device multiplies it fast, else fp32."""
    if name == "fp16" and device.type == "cpu":
        raise BigsleepError("fp16 needs a GPU: give --precision bf16, fp32 or auto", usage=True)
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    if device.type == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()):
        return "bf16"  # without such instructions it is emulated, and slower than fp32
    return "fp32"


def complete_settings(settings: Settings, models: Models) -> Settings:
    """``settings`` with every preference of the models filled in: what the recipe records."""
    preferred = generator_row(models.model).preferred(models.device.type)
    # A generator of another size than the published ones is enlarged, or reduced, to 512.
    size = models.generator.size if models.generator.size in SIZES else 512
    seed = secrets.randbelow(2**32) if settings.seed is None else settings.seed
    settings = settings.filled(preferred | {"image_size": size})
    if settings.init == "words" and models.generator.class_names is None:
        raise BigsleepError(
            f"--init words needs class names, and {models.model} has none: give --init random", usage=True
        )
    if settings.max_classes is not None and settings.max_classes > models.generator.num_classes:
        most = models.generator.num_classes
        raise BigsleepError(f"--max-classes is {settings.max_classes}: {models.model} has {most} classes", usage=True)
    return replace(
        settings, seed=seed, model=models.model, clip=models.clip, device=str(models.device), precision=models.precision
    )


class Dream:
    """One prompt, optimised once. Iterate over it for its snapshots; ``best`` is the best so far.

    Parameters
    ----------
    prompt
        Words, as on the command line: ``"a house|a garden:0.5"``.
    settings
        Options; single ones may also be given by name: ``Dream("a house", steps=200, seed=1)``.
    models
        Loaded models to use again; loaded as the settings say where left out.
    on_step
        Called with a :class:`Progress` after every step.
    note
        Called with each line a user should see.

    Raises
    ------
    BigsleepError
        For a prompt or option that cannot be used, before any model is loaded where that can be known.

    Examples
    --------
    >>> for snapshot in Dream("a red heart", model="emoji", steps=20, save_every=10, seed=1):
    ...     print(snapshot.step, tuple(snapshot.image.shape))
    10 (3, 512, 512)
    20 (3, 512, 512)
    """

    def __init__(
        self,
        prompt: str,
        settings: Settings | None = None,
        *,
        models: Models | None = None,
        on_step: Callable[[Progress], None] | None = None,
        note: Callable[[str], None] = lambda _: None,
        **options: Any,
    ) -> None:
        asked = Settings.of({**(asdict(settings) if settings else {}), **options})
        self.prompt = read_prompt(prompt, asked)
        self.models = models or Models.load(asked, note)
        self.settings = complete_settings(asked, self.models)
        assert self.settings.seed is not None
        self._seed = self.settings.seed
        self.on_step = on_step
        self.best: Snapshot | None = None
        self._stop = threading.Event()

    def stop(self) -> None:
        """End after the step in progress, with a last snapshot. May be called from a signal handler or a thread."""
        self._stop.set()

    def __iter__(self) -> Iterator[Snapshot]:
        """Optimise from the start; a snapshot every ``save_every`` steps and at the end."""
        self.best = None
        optimizer = self._optimizer()
        began, step, share, score = time.monotonic(), 0, 0.0, None
        done = False
        while not done:
            try:
                optimizer.step(share)
            except torch.OutOfMemoryError as error:
                name = self.models.device
                raise BigsleepError(
                    f"{name} has too little memory for {self.models.model}: try a smaller one"
                ) from error
            step += 1
            share = self._share(step, time.monotonic() - began)
            done = share >= 1 or self._stop.is_set()
            if done or step % self.settings.save_every == 0:
                snapshot = self._snapshot(optimizer, step)
                score = snapshot.score
                if self.best is None or snapshot.score > self.best.score:
                    self.best = snapshot
                yield snapshot
            if self.on_step:
                self.on_step(Progress(step, share, time.monotonic() - began, score))
        # Not at the start: a stop asked for before the first step is meant as well.
        self._stop.clear()

    def _optimizer(self) -> Optimizer:
        models, phrases = self.models, self.prompt.phrases
        features = models.perceptor.encode_text([phrase.text for phrase in phrases])
        weights = torch.tensor([phrase.weight for phrase in phrases], device=models.device)
        random = torch.Generator().manual_seed(self._seed)
        dtype = DTYPES[models.precision]
        return Optimizer(models.generator, models.perceptor, Goal(features, weights), self.settings, random, dtype)

    def _share(self, step: int, seconds: float) -> float:
        """How much of the dream is done, by steps or by the clock."""
        if self.settings.time is not None:
            return min(1.0, seconds / self.settings.time)
        assert self.settings.steps is not None
        return step / self.settings.steps

    def _snapshot(self, optimizer: Optimizer, step: int) -> Snapshot:
        image = optimizer.render()
        score = optimizer.score(image)
        size = self.settings.image_size
        if image.shape[1] != size:
            image = F.interpolate(image[None], size=(size, size), mode="bicubic", antialias=True)[0].clamp(0, 1)
        return Snapshot(image.cpu(), score, step)

    def picture(self, snapshot: Snapshot) -> Picture:
        """``snapshot`` as a picture with the recipe to make it again inside."""
        pixels = (snapshot.image * 255 + 0.5).byte().permute(1, 2, 0).numpy()
        recipe = {
            "prompt": self.prompt.text,
            "settings": asdict(self.settings),
            "score": round(snapshot.score, 6),
            "step": snapshot.step,
            "versions": {"bigsleep": version("bigsleep"), "torch": torch.__version__},
        }
        return Picture(Image.fromarray(pixels), recipe)


def dream(prompt: str, settings: Settings | None = None, **options: Any) -> Picture:
    """Dream once and return the best picture.

    Parameters
    ----------
    prompt, settings, **options
        As for :class:`Dream`.

    Raises
    ------
    BigsleepError
        As for :class:`Dream`.

    Examples
    --------
    >>> dream("a beautiful house", model="emoji", steps=5, seed=1).image.size
    (512, 512)
    """
    dreaming = Dream(prompt, settings, **options)
    for _ in dreaming:
        pass
    assert dreaming.best is not None
    return dreaming.picture(dreaming.best)
