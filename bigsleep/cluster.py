"""Prompt lists on a Ray cluster: an actor for each GPU, or for some CPUs; the driver hands out jobs and takes pictures."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import socket
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

from bigsleep.batch import Job, Local, Outcome, reason
from bigsleep.errors import BigsleepError, ShortOfMemory
from bigsleep.settings import Settings

RECRUIT = 5.0  # seconds between two looks for nodes that have come
CONNECT = 5.0  # seconds for the head node to answer
LIVES = 3  # workers that a job may take down before it is given up
LESS = "where memory is short, a lower --parallel or a larger --cpus-per-worker takes less"


class Worker:
    """What runs on the cluster: a :class:`Local` with its models, which lives as long as its actor."""

    def __init__(self, parallel: int, cpus: int) -> None:
        import torch

        torch.set_num_threads(cpus)  # until a job's --threads says otherwise
        self.notes: list[str] = []
        self.local = Local(parallel, note=self.notes.append, quiet=True)

    def load(self, settings: Settings | None) -> list[str]:
        """Load the models that ``settings`` ask for; what a user should be told."""
        if settings is not None:
            self.local.models(settings)
        return self.notes

    def run(self, jobs: list[Job]) -> list[Outcome]:
        return [portable(outcome) for outcome in self.local.outcomes(jobs)]


def portable(outcome: Outcome) -> Outcome:
    """``outcome`` with an error that any machine can read."""
    error = outcome.error
    if error is not None and not isinstance(error, BigsleepError):
        return replace(outcome, error=BigsleepError(reason(error)))
    return outcome


def knock(address: str) -> None:
    """A :class:`BigsleepError` where nobody listens at ``host:port``: Ray would go on asking for ten minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        try:
            socket.create_connection((host, int(port)), CONNECT).close()
        except (OSError, OverflowError) as error:
            raise BigsleepError(f"no Ray cluster answers at {address} ({error}): is its head node up?") from None


