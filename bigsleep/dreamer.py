"""One dream from words to picture: models ready, settings complete, optimise, snapshots out. The public API."""

from __future__ import annotations

import copy
import itertools
import math
import secrets
import shutil
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from statistics import stdev
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor

from bigsleep.budget import fitting_steps, pace
from bigsleep.errors import BigsleepError
from bigsleep.goal import Goal
from bigsleep.layers import described
from bigsleep.models.catalogue import check_names, generator_row, load_generator, load_perceptor
from bigsleep.models.generator import Generator
from bigsleep.models.perceptor import Perceptor, tokens_of
from bigsleep.models.weights import WeightsMissing
from bigsleep.optimizer import Optimizer, Search
from bigsleep.origin import Going, Mark, Origin, start_with
from bigsleep.picture import Picture
from bigsleep.plan import planned
from bigsleep.prompt import Phrase, Prompt, parse_phrase
from bigsleep.recipe import FORMAT, circumstances
from bigsleep.settings import SIZES, Settings
from bigsleep.state import encode, fitted, named

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


def drawn(image: Tensor) -> Image.Image:
    """``[3, H, W]`` in 0..1 as an 8-bit image."""
    return Image.fromarray((image * 255 + 0.5).byte().permute(1, 2, 0).numpy())


@dataclass(frozen=True)
class Snapshot:
    """A picture on the way: ``image`` ``[3, H, W]`` in 0..1, its score, the steps it took, its dream's seed.

    ``share`` of the dream, in 0..1, lies behind it; ``last`` says that it is the end, be it before its time. ``latents``
    are what the picture was made of, by name (``layer0.noise``, …); ``layers`` says in words what each layer is, and where it
    stands; ``company`` among how many searches its steps were made.
    """

    image: Tensor
    score: float
    step: int
    seed: int
    share: float
    last: bool
    latents: Mapping[str, Tensor] = field(default_factory=dict)
    layers: tuple[dict[str, Any], ...] = ()
    company: tuple[tuple[int, ...], ...] = ()

    def _repr_png_(self) -> bytes:
        """How a notebook shows it."""
        return Picture(drawn(self.image)).png(bare=True)


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
            If a name is unknown, a file damaged, or a device not there.
        """
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


def read_prompt(text: str, settings: Settings) -> Prompt:
    """The prompt that ``text`` and ``settings.avoid`` make; a :class:`BigsleepError` if it has no words or too many."""
    prompt = Prompt.parse(text, settings.avoid)
    tokens_of([phrase.text for phrase in prompt.phrases])
    return prompt


def image_phrases(image_prompts: Iterable[str]) -> list[Phrase]:
    """Files and weights of image prompts, ``FILE`` or ``FILE:WEIGHT``."""
    return [parse_phrase(text, text) for text in image_prompts]


@torch.no_grad()
def image_features(path: str, perceptor: Perceptor) -> Tensor:
    """CLIP's features ``[D]`` of the image in a file, rounded to fp16, as pictures keep them."""
    image = ImageOps.fit(Picture.open(path).image, (perceptor.size, perceptor.size))
    pixels = pixels_of(image).to(next(perceptor.visual.parameters()).device)
    return perceptor.encode_images(pixels[None])[0].half().float().cpu()


