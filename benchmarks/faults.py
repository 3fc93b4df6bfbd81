"""Every fault that bigsleep is proof against, tried: what happened, and what was lost.

    python -m benchmarks.faults [--share 0.1] [--seed 1]

Kills come at random moments of commands that run in forks (see ``kills.py``, ``downloads.py`` and ``clocks.py``), two side by
side; what a test tries already is tried by it, with the number of examples that it drew. A ``--share`` of less than 1 leaves those
out, as the test suite has them, and kills less often. Prints the table of ``docs/reliability.md``; the last line is one JSON object.
Linux alone.
"""

from __future__ import annotations

import json
import os
import pickle
import re
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import click
import psutil

from benchmarks.clocks import clock_jumps
from benchmarks.downloads import fetches_killed
from benchmarks.kills import WAYS, Tried, cluster, killed, listed, prepare

KILLS = 100
STEPS, DREAMS = 2000, 300  # of the long run, and of the many
LANES = 2  # tries side by side

# By what tests try it: the beginnings of their names in their files.
TESTED = {
    "a connection that breaks, is reset, stalls or only trickles": (
        "test_fetch", "test_what_breaks_off", "test_a_connection_that_breaks", "test_chunks_that_break_off",
    ),
    "a part of another version, of another address, or damaged": (
        "test_fetch", "test_two_versions", "test_a_part_of_an", "test_a_part_that", "test_a_server_that_names_no",
    ),
    "a server without Range": ("test_fetch", "test_a_server_without_range"),
    "wrong length, wrong hash, HTML, 403, 404, a body without end": ("test_fetch", "test_what_is_wrong_for_good", "test_what_the_server"),
    "429 and 5xx, with and without Retry-After": (
        "test_fetch", "test_tries_are_bounded", "test_retry_after", "test_a_server_that_wants",
    ),
    "redirects: to plain http, and without end": ("test_fetch", "test_a_redirect", "test_redirects_without"),
    "any of these in a row": ("test_fetch", "test_whatever_happens"),
    "an address that has nothing, or another model": ("test_weights", "test_the_next_address", "test_a_mirrors_"),
    "no network": ("test_weights test_cli_models", "test_offline"),
    "a cached file that has changed": ("test_weights test_cli_models", "test_what_has_changed", "test_a_folder_where", "test_verify_"),
    "ten processes on an empty cache; a lock whose holder died": ("test_weights", "test_ten_processes", "test_a_process_", "test_a_kill_"),
    "a cache that is read-only or full": ("test_weights", "test_a_read_only", "test_a_full_disk"),
    "a checkpoint that is a program, a bomb, or damaged": ("test_checkpoint", "test_a_checkpoint", "test_a_torchscript", "test_a_file_that", "test_a_damaged"),
    "a config.json of absurd sizes, or none": ("test_checkpoint", "test_a_config_of", "test_a_config_that"),
    "a loss that is no number": ("test_history", "test_"),
    "memory that ends": ("test_memory test_optimizer", "test_less_is_done", "test_out_of_memory"),
    "any text for a prompt": ("test_picture test_prompt", "test_every_prompt", "test_spellings", "test_any"),
    "any bytes, table or JSON for a list": ("test_lists", "test_"),
    "folders that vanish, disks that fill up or lock, pictures deleted": ("test_disks", "test_"),
    "packages away that only tests import": ("test_lean", "test_a_dream_needs", "test_nor_does"),
    "streams closed, full or slow; terminals that go away": ("test_streams", "test_"),
    "Ray: workers and nodes that die, or never come": (
        "test_cluster", "test_whatever_dies", "test_a_job_that", "test_two_nodes", "test_models_that", "test_a_cluster_", "test_trouble",
    ),
    "Ray: workers whose memory ends": ("test_cluster", "test_a_worker_whose", "test_where_memory", "test_nodes_without"),
    "Ray: nodes that are slow but not dead": ("test_cluster", "test_a_node_that_is_slow"),
}  # fmt: skip


