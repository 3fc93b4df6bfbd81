"""The command in forks of this process, where models lie loaded, killed at random moments, and told to go on.

A fork proves what a fresh interpreter would, for what counts is what lies on the disk; and it takes no four seconds to begin. Its
dreams are short and its disk is slow, so that more of the moments are those in which something is written.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

QUICK = ("--model", "emoji", "--layers", "1", "--cutouts", "1", "--auditions", "1", "--save-every", "1")
THINGS = ("cat", "dog", "owl", "house", "boat", "apple", "tree", "star", "heart", "fish", "moon", "hat")
LISTING = [f"a {colour} {thing}" for colour in ("red", "blue") for thing in THINGS]
SYNC = 0.02  # seconds that a disk takes to have written: one that turns


@dataclass
class Tried:
    """How often a fault was tried, what happened, by how many times, and what was lost, in words."""

    times: int = 0
    happened: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)


def prepare() -> None:
    """Have all that a command needs in this process, before it forks; with one thread, for threads are no fork's."""
    import torch

    torch.set_num_threads(1)
    from bigsleep import Dream, Models, Settings
    from bigsleep.optimizer import Optimizer

    models = Models.load(Settings(model="emoji", device="cpu", precision="fp32", threads=1))
    Models.load = classmethod(lambda *_, **__: models)  # type: ignore[assignment, method-assign]
    Optimizer.finished = lambda self, search, side: self.render(search)  # type: ignore[method-assign]
    dreaming = Dream("a cat", models=models, model="emoji", layers="1", cutouts=1, auditions=1, steps=1)
    for shot in dreaming:
        dreaming.picture(shot).png()
    import bigsleep.manifest
    import bigsleep.terminal  # noqa: F401


class Fork:
    """``work`` in a fork of this process, its streams in the files ``log.out`` and ``log.err``."""

    def __init__(self, work: Callable[[], object], log: Path) -> None:
        self.log, self.number, self.code = log, os.fork(), 0
        if self.number:
            return
        code = 70
        try:
            for number, ending in ((1, ".out"), (2, ".err")):
                os.dup2(os.open(log.with_suffix(ending), os.O_CREAT | os.O_WRONLY | os.O_TRUNC), number)
            slow_down()
            work()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def kill_after(self, seconds: float) -> bool:
        """Whether it ran that long, and is now killed; else ``code`` is what it ended with."""
        until = time.monotonic() + seconds
        while not self.over():
            if time.monotonic() >= until:
                os.kill(self.number, signal.SIGKILL)
                os.waitpid(self.number, 0)
                return True
            time.sleep(0.002)
        return False

    def over(self) -> bool:
        number, status = os.waitpid(self.number, os.WNOHANG)
        self.code = os.waitstatus_to_exitcode(status)
        return bool(number)

    def ended(self) -> int:
        """What it ends with, waited for."""
        self.code = os.waitstatus_to_exitcode(os.waitpid(self.number, 0)[1])
        return self.code

    def complaints(self) -> list[str]:
        """That it ended badly, if it did."""
        said = self.log.with_suffix(".err").read_text()
        return [f"it ended with {self.code}: {said[-300:]}"] if self.code else []

    def printed(self) -> list[Path]:
        """The paths that were printed whole."""
        text = self.log.with_suffix(".out").read_text()
        return [Path(line) for line in text.split("\n")[:-1]]


def slow_down() -> None:
    sync = os.fsync

    def slowly(file: int) -> None:
        time.sleep(SYNC)
        sync(file)

    os.fsync = slowly


def bigsleep(args: list[str]) -> Callable[[], object]:
    """The command, to be run in a fork."""
    from bigsleep.commands import main

    return lambda: main(args)


def wanting(folder: Path, paths: set[Path]) -> Iterator[str]:
    """What is wrong in a folder that a command was killed in: half a picture, or none where ``paths`` say there is one."""
    for path in {*folder.glob("*.png"), *paths}:
        try:
            with Image.open(path) as image:
                image.load()
        except OSError as error:
            yield f"{path.name}: {error}"


@dataclass(frozen=True)
class Way:
    """A way to dream: the commands that run side by side in ``folder``, and what is wrong with the folder in the end.

    ``early`` is the part of their life in which they are killed.
    """

    commands: Callable[[Path], list[list[str]]]
    complete: Callable[[Path], list[str]]
    early: float = 1.0


def alone(*options: str) -> Way:
    def commands(folder: Path) -> list[list[str]]:
        return [["a cat", *QUICK, "--steps", "3", "-q", "--output-dir", str(folder), *options]]

    return Way(commands, leftover)


