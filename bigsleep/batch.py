"""Many dreams: jobs, what comes of them, and how they run on this machine with each model loaded once."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bigsleep.errors import BigsleepError
from bigsleep.settings import Settings

if TYPE_CHECKING:
    from bigsleep.dreamer import Dream
    from bigsleep.loading import Models
    from bigsleep.origin import Origin
    from bigsleep.picture import Picture
    from bigsleep.snapshot import Progress, Snapshot

Reading = Callable[["Picture", str], tuple[Settings, "Origin"]]  # how to go on from a picture of some name

HOW = ("device", "precision", "threads", "compile")  # how a picture is computed, not what it is of
MODEL = ("model", "clip", "image_size", "truncation", *HOW)  # what loading models depends on


@dataclass(frozen=True, slots=True)
class Job:
    """A picture to make: the ``index``-th prompt of a list, counted from 1, in its ``variation``, from 1 as well.

    ``key`` tells it from all other jobs of its list and is the same whenever the list is read. ``origin`` is what its
    dream begins with, where not with words alone.
    """

    index: int
    variation: int
    prompt: str
    settings: Settings
    key: str
    origin: Origin | None = None


@dataclass(frozen=True)
class Outcome:
    """What a job came to: a PNG and the recipe in it, or an ``error``.

    ``share`` of the dream, in 0..1, lies behind it; ``last`` says that no more comes of this job. ``seconds`` since
    the dream began.
    """

    job: Job
    png: bytes = b""
    recipe: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    share: float = 0.0
    last: bool = True
    error: Exception | None = None

    def record(self, path: str) -> dict[str, Any]:
        """The outcome in words: what ``--json`` prints and the manifest keeps."""
        if self.error is not None:
            return {"prompt": self.job.prompt, "error": reason(self.error)}
        return record_of(self.recipe, path) | {"seconds": round(self.seconds, 2)}


def reason(error: Exception) -> str:
    """What went wrong; of an error that is not the user's, its kind too."""
    return str(error) if isinstance(error, BigsleepError) else f"{type(error).__name__}: {error}"


def record_of(recipe: dict[str, Any], path: str) -> dict[str, Any]:
    """What a recipe says of the picture at ``path``."""
    settings = recipe["settings"]
    return {
        "prompt": recipe["prompt"],
        "path": path,
        "seed": settings["seed"],
        "score": recipe["score"],
        "steps": recipe["step"],
        "seconds": None,
        "model": settings["model"],
        "clip": settings["clip"],
        "versions": recipe["versions"],
    }


def jobs_of(prompts: Iterable[str], settings: Settings, variations: int = 1) -> list[Job]:
    """The jobs of some prompts that share their settings."""
    seen: Counter[str] = Counter()
    numbers = range(1, variations + 1)
    return [job_of(i, v, prompt, settings, seen) for i, prompt in enumerate(prompts, 1) for v in numbers]


def job_of(index: int, variation: int, prompt: str, settings: Settings, seen: Counter[str]) -> Job:
    """A job whose key says what it is of, and the how-manieth of its kind it is in the list (``seen`` counts)."""
    if settings.seed is not None and variation > 1:
        settings = replace(settings, seed=settings.seed + (variation - 1) * settings.best_of)
    text = json.dumps([prompt, variation, identity(settings)])
    seen[text] += 1
    key = hashlib.sha256(f"{seen[text]} {text}".encode()).hexdigest()[:20]
    return Job(index, variation, prompt, settings, key)


@lru_cache(maxsize=256)
def identity(settings: Settings) -> str:
    """What ``settings`` ask for that makes another picture."""
    asked = {
        item.name: value
        for item in fields(Settings)
        if item.name not in HOW and (value := getattr(settings, item.name)) != item.default
    }
    return json.dumps(asked)


def read_dream(
    path: Path, reading: Reading, asked: dict[str, Any], prompt: str | None, varied: bool
) -> tuple[Settings, Origin, str]:
    """The settings, the beginning and the words of the dream that goes on from the picture in a file."""
    from bigsleep.dreamer import read_prompt
    from bigsleep.origin import beginning
    from bigsleep.picture import Picture
    from bigsleep.recipe import settings_here

    picture = Picture.open(path)
    settings, origin = reading(picture, str(path))
    settings = settings_here(settings)
    changed = prompt is not None or varied or any(name not in HOW for name in asked)
    if changed:
        if origin.until is None:
            origin = beginning(picture, str(path))[1]
        steered = prompt is not None and prompt != origin.recipe["prompt"]
        origin = replace(origin, until=None, job=None, steered=steered)
    if "start" in asked:
        raise BigsleepError("a picture is what this begins with: leave out --start", usage=True)
    if "image_prompt" in asked:
        origin = replace(origin, images=())
    settings = overridden(settings, asked)
    words = origin.recipe["prompt"] if prompt is None else prompt
    read_prompt(words, settings)
    return settings, origin, words