def tested() -> dict[str, Tried]:
    """The rows of :data:`TESTED`, of one run of the tests; a test that fails has lost."""
    files = sorted({f"tests/{name}.py" for names, *_ in TESTED.values() for name in names.split()})
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        said = f"-q -n {LANES} --dist worksteal -p no:cacheprovider --hypothesis-show-statistics"
        options = [*said.split(), f"--junitxml={report}"]
        done = subprocess.run([sys.executable, "-m", "pytest", *options, *files], capture_output=True, text=True)
        if not report.exists():
            raise click.ClickException(f"the tests did not run: {(done.stdout + done.stderr)[-500:]}")
        cases = list(ElementTree.parse(report).iter("testcase"))
    drawn = examples(done.stdout)
    rows = {}
    for fault, (names, *beginnings) in TESTED.items():
        row = rows[fault] = Tried()
        for case in cases:
            file, name = case.attrib["classname"].rpartition(".")[2], case.attrib["name"]
            if file not in names.split() or not name.startswith(tuple(beginnings)):
                continue
            if case.find("skipped") is not None:
                row.happened["skipped here"] += 1
                continue
            row.times += drawn.get(name, 1)
            wrong = next((part for part in case if part.tag in ("failure", "error")), None)
            if wrong is not None:
                row.lost.append(f"{name}: {wrong.get('message', '')[:200]}")
            else:
                row.happened["as its test says"] += drawn.get(name, 1)
    return rows


def examples(statistics: str) -> dict[str, int]:
    """How many examples each test drew, by its name, of what Hypothesis says at the end."""
    found: Counter[str] = Counter()
    name = ""
    for line in statistics.splitlines():
        if head := re.match(r"tests/\S+::(\w+).*:$", line):
            name = head[1]
        elif count := re.search(r"(\d+) passing", line):
            found[name] += int(count[1])
    return dict(found)


