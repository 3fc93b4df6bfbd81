"""How long a user waits: for --help, for the first snapshot, for the picture, and how much CPU and memory that takes.

    python -m benchmarks.start

Runs the command as a user does, from its start, with the built-in pair; the median of five. The CPU seconds of --help are
the least of nine, which a busy machine changes little.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time

import click

COMMAND = [sys.executable, "-m", "bigsleep"]


def timed_help() -> float:
    began = time.perf_counter()
    subprocess.run([*COMMAND, "--help"], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def help_cpu() -> float:
    """CPU seconds of one --help."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([*COMMAND, "--help"], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def timed_dream(folder: str) -> tuple[float, float]:
    """Seconds from the start of the command to its first snapshot and to its end."""
    began = time.perf_counter()
    arguments = ["a beautiful house", "--model", "emoji", "--seed", "1", "--output-dir", folder]
    process = subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    first = next(time.perf_counter() - began for line in process.stderr if line.startswith("step "))
    process.stderr.read()
    process.wait()
    return first, time.perf_counter() - began


def peak_memory() -> float:
    """Peak memory in MB of the greatest process so far that this one has waited for."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


@click.command()
def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        helps = [timed_help() for _ in range(5)]
        dreams = [timed_dream(folder) for _ in range(5)]
    figures = {
        "help_seconds": round(statistics.median(helps), 3),
        "help_cpu_seconds": round(min(help_cpu() for _ in range(9)), 3),
        "first_snapshot_seconds": round(statistics.median(first for first, _ in dreams), 2),
        "picture_seconds": round(statistics.median(end for _, end in dreams), 2),
        "peak_memory_mb": round(peak_memory()),
    }
    click.echo(json.dumps(figures))


if __name__ == "__main__":
    main()