def pixels_of(image: Image.Image) -> Tensor:
    """An RGB image as ``[3, H, W]`` in 0..1."""
    return (
        torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
        .view(image.height, image.width, 3)
        .permute(2, 0, 1)
        / 255
    )


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
    start
        A picture to begin with, or the path of one: as the option ``start``.
    origin
        What to begin with otherwise: a dream to go on with, or to see again (see :mod:`bigsleep.origin`).

    Raises
    ------
    BigsleepError
        For a prompt or option that cannot be used, before any model is loaded where that can be known. While iterating,
        where the dream diverges or the memory ends.

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
        start: Picture | str | Path | None = None,
        origin: Origin | None = None,
        **options: Any,
    ) -> None:
        asked = Settings.of({**(asdict(settings) if settings else {}), **options})
        self.prompt = read_prompt(prompt, asked)
        start = start or asked.start
        name = "the picture" if isinstance(start, Picture) else str(start)
        if origin is None and start is not None:
            start = start if isinstance(start, Picture) else Picture.open(start)
        self.models = models or Models.load(asked, note)
        if origin is None and isinstance(start, Picture):
            origin = start_with(start, name, self.models.weights, note)
        self.origin = origin or Origin()
        self.origin.check(self.models.weights)
        # Latents mean what they did only under the classes that they were dreamt with.
        self.settings = complete_settings(asked.filled(self.origin.classes()), self.models, note)
        if self.settings.model == "emoji" and self.settings.classes == "sigmoid":
            # A little of each of its classes is one flat colour, whose gradient is 0.
            raise BigsleepError("--classes sigmoid shows the built-in model nothing: give softmax", usage=True)
        self.images = self.origin.images or tuple(
            image_features(phrase.text, self.models.perceptor) for phrase in image_phrases(asked.image_prompt)
        )
        self.broken_off: Going | None = None  # what to go on from, as of the last snapshot
        generator = self.models.generator
        self.plan = planned(
            self.prompt, self.settings, generator.alpha, generator.class_names if generator.alpha else ()
        )
        self.on_step, self.note = on_step, note
        # What was shown at each step, by seed, where a film is wanted: ``trails`` is then a dictionary to be filled.
        self.trails: dict[int, list[Mapping[str, Tensor]]] | None = None
        self.best: Snapshot | None = None
        self.stopped = threading.Event()

    def stop(self) -> None:
        """End after the step in progress, with a last snapshot. May be called from a signal handler or a thread."""
        self.stopped.set()

    def __iter__(self) -> Iterator[Snapshot]:
        """Optimise from the start; a snapshot every ``save_every`` steps and at the end.

        With ``best_of``, until one seed is left: a snapshot of the best where others are dropped.
        """
        for _, outcome in together([self]):
            if isinstance(outcome, Exception):
                raise outcome
            yield outcome

    def goal(self) -> Goal:
        """What CLIP makes of the prompt, and of what each layer is to be."""
        phrases = self.prompt.phrases
        parts = self.plan.parts if self.plan else []
        encoded = self.models.perceptor.encode_text([*(phrase.text for phrase in phrases), *parts]).to(
            self.models.device
        )
        features, own = encoded[: len(phrases)], encoded[len(phrases) :]
        weights = [phrase.weight for phrase in (*phrases, *image_phrases(self.settings.image_prompt))]
        if self.images:
            images = F.normalize(torch.stack(self.images).float(), dim=1).to(self.models.device)
            features = torch.cat([features, images])
        one = torch.ones(1, device=self.models.device)
        goals = tuple(Goal(row[None], one) for row in own)
        return Goal(features, torch.tensor(weights, device=self.models.device), goals)

    def picture(self, snapshot: Snapshot) -> Picture:
        """``snapshot`` as a picture with the recipe to make it again inside, and the state to go on from."""
        recipe = {
            "format": FORMAT,
            "prompt": self.prompt.text,
            "settings": asdict(self.recorded(snapshot.seed)),
            "layers": list(snapshot.layers),
            "score": round(snapshot.score, 6),
            "step": snapshot.step,
            "weights": self.models.weights,
            **circumstances(),
        }
        if any(size != 1 for _, size, _ in snapshot.company):
            recipe["company"] = [list(run) for run in snapshot.company]
        state = dict(snapshot.latents)
        state |= named("image", {str(number): features for number, features in enumerate(self.images)})
        if self.origin.start is not None:
            state |= named("start", self.origin.start)
        if snapshot.share == 1 or self.broken_off is None or self.broken_off.share == 1:
            return Picture(drawn(snapshot.image), recipe, encode(state, torch.float16))
        going, best = self.broken_off, self.broken_off.best
        marked = {"step": best.step, "score": best.score, "seed": best.seed}
        recipe["going"] = {"step": going.step, "share": going.share, "best": marked}
        if self.settings.until == "plateau":  # which is told by them
            recipe["going"]["scores"] = [list(pair) for pair in going.scores]
        state |= named("search", going.state)
        if best.step != snapshot.step:
            state |= named("best", best.latents)
        return Picture(drawn(snapshot.image), recipe, encode(state))

    def begun(self) -> Mapping[str, Tensor] | None:
        """The latents to begin with, looked for where there is only an image; None for auditions."""
        image = self.origin.image
        if image is not None:
            from bigsleep.find import Finder

            assert self.settings.seed is not None
            random = torch.Generator().manual_seed(self.settings.seed)
            found = Finder(self.models.optimizer, image, self.settings, random)(self.stopped.is_set)
            start = {name: tensor.half().float() for name, tensor in found.items()}
            self.origin = replace(self.origin, start=start, image=None)
        return self.origin.start

    def growth(self, frames: int) -> Iterator[Image.Image]:
        """``frames`` images of how the best picture grew, at equal change; of a dream whose ``trails`` were filled."""
        from bigsleep.morph import growth

        assert self.best is not None and self.trails is not None, "the dream is over, and was remembered"
        began = self.origin.going.step if self.origin.going else 0
        trail = self.trails.get(self.best.seed, [])[: max(0, self.best.step - began + 1)]
        states = [{name: tensor.float() for name, tensor in state.items()} for state in trail]
        return growth(states or [self.best.latents], self.settings, self.models, frames)

    def recorded(self, seed: int) -> Settings:
        """The settings as a recipe has them: of one seed, and with no folder names."""
        images = tuple(Path(image).name for image in self.settings.image_prompt)
        start = None if self.origin.start is None else self.origin.picture
        return replace(self.settings, seed=seed, best_of=1, start=start, image_prompt=images)


