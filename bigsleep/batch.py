"""Many dreams: prompt lists read into jobs, and jobs run on this machine with each model loaded once."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from bigsleep.errors import BigsleepError
from bigsleep.settings import OPTIONS, Settings, typed

if TYPE_CHECKING:
    from bigsleep.dreamer import Dream, Models, Progress, Snapshot

HOW = ("device", "precision", "threads", "compile")  # how a picture is computed, not what it is of
MODEL = ("model", "clip", "image_size", "truncation", *HOW)  # what loading models depends on


@dataclass(frozen=True, slots=True)
class Job:
    """A picture to make: the ``index``-th prompt of a list, counted from 1, in its ``variation``, from 1 as well.

    ``key`` tells it from all other jobs of its list and is the same whenever the list is read.
    """

    index: int
    variation: int
    prompt: str
    settings: Settings
    key: str


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


def read_jobs(data: bytes, source: str, options: dict[str, Any], variations: int = 1) -> list[Job]:
    """The jobs of a prompt list.

    Parameters
    ----------
    data
        UTF-8 text: a prompt a line (blank lines and ``#`` comments skipped), JSON Lines, or CSV with a header.
    source
        The list's name, for messages. ``.csv`` and ``.jsonl`` are taken at their word, others are looked at.
    options
        Settings for all prompts; those of a row go before them.
    variations
        Jobs for each prompt, which differ in their seed.

    Raises
    ------
    BigsleepError
        With the line's number, if the list cannot be read. A prompt that cannot be dreamt of is not looked for here.
    """
    text = decoded(data, source)
    jobs: list[Job] = []
    known: dict[str, Settings] = {}  # rows that ask for the same share their settings
    seen: Counter[str] = Counter()
    for index, (line, row) in enumerate(reader_of(text, source)(text, source), 1):
        prompt, asked = row.pop("prompt"), repr(row)
        if asked not in known:
            try:
                known[asked] = row_settings(options, row)
            except BigsleepError as error:
                raise BigsleepError(f"{source}, line {line}: {error}", usage=True) from None
        settings = known[asked]
        jobs += [job_of(index, variation, prompt, settings, seen) for variation in range(1, variations + 1)]
    return jobs


def decoded(data: bytes, source: str) -> str:
    """A list's text; a :class:`BigsleepError` with the line that is not UTF-8."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise BigsleepError(f"{source}, line {line}: not UTF-8; save the list as UTF-8", usage=True) from None


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


def row_settings(options: dict[str, Any], row: dict[str, Any]) -> Settings:
    """Settings of all prompts with one row's own before them."""
    own = {name: typed(name, value) for name, value in row.items()}
    instead = {"steps": "time", "time": "steps"}
    return Settings.of({name: value for name, value in options.items() if instead.get(name) not in own} | own)


Rows = Iterator[tuple[int, dict[str, Any]]]


def reader_of(text: str, source: str) -> Callable[[str, str], Rows]:
    """How to read a list: by the ending of its name, or else by how its first line looks."""
    lowered = source.lower()
    first = next((line for _, line in content_lines(text)), "")
    columns = {column_name(cell) for cell in first.split(",")}
    if lowered.endswith(".csv") or ("prompt" in columns and columns <= {"prompt", *OPTIONS}):
        return csv_rows
    if lowered.endswith((".jsonl", ".ndjson")) or first.startswith("{"):
        return json_rows
    return text_rows


def column_name(cell: str) -> str:
    return cell.strip().strip('"').lower().replace("-", "_")


def content_lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines that are neither blank nor comments, with their numbers."""
    for number, line in enumerate(text.split("\n"), 1):
        if (stripped := line.strip()) and not stripped.startswith("#"):
            yield number, stripped


def text_rows(text: str, source: str) -> Rows:
    for number, line in content_lines(text):
        yield number, {"prompt": line}


def json_rows(text: str, source: str) -> Rows:
    for number, line in content_lines(text):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise BigsleepError(f"{source}, line {number}: no JSON ({error})", usage=True) from None
        if not isinstance(row, dict) or not isinstance(row.get("prompt"), str):
            raise BigsleepError(f'{source}, line {number}: needs an object with a "prompt"', usage=True)
        yield number, {column_name(name): value for name, value in row.items() if value is not None}


def csv_rows(text: str, source: str) -> Rows:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, skipinitialspace=True)
    header: list[str] = []
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells) or cells[0].startswith("#"):
                continue
            if not header:
                header = csv_header(cells, f"{source}, line {reader.line_num}")
            elif len(cells) > len(header):
                raise csv.Error(f"{len(cells)} cells for {len(header)} columns: put text with commas in quotes")
            else:
                row = {name: cell.strip() for name, cell in zip(header, cells, strict=False)}
                yield reader.line_num, {"prompt": "", **{name: cell for name, cell in row.items() if cell}}
    except csv.Error as error:
        raise BigsleepError(f"{source}, line {reader.line_num}: {error}", usage=True) from None


def csv_header(cells: list[str], where: str) -> list[str]:
    header = [column_name(cell) for cell in cells]
    unknown = [name for name in header if name != "prompt" and name not in OPTIONS]
    if unknown or "prompt" not in header or len(set(header)) < len(header):
        wrong = f"unknown column {unknown[0]!r}" if unknown else "the columns need one prompt, and each name once"
        raise BigsleepError(f"{where}: {wrong}; known are prompt, {', '.join(sorted(OPTIONS))}", usage=True)
    return header


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
        from bigsleep.dreamer import Models

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
        from bigsleep.dreamer import together

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
                dreaming = Dream(job.prompt, job.settings, models=self.models(job.settings), on_step=told)
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
    recipe = picture.recipe | {"job": job.key}
    return Outcome(job, replace(picture, recipe=recipe).png(), recipe, seconds, snapshot.share, last)


def drained(outcomes: list[Outcome]) -> Iterator[Outcome]:
    while outcomes:
        yield outcomes.pop(0)


def shard_of(jobs: list[Job], number: int, count: int) -> list[Job]:
    """Every ``count``-th prompt, beginning with the ``number``-th."""
    return [job for job in jobs if (job.index - number) % count == 0]