def overridden(settings: Settings, asked: dict[str, Any]) -> Settings:
    """``settings`` with those that were ``asked`` for instead; steps stand instead of a time, and a time of steps."""
    instead = {"steps": "time", "time": "steps"}
    kept = {name: value for name, value in asdict(settings).items() if instead.get(name) not in asked}
    return Settings.of(kept | asked)


def models_key(settings: Settings) -> tuple[Any, ...]:
    """Equal for settings that ask for the same models."""
    return tuple(getattr(settings, part) for part in MODEL)


class Local:
    """Runs jobs on this machine, ``parallel`` of them in one batch.

    ``snapshots`` asks for outcomes on the way too; a job's last is always the best of them. ``on_step`` is told of every step.
    """

    def __init__(
        self,
        parallel: int = 1,
        snapshots: bool = False,
        on_start: Callable[[Job, Dream], None] = lambda *_: None,
        on_step: Callable[[Job, Progress], None] = lambda *_: None,
        note: Callable[[str], None] = lambda _: None,
        quiet: bool = False,
    ) -> None:
        self.parallel, self.snapshots, self.on_start, self.on_step = parallel, snapshots, on_start, on_step
        self.note, self.quiet = note, quiet
        self.loaded: dict[tuple[Any, ...], Models | BigsleepError] = {}
        self.running: dict[Dream, tuple[Job, float]] = {}
        self.stopping = False

    def models(self, settings: Settings) -> Models:
        """The models that ``settings`` ask for, loaded or refused once."""
        from bigsleep.loading import Models

        name = models_key(settings)
        if name not in self.loaded:
            try:
                self.loaded[name] = Models.load(settings, self.note, self.quiet)
            except BigsleepError as error:
                self.loaded[name] = error
        found = self.loaded[name]
        if isinstance(found, BigsleepError):
            raise found
        return found

    def stop(self) -> None:
        """Begin no more jobs and end those that run after their step. May be called from a signal handler."""
        self.stopping = True
        for dreaming in list(self.running):
            dreaming.stop()

    def outcomes(self, jobs: Iterable[Job]) -> Iterator[Outcome]:
        """The outcomes of ``jobs`` as they come; no failure stops the others."""
        from bigsleep.course import together

        refused: list[Outcome] = []
        for dreaming, found in together(self.dreams(jobs, refused), self.parallel):
            yield from drained(refused)
            job, began = self.running[dreaming]
            seconds = time.monotonic() - began
            if isinstance(found, Exception):
                del self.running[dreaming]
                yield Outcome(job, seconds=seconds, error=found)
                continue
            if self.snapshots:
                yield shown(job, dreaming, found, seconds, last=False)
            if found.last:
                del self.running[dreaming]
                assert dreaming.best is not None
                best = replace(dreaming.best, share=found.share)
                yield shown(job, dreaming, best, seconds, last=True)
        yield from drained(refused)

    def dreams(self, jobs: Iterable[Job], refused: list[Outcome]) -> Iterator[Dream]:
        """A dream for each of ``jobs`` that can be dreamt of."""
        from bigsleep.dreamer import Dream

        for job in jobs:
            if self.stopping:
                return
            try:
                told = partial(self.on_step, job)
                models = self.models(job.settings)
                dreaming = Dream(
                    job.prompt, job.settings, models=models, on_step=told, note=self.note, origin=job.origin
                )
            except BigsleepError as error:
                refused.append(Outcome(job, error=error))
                continue
            self.running[dreaming] = job, time.monotonic()
            if self.stopping:  # since we looked
                dreaming.stop()
            self.on_start(job, dreaming)
            yield dreaming


def shown(job: Job, dreaming: Dream, snapshot: Snapshot, seconds: float, last: bool) -> Outcome:
    picture = dreaming.picture(snapshot)
    recipe = picture.recipe | {"job": job.origin.job if job.origin and job.origin.job else job.key}
    return Outcome(job, replace(picture, recipe=recipe).png(), recipe, seconds, snapshot.share, last)


def drained(outcomes: list[Outcome]) -> Iterator[Outcome]:
    while outcomes:
        yield outcomes.pop(0)