class Course:
    """A dream under way: how far it is, and its searches, one for each seed that is still in."""

    def __init__(self, dreaming: Dream) -> None:
        self.dreaming, self.settings, self.optimizer = dreaming, dreaming.settings, dreaming.models.optimizer
        self.until = dreaming.origin.until
        dreaming.best = None
        goal, first = dreaming.goal(), self.settings.seed
        assert first is not None, "complete settings have a seed"
        going = dreaming.origin.going
        start = dreaming.begun() if going is None else going.best.latents
        self.searches = [
            self.optimizer.search(
                goal, replace(self.settings, seed=seed), torch.Generator().manual_seed(seed), dreaming.plan, start
            )
            for seed in range(first, first + self.settings.best_of)
        ]
        self.rungs = halvings(self.settings.best_of)
        self.began, self.step, self.share, self.done = time.monotonic(), 0, 0.0, False
        self.score: float | None = None
        self.scores: list[tuple[float, float]] = []  # with the share of the dream at which each was seen
        if going is not None:
            self.resume(going)
        if dreaming.origin.carried is not None:
            self.carry(dreaming.origin.carried)
        self.trail()

    def replays(self) -> bool:
        """Whether a picture is to be seen again to the byte, and so in passes of the same sizes as then."""
        return self.until is not None

    def step_in_company(self) -> None:
        """A step among as many searches as then, for a pass of another size rounds otherwise; all but one are copies."""
        (search,) = self.searches
        runs = self.dreaming.origin.company or ((1, 1, 0),)
        ends = itertools.accumulate(steps for steps, _, _ in runs)
        _, size, place = next((run for run, end in zip(runs, ends, strict=True) if self.step < end), runs[-1])
        crowd = [search if i == place else copy.deepcopy(search) for i in range(size)]
        self.optimizer.step(crowd, [self.share] * size)
        search.met(size, place)

    def carry(self, latents: Mapping[str, Tensor]) -> None:
        """Begin with the noise of other ``latents``, in as many layers as both have."""
        for search in self.searches:
            state = search.shown()
            noise = {name: part for name, part in latents.items() if name.endswith(".noise") and name in state}
            search.show({**state, **{name: part.expand_as(state[name]) for name, part in noise.items()}})

    def trail(self) -> None:
        """Remember what the searches show, where a film is wanted."""
        if self.dreaming.trails is None:
            return
        for search in self.searches:
            assert search.settings.seed is not None
            shown = {name: tensor.half().cpu() for name, tensor in search.shown().items()}
            self.dreaming.trails.setdefault(search.settings.seed, []).append(shown)

    def resume(self, going: Going) -> None:
        """Go on where a dream was broken off; its best so far is a picture again."""
        search, best = self.searches[0], going.best
        shot = self.shoot(search)[1]
        self.dreaming.best = replace(shot, score=best.score, step=best.step, seed=best.seed, share=going.share)
        search.restore(fitted(going.state, search.state()))
        self.step, self.share, self.scores = going.step, going.share, list(going.scores)
        search.company = [list(run) for run in self.dreaming.origin.company] or [[going.step, 1, 0]]
        self.began -= going.share * (self.settings.time or 0.0)

    def advance(self) -> Snapshot | None:
        """Count the step that all searches have just made; a snapshot where one is due."""
        self.step += 1
        self.trail()
        return self.look()

    def look(self) -> Snapshot | None:
        """How far the dream is now; a snapshot where one is due."""
        self.share = self.reached()
        # Asked for before the first step, a stop is meant as well.
        self.done = self.share >= 1 or self.dreaming.stopped.is_set()
        if self.done:
            self.dreaming.stopped.clear()
        keep = self.survivors()
        due = keep == 1 and self.until is None and self.step % self.settings.save_every == 0
        if not (due or self.done or keep < len(self.searches)):
            return None
        shot = self.select(keep)
        if keep == 1 and not self.done and self.settings.until == "plateau" and settled(self.scores):
            self.done, self.share, self.dreaming.broken_off = True, 1.0, None
            self.dreaming.note(f"no better for a fifth of the dream: done after {self.step} steps")
            return replace(shot, share=1.0, last=True)
        return shot

    def reached(self) -> float:
        """How much of the dream is done, by steps or by the clock."""
        if self.step == self.until:
            return 1.0
        if self.settings.time is not None:
            return min(1.0, (time.monotonic() - self.began) / self.settings.time)
        assert self.settings.steps is not None, "complete settings have steps or a time"
        return self.step / self.settings.steps if self.settings.steps else 1.0

    def survivors(self) -> int:
        """How many searches go on from here."""
        keep = len(self.searches)
        while self.rungs and self.share >= self.rungs[0]:
            del self.rungs[0]
            keep = (keep + 1) // 2
        return 1 if self.done else keep

    def select(self, keep: int) -> Snapshot:
        """Go on with the ``keep`` searches that score best; the snapshot of the first of them."""
        shots = sorted(map(self.shoot, self.searches), key=lambda shot: shot[1].score, reverse=True)
        self.searches = [search for search, _ in shots[:keep]]
        shot = shots[0][1]
        self.score = shot.score
        self.scores.append((self.share, shot.score))
        if self.dreaming.best is None or shot.score > self.dreaming.best.score:
            self.dreaming.best = shot
        self.dreaming.broken_off = self.broken_off() if keep == 1 else None
        return shot

    def broken_off(self) -> Going:
        """All that the dream could go on from at this step."""
        best, state = self.dreaming.best, self.searches[0].state()
        assert best is not None, "there is a snapshot"
        mark = Mark(best.latents, best.step, best.score, best.seed)
        kept = {name: part.detach().clone() for name, part in state.items()}
        return Going(self.step, self.share, kept, mark, tuple(self.scores))

    def shoot(self, search: Search) -> tuple[Search, Snapshot]:
        """A search with its snapshot; a :class:`BigsleepError` if there is nothing but NaN to see."""
        image = self.optimizer.render(search)
        score = self.optimizer.score(search, image)
        if not math.isfinite(score):
            raise BigsleepError(f"the dream diverged by step {self.step}: give it a smaller --lr or --class-lr")
        image = self.optimizer.finished(search, self.settings.image_size).cpu()
        assert search.settings.seed is not None
        seed, latents = search.settings.seed, search.shown()
        layers = search.layers.averaged(search.average.values())
        generator, plan = self.dreaming.models.generator, self.dreaming.plan
        told = described(layers, plan.parts, generator.class_names if generator.alpha else None) if plan else ()
        company = tuple(tuple(run) for run in search.company)
        return search, Snapshot(image, score, self.step, seed, self.share, self.done, latents, told, company)

    def tell(self) -> None:
        if self.dreaming.on_step:
            seconds = time.monotonic() - self.began
            self.dreaming.on_step(Progress(self.step, self.share, seconds, self.score))