def listed(*options: str, shards: int = 1, early: float = 0.2) -> Way:
    def commands(folder: Path) -> list[list[str]]:
        listing = folder.parent / "list.txt"
        listing.write_text("".join(f"{prompt}\n" for prompt in LISTING))
        args = ["batch", str(listing), *QUICK, "--steps", "1", "-q", "--output-dir", str(folder), *options]
        return [args if shards == 1 else [*args, "--shard", f"{i + 1}/{shards}"] for i in range(shards)]

    return Way(commands, all_made, early)


def leftover(folder: Path) -> list[str]:
    return [f"{path.name} was left behind" for path in folder.glob(".bigsleep-*.tmp")]


def all_made(folder: Path) -> list[str]:
    """What is wrong with a list's folder when it is done: each prompt has one picture and one record, none was left half."""
    from bigsleep.picture import read_recipe

    pictures = sorted(folder.glob("*.png"))
    made = Counter(read_recipe(path)["prompt"] for path in pictures)
    records = [json.loads(line) for path in folder.glob("manifest*.jsonl") for line in path.read_text().splitlines()]
    wrong = [f"{prompt!r} was made {made[prompt]} times" for prompt in LISTING if made[prompt] != 1]
    if sorted(record["path"] for record in records) != [path.name for path in pictures]:
        wrong.append("records and pictures differ")
    return wrong + leftover(folder)


WAYS = {
    "a dream": alone(),
    "a dream with `--overwrite`": alone("--overwrite"),
    "a dream with `--save-progress`": alone("--save-progress"),
    "a list": listed(),
    "a list with `--parallel 4`": listed("--parallel", "4", early=0.3),
    "a list in two shards in one folder": listed(shards=2),
}


def killed(way: Way, times: int, seed: int, folder: Path) -> Tried:
    """Kill a way of dreaming at ``times`` random moments, each going on with what the one before has left."""
    chance, tried, printed = random.Random(seed), Tried(), set[Path]()
    life = finish(way, folder, tried, printed)
    out = folder / "out"
    clear(out, printed)
    while tried.times < times:
        out.mkdir(exist_ok=True)
        commands = way.commands(out)
        forks = [Fork(bigsleep(args), folder / f"log{i}") for i, args in enumerate(commands)]
        moment = chance.uniform(0, way.early * life)
        fell = [fork.kill_after(moment if i == 0 else 0.0) for i, fork in enumerate(forks)]
        printed |= {path for fork in forks for path in fork.printed()}
        tried.times += sum(fell)
        tried.happened["in the middle of a write"] += any(fell) and bool(leftover(out))
        tried.lost += [*wanting(out, printed), *(what for fork in forks for what in fork.complaints())]
        if not any(fell) and "batch" in commands[0]:  # done: the next one begins anew
            tried.happened["times a list came to its end, all whole"] += 1
            tried.lost += way.complete(out)
            clear(out, printed)
    finish(way, folder, tried, printed)
    tried.happened["whole pictures in the end"] = len(list(out.glob("*.png")))
    return tried


def clear(folder: Path, printed: set[Path]) -> None:
    shutil.rmtree(folder)
    printed.clear()


def finish(way: Way, folder: Path, tried: Tried, printed: set[Path]) -> float:
    """Let it go on to its end once; the seconds that this takes."""
    began, out = time.monotonic(), folder / "out"
    out.mkdir(exist_ok=True)
    forks = [Fork(bigsleep(args), folder / f"log{i}") for i, args in enumerate(way.commands(out))]
    for fork in forks:
        fork.ended()
        tried.lost += fork.complaints()
        printed |= set(fork.printed())
    seconds = time.monotonic() - began
    tried.lost += [*wanting(out, printed), *way.complete(out)]
    return seconds


@contextlib.contextmanager
def cluster(workers: int) -> Iterator[str]:
    """A Ray cluster of this machine, with room for so many workers; its address. In a process of its own, for it has threads."""
    program = (
        "from ray.cluster_utils import Cluster\n"
        f"nodes = Cluster(initialize_head=True, head_node_args={{'num_cpus': {workers}, 'include_dashboard': False}})\n"
        "print(nodes.address, flush=True)\ninput()\nnodes.shutdown()"
    )
    head = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert head.stdin is not None and head.stdout is not None
    try:
        yield head.stdout.readline().strip()
    finally:
        head.communicate("\n")
