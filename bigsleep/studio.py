"""Dreams asked for by a page: queued, one at a time, kept in a folder, and each told of to whoever listens."""

from __future__ import annotations

import contextlib
import queue
import threading
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bigsleep import events
from bigsleep.batch import Job, Local, Outcome, job_of, models_key, read_dream
from bigsleep.errors import BigsleepError
from bigsleep.keep import Files
from bigsleep.prompt import Prompt
from bigsleep.settings import Settings

if TYPE_CHECKING:
    from bigsleep.dreamer import Dream
    from bigsleep.loading import Models
    from bigsleep.snapshot import Progress

LOADED = 2  # pairs of models that stay in memory
REMEMBERED = 50  # dreams that are told of after their end
MOST_WAITING = 200


@dataclass
class Asked:
    """A dream that was asked for, or a film, and what has become of it: waiting, dreaming, done or failed.

    ``curve`` has step and score of each snapshot; ``step`` is the last ``step`` event, ``end`` the event that ended it.
    """

    number: int
    job: Job
    film: tuple[Path, ...] = ()
    state: str = "waiting"
    name: str = ""
    start: dict[str, Any] = field(default_factory=dict)
    step: dict[str, Any] = field(default_factory=dict)
    end: dict[str, Any] = field(default_factory=dict)
    curve: list[tuple[int, float]] = field(default_factory=list)
    dreaming: Dream | None = None
    stopped: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)

    def told(self) -> dict[str, Any]:
        """What the page and the API are told of it."""
        told = {name: getattr(self, name) for name in ("state", "name", "start", "step", "end", "curve")}
        return {"id": self.number, "prompt": self.job.prompt, "film": bool(self.film), **told}