def settled(scores: list[tuple[float, float]]) -> bool:
    """Whether the best of ``scores``, each with its share of a dream, rose by no more than their noise for a fifth.

    The noise is the deviation of neighbours' differences, over the root of 2 as each has two of it.
    """
    now = scores[-1][0]
    before = [score for share, score in scores if share <= now - 0.2 + 1e-9]
    since = [score for share, score in scores if share > now - 0.2 + 1e-9]
    if len(before) < 3 or len(since) < 3:
        return False
    steps = [later - earlier for earlier, later in pairwise(before[-len(since) :] + since)]
    return max(since) <= max(before) + stdev(steps) / math.sqrt(2)


def halvings(count: int) -> list[float]:
    """Shares of a dream after which the weaker half of ``count`` starts is dropped (successive halving).

    Each of the rounds spends as much on those that will not win, so that all of them cost two dreams (Jamieson and
    Talwalkar 2016 spend evenly too, but know no full length).

    >>> [round(share, 2) for share in halvings(8)]
    [0.05, 0.16, 0.49]
    """
    alive = []
    while count > 1:
        alive.append(count)
        count = (count + 1) // 2
    rungs, share = [], 0.0
    for there in alive:
        share += 1 / (len(alive) * (there - 1))
        rungs.append(share)
    return rungs


