"""Dreams whose clock jumps while they write, in a folder that other commands sweep meanwhile."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from benchmarks.kills import Fork, Tried, alone, bigsleep, leftover, wanting

YEARS = 30 * 365 * 86400.0  # seconds that it jumps by at most, back or forth


def clock_jumps(times: int, seed: int, folder: Path) -> Tried:
    """Dream ``times`` times under a clock that jumps, and sweep the folder all the while as a command does that begins."""
    from bigsleep.disk import sweep

    chance, tried, out = random.Random(seed), Tried(), folder / "out"
    processes, start = folder / "proc", psutil.boot_time()
    processes.mkdir()
    psutil.PROCFS_PATH = str(processes)  # of this process alone: it is a fork
    (args,) = alone("--save-progress").commands(out)
    for _ in range(times):
        out.mkdir()
        fork = Fork(jumping(bigsleep(args), random.Random(chance.random())), folder / "log")
        (processes / str(fork.number)).symlink_to(f"/proc/{fork.number}")
        while not fork.over():
            # Linux counts the machine's start back from the time that it is told.
            (processes / "next").write_text(f"btime {start + jump(chance):.0f}\n")
            (processes / "next").rename(processes / "stat")
            tried.happened["looks at a picture half written, which was left alone"] += bool(leftover(out))
            sweep(out)
            time.sleep(0.002)
        (processes / str(fork.number)).unlink()
        tried.times += 1
        printed = set(fork.printed())
        tried.lost += [*fork.complaints(), *wanting(out, printed), *leftover(out)]
        if len(list(out.glob("*.png"))) != 4 or len(printed) != 1:
            tried.lost.append(f"there are {sorted(os.listdir(out))}")
        shutil.rmtree(out)
    return tried


def jump(chance: random.Random) -> float:
    """Seconds by which a clock is set: minutes as often as years."""
    return chance.choice((-1, 1)) * YEARS ** chance.random()


def jumping(work: Callable[[], object], chance: random.Random) -> Callable[[], object]:
    """``work`` with a time that jumps whenever it is asked for, and dates every file that is written."""

    def run() -> object:
        sync, now = os.fsync, time.time

        def dated(file: int) -> None:
            os.utime(file, (max(0.0, now() + jump(chance)),) * 2)
            sync(file)

        os.fsync, time.time = dated, lambda: now() + jump(chance)
        return work()

    return run
