"""What a person at a terminal sees and does: progress, results on stdout, Ctrl-C."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import click

from bigsleep import events
from bigsleep.batch import Job, Outcome, reason
from bigsleep.errors import BigsleepError
from bigsleep.keep import Keeper

if TYPE_CHECKING:
    from bigsleep.dreamer import Dream
    from bigsleep.preview import Preview
    from bigsleep.snapshot import Progress


class Runner(Protocol):
    """What turns jobs into outcomes, here or elsewhere."""

    def outcomes(self, jobs: list[Job]) -> Iterator[Outcome]: ...

    def stop(self) -> None: ...


def run(jobs: list[Job], runner: Runner, keeper: Keeper, stop: Stop, show: Show, say: Say, debug: bool) -> None:
    """Run ``jobs``, keep what comes and print where it is; a :class:`BigsleepError` at the end if some have failed."""
    with stop.ends(runner.stop), show:
        for outcome in runner.outcomes(jobs):
            try:
                if outcome.error is not None:
                    raise outcome.error
                path = keeper.keep(outcome)
            except Exception as error:
                if outcome.last:
                    keeper.add_failure(replace(outcome, error=error))
                    show.failed(outcome.job, error, debug)
                else:  # a snapshot: there may be room for the next
                    show.note(f"{one_line(reason(error))}; the dream goes on")
                continue
            if path is not None:
                show.saved(outcome, path)
                if outcome.last:
                    with show.paused():
                        say(outcome.record(str(path)), path)
    stop.leave_if_asked()
    if show.lost:
        raise BigsleepError(f"{show.lost} of {show.total} pictures could not be made")


class Say:
    """Results on what is stdout now, whatever is put aside later: a path or a record for each picture, out at once."""

    def __init__(self, as_json: bool, null: bool) -> None:
        self.as_json, self.end, self.out = as_json, "\0" if null else "\n", sys.stdout

    def __call__(self, record: dict[str, Any], path: Path) -> None:
        text = json_line(record | {"path": str(path)}) if self.as_json else str(path)
        self.out.write(text + self.end)
        self.out.flush()


def json_line(record: dict[str, Any]) -> str:
    """A record as JSON; what is no Unicode, as in a file's name, stays JSON's own escape."""
    return json.dumps(record, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()


class Stop:
    """Ctrl-C, SIGTERM and a terminal that goes away: end the dreams in progress after their step.

    A second one, or one with no dream in progress, ends at once. Under ``nohup`` terminals may go.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self.halt: Callable[[], None] | None = None
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)  # Windows has no SIGHUP
            if number and not (name == "SIGHUP" and signal.getsignal(number) == signal.SIG_IGN):
                signal.signal(number, self.handle)

    def ends(self, halt: Callable[[], None]) -> Stop:
        self.halt = halt
        return self

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None:
        self.halt = None

    def handle(self, number: int, _frame: FrameType | None) -> None:
        if self.signal is not None:
            leave(128 + number)
        self.signal = number
        if self.halt is None:
            raise SystemExit(128 + number)  # unwinds, so that a download in progress takes its temporary file along
        self.halt()

    def leave_if_asked(self) -> None:
        if self.signal is not None:
            raise SystemExit(128 + self.signal)


def one_line(message: str, longest: int = 1000) -> str:
    """A message as one line of what can be printed, as when it quotes a list of a gigabyte, or a terminal's commands."""
    line = " ".join(message[: 2 * longest].split())
    line = "".join(sign if sign.isprintable() else "?" for sign in line)
    return line if len(line) <= longest else line[:longest] + "…"