def together(dreams: Iterable[Dream], parallel: int = 1) -> Iterator[tuple[Dream, Snapshot | Exception]]:
    """Dream of many prompts, ``parallel`` of them in one batch; snapshots of any as they come.

    The next dream begins as soon as one has ended. An exception instead of a snapshot ends its dream, and no other.
    ``dreams`` is read as there is room.
    """
    waiting, courses = iter(dreams), list[Course]()
    while True:
        while sum(len(course.searches) for course in courses) < parallel:
            dreaming = next(waiting, None)
            if dreaming is None:
                break
            try:
                course = Course(dreaming)
                # A dream without steps is over before the first, and so is one that was broken off at its end.
                at_once = course.look() if course.reached() >= 1 else None
            except Exception as error:
                yield dreaming, explained(error, dreaming)
                continue
            if at_once is None:
                courses.append(course)
            else:
                yield dreaming, at_once
        if not courses:
            return
        for optimizer in dict.fromkeys(course.optimizer for course in courses):
            group = [course for course in courses if course.optimizer is optimizer]
            try:
                step_all(group, parallel)
            except Exception as error:
                for course in group:
                    courses.remove(course)
                    yield course.dreaming, explained(error, course.dreaming)
        for course in list(courses):
            try:
                snapshot = course.advance()
            except Exception as error:
                courses.remove(course)
                yield course.dreaming, explained(error, course.dreaming)
                continue
            if course.done:
                courses.remove(course)
            if snapshot is not None:
                yield course.dreaming, snapshot
            course.tell()


def step_all(courses: list[Course], parallel: int) -> None:
    """One step of all searches of ``courses``, ``parallel`` at a time; of dreams that are seen again, as it was then."""
    for course in courses:
        if course.replays():
            course.step_in_company()
    pairs = [(search, course.share) for course in courses if not course.replays() for search in course.searches]
    for begin in range(0, len(pairs), parallel):
        searches, shares = zip(*pairs[begin : begin + parallel], strict=True)
        courses[0].optimizer.step(searches, shares)
        alike = len({search.shape() for search in searches}) == 1
        for place, search in enumerate(searches):
            search.met(*(len(searches), place) if alike else (0, 0))


def explained(error: Exception, dreaming: Dream) -> Exception:
    if isinstance(error, torch.OutOfMemoryError):
        models = dreaming.models
        return BigsleepError(f"{models.device} has too little memory for {models.model}: try a smaller one")
    return error


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
