"""What a long list costs the process that hands it out, whatever makes its pictures.

    python -m benchmarks.scale [--prompts 1000000]

Reads a list of so many prompts, writes pictures and their records as they would come back from workers, and goes on from a
manifest in which all are recorded.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from pathlib import Path

import click
import numpy as np
import psutil
from PIL import Image

from bigsleep.batch import Job, Outcome
from bigsleep.lists import read_jobs
from bigsleep.manifest import Manifest
from bigsleep.picture import Picture


def memory_mb() -> float:
    return psutil.Process().memory_info().rss / 1e6


def outcome_of(job: Job, png: bytes) -> Outcome:
    settings = {"seed": 1, "model": "emoji", "clip": "emoji"}
    recipe = {"prompt": job.prompt, "settings": settings, "score": 0.5, "step": 60, "versions": {"bigsleep": "0"}}
    return Outcome(job, png, recipe, 1.0, share=1.0)


@click.command()
@click.option("--prompts", "count", default=1_000_000, show_default=True)
@click.option("--kept", default=300, show_default=True, help="Pictures that are written.")
def main(count: int, kept: int) -> None:
    before, began = memory_mb(), time.perf_counter()
    listing = "".join(f"a picture of the thing with number {i}\n" for i in range(count)).encode()
    jobs = read_jobs(listing, "stdin", {"model": "emoji"})
    del listing
    figures = {"prompts": count, "read_seconds": time.perf_counter() - began, "jobs_mb": memory_mb() - before}
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    png = Picture(Image.fromarray(noise).resize((512, 512), Image.Resampling.BICUBIC), {}).png()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["BIGSLEEP_CACHE"] = folder
        with Manifest(Path(folder), template="{index}") as manifest:
            began = time.perf_counter()
            for job in jobs[:kept]:
                manifest.keep(outcome_of(job, png))
            figures |= {"picture_kb": len(png) / 1e3, "keep_ms": 1e3 * (time.perf_counter() - began) / kept}
        line = {"index": 1, "variation": 1} | outcome_of(jobs[0], b"").record("picture.png")
        with open(Path(folder) / "manifest.jsonl", "w") as file:
            for job in jobs:
                file.write(json.dumps(line | {"key": job.key, "path": f"{job.index}.png"}) + "\n")
        before, began = memory_mb(), time.perf_counter()
        with Manifest(Path(folder)) as manifest:
            assert all(job.key in manifest.done for job in jobs)
            figures |= {"resume_seconds": time.perf_counter() - began, "resume_mb": memory_mb() - before}
    click.echo(json.dumps({name: round(value, 2) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