def leave(code: int) -> NoReturn:
    """Exit without waiting for what torch may be doing in other threads."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, RuntimeError):  # the signal may have come while it was writing
            stream.flush()
    os._exit(code)


class Show:
    """Progress on stderr: a bar where it is a terminal, a line per snapshot or picture where not, nothing when quiet.

    With ``preview`` a terminal also shows the pictures.
    """

    def __init__(self, quiet: bool, total: int, before: int = 0, preview: bool = False) -> None:
        self.quiet, self.total, self.before = quiet, total, before
        self.terminal = sys.stderr.isatty()
        self.preview = preview_of(self.terminal) if preview and not quiet else None
        self.bar: Any = None
        self.ended = 0  # in this run
        self.lost = 0
        self.running: dict[str, Progress] = {}
        self.began = time.monotonic()

    def note(self, line: str) -> None:
        if not self.quiet:
            with self.paused():
                click.echo(f"bigsleep: {line}", err=True)

    def __enter__(self) -> None:
        self.began = time.monotonic()
        if self.terminal and not self.quiet and self.total > self.before:
            from tqdm import tqdm

            shape = "{percentage:3.0f}%|{bar}| {desc} [{elapsed}<{remaining}{postfix}]"
            self.bar = tqdm(
                total=self.total, initial=self.before, bar_format=shape, file=sys.stderr, miniters=0, mininterval=0
            )

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    def paused(self) -> contextlib.AbstractContextManager[None]:
        """The bar out of the way of what is printed meanwhile."""
        if self.preview is not None:
            self.preview.drawn = 0
        return self.aside()

    def aside(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext() if self.bar is None else self.bar.external_write_mode()

    def start(self, job: Job, dreaming: Dream) -> None:
        if self.total == 1:
            settings = dreaming.settings
            self.of = "" if settings.steps is None else f"/{settings.steps}"
            self.note(f"{dreaming.prompt.text!r} with {settings.model}, {settings.clip}, seed {settings.seed}")

    def step(self, job: Job, progress: Progress) -> None:
        self.running[job.key] = progress
        if self.bar is None:
            return
        if self.total == 1:
            score = "" if progress.score is None else f" score {progress.score:.3f}"
            what, count, unit = f"step {progress.step}{self.of}{score}", progress.step, "steps"
            if not progress.step:
                what, count, unit = f"audition {progress.heard}/{progress.auditions}", progress.heard, "auditions"
            self.bar.set_description_str(what, refresh=False)
            self.bar.set_postfix_str(f"{count / progress.seconds:.2f} {unit}/s", refresh=False)
        self.draw()

    def draw(self) -> None:
        if self.bar is None:
            return
        if self.total > 1:
            failed = f", {self.lost} failed" if self.lost else ""
            self.bar.set_description_str(f"{self.before + self.ended}/{self.total}{failed}", refresh=False)
        self.bar.update(self.before + self.made() - self.bar.n)

    def made(self) -> float:
        """Pictures of this run, those under way by their share."""
        return self.ended + sum(progress.share for progress in self.running.values())

    def end(self, job: Job) -> None:
        self.running.pop(job.key, None)
        self.ended += 1
        self.draw()

    def saved(self, outcome: Outcome, path: Path) -> None:
        progress = self.running.get(outcome.job.key)
        if outcome.last and self.total > 1:
            self.end(outcome.job)
        self.see(outcome)
        if self.quiet or self.terminal or outcome.last != (self.total > 1):
            return
        score = f"score {outcome.recipe['score']:.3f}"
        if self.total == 1:
            left = f", {progress.seconds_left:.0f} s left" if progress and outcome.share < 1 else ""
            click.echo(f"step {outcome.recipe['step']}{self.of} {score}{left} {path}", err=True)
        else:
            seconds = (time.monotonic() - self.began) * (self.total - self.before - self.ended) / self.made()
            left = f", {timedelta(seconds=round(seconds))} left" if seconds else ""
            click.echo(f"{self.before + self.ended}/{self.total} {score}{left} {path}", err=True)

    def dreamt(self, outcome: Outcome) -> None:
        """A dream is over whose picture goes into no file."""
        self.end(outcome.job)
        self.see(outcome)

    def see(self, outcome: Outcome) -> None:
        if self.preview is not None:
            with self.aside():
                self.preview.show(outcome.png)

    def failed(self, job: Job, error: Exception, debug: bool) -> None:
        self.lost += 1
        self.end(job)
        with self.paused():
            if debug:
                traceback.print_exception(error)
            click.echo(f"bigsleep: {job.prompt[:60]!r}: {one_line(reason(error))}", err=True)


class Events(Show):
    """Progress on stderr as an event a line, whatever stderr is."""

    def tell(self, event: dict[str, Any]) -> None:
        click.echo(json.dumps(event), err=True)

    def note(self, line: str) -> None:
        self.tell({"event": "note", "version": events.VERSION, "text": line})

    def __enter__(self) -> None: ...

    def start(self, job: Job, dreaming: Dream) -> None:
        self.tell(events.started(job, dreaming))

    def step(self, job: Job, progress: Progress) -> None:
        self.tell(events.stepped(job, progress))

    def saved(self, outcome: Outcome, path: Path) -> None:
        self.tell(events.came(outcome, str(path)))

    def dreamt(self, outcome: Outcome) -> None:
        self.tell(events.came(outcome, ""))

    def failed(self, job: Job, error: Exception, debug: bool) -> None:
        self.lost += 1
        if debug:
            traceback.print_exception(error)
        self.tell(events.failed(job, error))


def showing(progress: str, quiet: bool, total: int, before: int = 0, preview: bool = False) -> Show:
    """How progress is shown where ``--progress`` says ``progress``."""
    return Events(quiet, total, before) if progress == "json" else Show(quiet, total, before, preview)


def preview_of(terminal: bool) -> Preview | None:
    """What shows pictures on stderr, if it is a terminal."""
    from bigsleep.preview import Preview

    return Preview() if terminal else None