def long_run(steps: int) -> dict[str, float]:
    """Megabytes after a tenth of ``steps``, and after all."""
    from bigsleep import Dream

    process, taken = psutil.Process(), []
    dream = Dream("a cat", model="emoji", layers="1", cutouts=1, auditions=1, steps=steps, save_every=steps // 10)
    for _ in dream:
        taken.append(process.memory_info().rss / 1e6)
    return {"first": taken[0], "last": taken[-1]}


def many_dreams(count: int) -> dict[str, float]:
    """What open files, threads and megabytes came to be, from a tenth of ``count`` dreams in one process to the last."""
    from bigsleep import dream

    process, taken = psutil.Process(), []
    for number in range(count):
        dream("a cat", model="emoji", layers="1", cutouts=1, auditions=1, steps=1, seed=number).png()
        if number in (count // 10, count - 1):
            taken.append((process.num_fds(), process.num_threads(), process.memory_info().rss / 1e6))
    (files, threads, first), (more_files, more_threads, last) = taken
    return {"files": more_files - files, "threads": more_threads - threads, "first": first, "last": last}


def grown(work: Callable[[int], dict[str, float]], count: int) -> Tried:
    """What grows where nothing should: at most 2 % of the memory, no file, no thread."""
    found, row = work(count), Tried(times=1)
    growth = found["last"] / found["first"] - 1
    row.happened[f"{found['last']:.0f} MB, {growth:+.1%} since a tenth of it"] = 1
    if growth > 0.02 or found.get("files", 0) > 0 or found.get("threads", 0) > 0:
        row.lost.append(f"it grew: {found}")
    return row


def tries(share: float, seed: int, home: Path) -> dict[str, Callable[[], Tried]]:
    """What is tried in forks, by its name in the table."""
    times, steps, dreams = max(1, round(KILLS * share)), round(STEPS * share), round(DREAMS * share)
    found: dict[str, Callable[[], Tried]] = {}
    for number, (name, way) in enumerate(WAYS.items()):
        found[f"SIGKILL: {name}"] = partial(killed, way, times, seed + number, fresh(home / str(number)))
    found["SIGKILL: a download"] = partial(fetches_killed, times, seed, fresh(home / "fetches"))
    found["a clock that jumps while others sweep"] = partial(clock_jumps, times, seed, fresh(home / "clocks"))
    found[f"{dreams} dreams in one process"] = partial(grown, many_dreams, dreams)
    found[f"a run of {steps} steps"] = partial(grown, long_run, steps)
    return found


def side_by_side(works: dict[str, Callable[[], Tried]], folder: Path) -> Iterator[tuple[str, Tried]]:
    """What each work comes to, in forks, one a core; the last begin first, for they take longest."""
    waiting, running = list(works.items()), dict[int, tuple[str, Path]]()
    while waiting or running:
        while waiting and len(running) < LANES:
            name, work = waiting.pop()
            answer = folder / f"{len(waiting)}.answer"
            if not (number := os.fork()):
                try:
                    answer.write_bytes(pickle.dumps(work()))
                except BaseException:
                    traceback.print_exc()
                finally:
                    os._exit(0)
            running[number] = name, answer
        name, answer = running.pop(os.wait()[0])
        yield name, pickle.loads(answer.read_bytes()) if answer.exists() else Tried(lost=["it ended badly"])


def found(share: float, seed: int, ray: bool) -> Iterator[tuple[str, Tried]]:
    """Each fault with what came of it."""
    if share >= 1:
        yield from tested().items()
    prepare()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        os.environ["BIGSLEEP_CACHE"] = str(home / "cache")
        yield from side_by_side(tries(share, seed, home), home)
        if ray:
            with cluster(workers=2) as address:
                way = listed("--ray", address, shards=2, early=0.8)
                times = max(1, round(KILLS * share))
                yield "SIGKILL: the driver of a list on Ray", killed(way, times, seed, fresh(home / "ray"))


@click.command()
@click.option("--share", default=1.0, help="Of the kills, steps and dreams; below 1 without what the tests have.")
@click.option("--seed", default=1, help="Of the moments.")
@click.option("--ray/--no-ray", default=True, help="Kill drivers of a Ray cluster of this machine, too.")
def main(share: float, seed: int, ray: bool) -> None:
    began, rows = time.monotonic(), dict[str, Tried]()
    for fault, row in found(share, seed, ray):
        rows[fault] = row
        click.echo(f"{time.monotonic() - began:4.0f} s  {line(fault, row)}", err=True)
    click.echo(table(rows))
    for fault, row in rows.items():
        for what in row.lost:
            click.echo(f"lost: {fault}: {what}", err=True)
    lost = sum(len(row.lost) for row in rows.values())
    told = {
        fault: {"tried": row.times, "happened": dict(row.happened), "lost": len(row.lost)}
        for fault, row in rows.items()
    }
    click.echo(json.dumps({"lost": lost, "seconds": round(time.monotonic() - began), "faults": told}))
    sys.exit(1 if lost else 0)


def fresh(folder: Path) -> Path:
    folder.mkdir()
    return folder


def table(rows: dict[str, Tried]) -> str:
    """The rows under their heads: what tests try in their order, then kills, then the rest."""
    head = ["| fault | tried | what happened | lost |", "|---|---:|---|---:|"]
    tested, forked = [fault for fault in TESTED if fault in rows], sorted(rows.keys() - TESTED.keys())
    return "\n".join(head + [line(fault, rows[fault]) for fault in [*tested, *forked]])


def line(fault: str, row: Tried) -> str:
    happened = "; ".join(
        told if told[0].isdigit() else f"{count} {told}" for told, count in row.happened.items() if count
    )
    return f"| {fault} | {row.times} | {happened} | {len(row.lost)} |"


if __name__ == "__main__":
    main()