class Studio:
    """Takes dreams for a ``folder``, with ``defaults`` for options that are not given, and dreams them in a thread."""

    def __init__(self, folder: Path, defaults: dict[str, Any]) -> None:
        self.folder, self.defaults = folder, {"save_every": 5} | defaults  # a picture that grows is seen to grow
        self.asked: list[Asked] = []
        self.now: Asked | None = None
        self.listeners: list[Callable[[dict[str, Any]], None]] = []
        self.seen: Counter[str] = Counter()
        self.waiting: queue.Queue[Asked | None] = queue.Queue()
        self.lock = threading.Lock()
        self.runner = Local(
            1, snapshots=True, on_start=self.on_start, on_step=self.on_step, note=self.on_note, quiet=True
        )
        self.files = Files(None, folder, "{slug}", overwrite=False, save_progress=False, alone=False)
        self.thread = threading.Thread(target=self.work, name="dreams", daemon=True)

    def open(self) -> None:
        """Begin to work, with the models of the defaults first."""
        self.thread.start()

    def close(self) -> None:
        """End the dream in progress after its step, with its best kept, and begin no other."""
        with self.lock:
            for asked in self.asked:
                asked.stopped.set()
        self.waiting.put(None)
        if self.now is not None:
            self.stop(self.now)
        self.thread.join(timeout=30)
        self.tell(None, {"event": "closed"})

    # What may be asked for. Each raises BigsleepError where it can be known that it cannot be.

    def dream(self, prompt: str, options: dict[str, Any], variations: int = 1) -> list[Asked]:
        """Dream of ``prompt``, in ``variations`` with seeds of their own."""
        settings = Settings.of(self.defaults | without_rival(self.defaults, options))
        Prompt.parse(prompt, settings.avoid)
        return self.take([job_of(1, number, prompt, settings, self.seen) for number in range(1, variations + 1)])

    def go_on(self, picture: Path, prompt: str | None, options: dict[str, Any]) -> list[Asked]:
        """Go on from a picture, with other words where ``prompt`` has some."""
        from bigsleep.origin import onward

        asked = {"save_every": self.defaults["save_every"]} | options
        settings, origin, words = read_dream(picture, onward, options and asked, prompt, varied=False)
        return self.take([replace(job_of(1, 1, words, settings, self.seen), origin=origin)])

    def vary(self, picture: Path, variations: int) -> list[Asked]:
        """Dream of a picture's words again, as it was, with other seeds."""
        from bigsleep.picture import read_recipe
        from bigsleep.recipe import checked_recipe, settings_here, settings_of

        recipe = checked_recipe(read_recipe(picture) or {}, picture.name)
        settings = replace(settings_here(settings_of(recipe, picture.name)), seed=None)
        jobs = [job_of(1, number, recipe["prompt"], settings, self.seen) for number in range(1, variations + 1)]
        return self.take(jobs)

    def morph(self, pictures: tuple[Path, ...]) -> list[Asked]:
        """Film the way between ``pictures``."""
        words = " → ".join(path.stem for path in pictures)
        return self.take([job_of(1, 1, words, Settings.of(self.defaults), self.seen)], pictures)

    def take(self, jobs: list[Job], film: tuple[Path, ...] = ()) -> list[Asked]:
        with self.lock:
            if self.waiting.qsize() + len(jobs) > MOST_WAITING:
                raise BigsleepError(f"{self.waiting.qsize()} dreams are waiting: ask again when some are done")
            first = self.asked[-1].number + 1 if self.asked else 1
            taken = [Asked(first + place, job, film) for place, job in enumerate(jobs)]
            ended = [asked for asked in self.asked if asked.ended.is_set()]
            forgotten = ended[: max(0, len(ended) - REMEMBERED)]
            self.asked = [asked for asked in self.asked if asked not in forgotten] + taken
        for asked in taken:
            self.tell(asked, {"event": "waiting", "version": events.VERSION, "job": asked.job.key})
            self.waiting.put(asked)
        return taken

    def find(self, number: int) -> Asked | None:
        with self.lock:
            return next((asked for asked in self.asked if asked.number == number), None)

    def stop(self, asked: Asked) -> None:
        """End a dream after its step, keeping the best; one that waits is not begun."""
        asked.stopped.set()
        if asked.dreaming is not None:
            asked.dreaming.stop()
        elif asked is not self.now:
            self.fail(asked, BigsleepError("taken out of the queue"))

    # What is told.

    def listen(self, listener: Callable[[dict[str, Any]], None]) -> Callable[[], None]:
        """Have ``listener`` told of each event, from whatever thread; what ends that."""
        with self.lock:
            self.listeners.append(listener)
        return lambda: self.listeners.remove(listener)

    def tell(self, asked: Asked | None, event: dict[str, Any]) -> None:
        told = event | ({"id": asked.number, "dream": asked.told()} if asked else {})
        with self.lock:
            listeners = list(self.listeners)
        for listener in listeners:
            with contextlib.suppress(RuntimeError):  # its loop is closed: the page has gone
                listener(told)

    def on_note(self, line: str) -> None:
        self.tell(None, {"event": "note", "version": events.VERSION, "text": line})

    def on_start(self, job: Job, dreaming: Dream) -> None:
        asked = self.now
        assert asked is not None
        asked.dreaming, asked.start = dreaming, events.started(job, dreaming)
        if asked.stopped.is_set():  # since it was taken up
            dreaming.stop()
        self.tell(asked, asked.start)

    def on_step(self, job: Job, progress: Progress) -> None:
        if self.now is not None:
            self.now.step = events.stepped(job, progress)
            self.tell(self.now, self.now.step)

    # What is done, in the thread.

    def work(self) -> None:
        with contextlib.suppress(BigsleepError):  # who asks for these models will be told
            self.runner.models(Settings.of(self.defaults))
        while (asked := self.waiting.get()) is not None:
            if asked.stopped.is_set():
                self.fail(asked, BigsleepError("taken out of the queue"))
                continue
            self.now, asked.state = asked, "dreaming"
            try:
                self.make_room(asked.job.settings)
                (self.make_film if asked.film else self.make_picture)(asked)
            except BigsleepError as error:
                self.fail(asked, error)
            except Exception as error:  # whatever it is, the next dream may go well
                traceback.print_exc()
                self.fail(asked, error)
            finally:
                self.now, asked.dreaming = None, None

    def make_room(self, settings: Settings) -> None:
        """Forget models that could not be had before, which may be there now, and the oldest of too many."""
        kept: dict[tuple[Any, ...], Models | BigsleepError]
        kept = {key: models for key, models in self.runner.loaded.items() if not isinstance(models, BigsleepError)}
        while models_key(settings) not in kept and len(kept) >= LOADED:
            del kept[next(iter(kept))]
        self.runner.loaded = kept

    def make_picture(self, asked: Asked) -> None:
        for outcome in self.runner.outcomes([asked.job]):
            if outcome.error is not None:
                raise outcome.error
            asked.name = self.files.keep(outcome).name
            self.came(asked, outcome)

    def came(self, asked: Asked, outcome: Outcome) -> None:
        event = events.came(outcome, asked.name)
        if outcome.last:
            asked.end, asked.state = event, "done"
            asked.ended.set()
        else:
            asked.curve.append((event["step"], event["score"]))
        self.tell(asked, event)

    def make_film(self, asked: Asked) -> None:
        from bigsleep.film import frames_in, write_film
        from bigsleep.morph import Path as Way
        from bigsleep.morph import alike
        from bigsleep.picture import Picture, slug_of

        settings, states = alike([Picture.open(path) for path in asked.film], [path.name for path in asked.film])
        path = free(self.folder / f"{slug_of(asked.job.prompt)}.webp")
        seconds, fps = 4.0, 15
        count = frames_in(seconds, fps, path)

        def seen() -> Any:
            for number, image in enumerate(Way(states, settings, self.runner.models(settings), True).images(count), 1):
                if asked.stopped.is_set():
                    raise BigsleepError("stopped before the film was whole")
                told = {"step": number, "share": round(number / count, 4), "score": None}
                asked.step = events.event("step", asked.job, **told)
                self.tell(asked, asked.step)
                yield image

        write_film(seen(), path, fps)
        asked.name, asked.state = path.name, "done"
        asked.end = events.event("done", asked.job, prompt=asked.job.prompt, path=path.name, frames=count)
        asked.ended.set()
        self.tell(asked, asked.end)

    def fail(self, asked: Asked, error: Exception) -> None:
        if asked.ended.is_set():
            return
        asked.end, asked.state = events.failed(asked.job, error), "failed"
        asked.ended.set()
        self.tell(asked, asked.end)


def without_rival(defaults: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """``options`` with the default steps or time, whichever of them they give the other of, put out of force."""
    instead = {"steps": "time", "time": "steps"}
    return {instead[name]: None for name in options if instead.get(name) in defaults} | options


def free(path: Path) -> Path:
    """``path``, or ``path``-2, -3, … where that is taken."""
    number, found = 1, path
    while found.exists():
        number += 1
        found = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return found