class Cluster:
    """Runs jobs on Ray: at ``address``, or on this machine's own where that is empty. A context manager.

    ``settings`` say which models the workers load before they take jobs; None leaves that to the jobs.
    Each worker has one GPU, where there are any, or else ``cpus`` CPUs, and takes ``parallel`` jobs at a time. Jobs of a
    worker that died go to the others; nodes that come later get workers too.

    Raises
    ------
    BigsleepError
        If Ray is not installed or its cluster cannot be reached, or the models cannot be had.
    """

    def __init__(
        self,
        address: str,
        settings: Settings | None,
        parallel: int = 1,
        cpus: int = 1,
        note: Callable[[str], None] = print,
    ) -> None:
        knock(address)
        # Ray asks and reports home otherwise.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            ray: Any = importlib.import_module("ray")
        except ImportError:
            raise BigsleepError("--ray needs Ray: pip install 'bigsleep[ray]'", usage=True) from None
        try:
            ray.init(address or None, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise BigsleepError(f"no Ray cluster at {address or 'this machine'}: {error}") from error
        self.ray, self.settings, self.parallel, self.cpus, self.note = ray, settings, parallel, cpus, note
        self.busy: dict[Any, tuple[Any, list[Job]]] = {}  # call under way: its worker and jobs
        self.idle: list[Any] = []
        self.told: set[str] = set()
        self.stillborn = 0  # workers that died before any had loaded its models; -1 once one has
        self.proven = False  # whether any worker has made a picture
        self.stopping = False

    def stop(self) -> None:
        """Wait for no more outcomes. May be called from a signal handler."""
        self.stopping = True

    def __enter__(self) -> Cluster:
        # Ray prints a lost node's last words on stdout, where only results belong.
        self.aside = contextlib.ExitStack()
        self.aside.enter_context(contextlib.redirect_stdout(self.aside.enter_context(open(os.devnull, "w"))))
        return self

    def __exit__(self, *_: object) -> None:
        self.ray.shutdown()
        self.aside.close()

    def slots(self) -> tuple[int, dict[str, float]]:
        """How many workers the living nodes have room for, and what each of them takes."""
        nodes = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        gpus = sum(int(node.get("GPU", 0)) for node in nodes)
        if gpus:
            return gpus, {"num_gpus": 1, "num_cpus": 0}
        return sum(int(node.get("CPU", 0)) // self.cpus for node in nodes), {"num_cpus": self.cpus}

    def recruit(self) -> None:
        """Start workers where there is room. A worker is handed its first jobs when it has loaded its models."""
        room, resources = self.slots()
        if not room and not self.busy and not self.idle:
            raise BigsleepError(f"no node of the Ray cluster has {self.cpus} CPUs: give a smaller --cpus-per-worker")
        actor = self.ray.remote(Worker).options(**resources)
        for _ in range(room - len(self.busy) - len(self.idle)):
            worker = actor.remote(self.parallel, self.cpus)
            self.busy[worker.load.remote(self.settings)] = worker, []

    def outcomes(self, jobs: Iterable[Job]) -> Iterator[Outcome]:
        """The outcomes of ``jobs`` as they come, each once; no failure stops the others."""
        waiting, deaths = deque(jobs), Counter[str]()
        left, looked = len(waiting), -RECRUIT
        while left and not self.stopping:
            if time.monotonic() - looked > RECRUIT:
                self.recruit()
                looked = time.monotonic()
            while waiting and self.idle:
                self.hand_out(self.idle.pop(), waiting)
            if not self.busy:
                time.sleep(1)
                continue
            for call in self.ray.wait(list(self.busy), num_returns=1, timeout=1)[0]:
                for outcome in self.result(call, waiting, deaths):
                    left -= 1
                    yield outcome

    def hand_out(self, worker: Any, waiting: deque[Job]) -> None:
        jobs = [waiting.popleft() for _ in range(min(self.parallel, len(waiting)))]
        self.busy[worker.run.remote(jobs)] = worker, jobs

    def result(self, call: Any, waiting: deque[Job], deaths: Counter[str]) -> list[Outcome]:
        """What a finished call brought. A dead worker's jobs go back to the head of the queue."""
        worker, jobs = self.busy.pop(call)
        try:
            found = self.ray.get(call)
        except self.ray.exceptions.RayTaskError as error:
            # It lives, but what its models have come to is unknown: it is dropped, and another one recruited.
            cause = error.cause if isinstance(error.cause, BigsleepError) else BigsleepError(reason(error.cause))
            if not jobs:
                raise cause from None
            return [Outcome(job, error=cause) for job in jobs]
        except self.ray.exceptions.RayError as error:
            if not jobs:
                self.count_stillborn(error)
            return self.bury(jobs, waiting, deaths)
        if self.proven and any(isinstance(outcome.error, ShortOfMemory) for outcome in found if jobs):
            # Others can, or it could itself; and who fails is soon free, and would fail all that waits.
            self.ray.kill(worker)
            return self.bury(jobs, waiting, deaths)
        self.idle.append(worker)
        if jobs:
            self.proven = self.proven or any(outcome.error is None for outcome in found)
            return found
        self.stillborn = -1
        for line in set(found) - self.told:
            self.told.add(line)
            self.note(line)
        return []

    def count_stillborn(self, error: Exception) -> None:
        """Give up where no worker comes up at all."""
        if self.stillborn < 0:
            return
        self.stillborn += 1
        if self.stillborn >= LIVES:
            if isinstance(error, self.ray.exceptions.OutOfMemoryError):
                raise BigsleepError(f"no worker of the Ray cluster starts, for its nodes' memory ends: {LESS}")
            last = str(error).strip().splitlines()[-1]
            raise BigsleepError(f"no worker of the Ray cluster starts ({last}): is bigsleep installed on its nodes?")

    def bury(self, jobs: list[Job], waiting: deque[Job], deaths: Counter[str]) -> list[Outcome]:
        """Put a dead worker's jobs back; those that have cost too many workers have failed."""
        deaths.update(job.key for job in jobs)
        spared = [job for job in jobs if deaths[job.key] < LIVES]
        if spared:
            self.note(f"a worker died; others get its prompts: {', '.join(repr(job.prompt) for job in spared)}")
        waiting.extendleft(reversed(spared))
        error = BigsleepError(f"{LIVES} workers died while they dreamt of it: {LESS}")
        return [Outcome(job, error=error) for job in jobs if job not in spared]
