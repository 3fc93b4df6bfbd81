"""The manifest: a line of JSON in the output folder for each job done or failed, by which a list goes on where it stopped."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from bigsleep.batch import Job, Outcome, record_of
from bigsleep.disk import save, save_new, sweep, writing
from bigsleep.errors import BigsleepError
from bigsleep.models.weights import cache_folder
from bigsleep.picture import name_of, read_recipe


class Manifest:
    """``manifest.jsonl`` in ``folder``, or a shard's own ``manifest.3-of-8.jsonl``; held by one process at a time.

    A context manager. On entering, what killed runs left is put in order: a line half written is cut off, temporary
    files go, and pictures that were finished and not yet recorded are found by the job that their recipe names.

    Raises
    ------
    BigsleepError
        On entering, if another process holds it, or a line is no record.
    """

    def __init__(self, folder: Path, shard: tuple[int, int] | None = None, template: str = "{slug}") -> None:
        self.folder, self.template = folder, template
        self.path = folder / ("manifest.jsonl" if shard is None else f"manifest.{shard[0]}-of-{shard[1]}.jsonl")
        # Not beside the manifest: a lock file is nothing that a folder of pictures should hold.
        place = hashlib.sha256(str(self.path.resolve()).encode()).hexdigest()[:20]
        self.lock = FileLock(cache_folder() / "locks" / f"{place}.lock", timeout=0)
        self.done: set[str] = set()
        self.recorded: dict[str, str] = {}  # file names of pictures, and their jobs' keys

    def __enter__(self) -> Manifest:
        place = Path(self.lock.lock_file)
        with writing(place):
            place.parent.mkdir(parents=True, exist_ok=True)
            try:
                self.lock.acquire()
            except Timeout:
                raise BigsleepError(
                    f"another bigsleep is at work on {self.path}: wait for it, or use another --output-dir, or --shard"
                ) from None
        try:
            sweep(self.folder)
            cut_half_line(self.path)
            for path in sorted(self.folder.glob("manifest*.jsonl")):
                for record in records_in(path):
                    if "path" in record:
                        self.done.add(record["key"])
                        self.recorded[record["path"]] = record["key"]
        except BaseException:
            self.lock.release()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.lock.release()

    def keep(self, outcome: Outcome) -> Path | None:
        """Write a job's picture and then its record; where the picture is. What was stopped early is not kept."""
        if outcome.share < 1:
            return None
        job, settings = outcome.job, outcome.recipe["settings"]
        name = name_of(self.template, job.index, job.variation, job.prompt, settings["seed"], settings["model"])
        path = save_new(outcome.png, self.folder / name)
        self.write(job, outcome.record(path.name))
        return path

    def add_failure(self, outcome: Outcome) -> None:
        """Record that a job failed. When the list is run again, so is the job."""
        self.write(outcome.job, outcome.record(""))

    def write(self, job: Job, record: dict[str, Any]) -> None:
        line = {"key": job.key, "index": job.index, "variation": job.variation} | record
        with writing(self.path), open(self.path, "ab", buffering=0) as file:
            append_whole(file, line_of(line))
        if "path" in record:
            self.done.add(job.key)
            self.recorded[record["path"]] = job.key

    def adopt(self, jobs: list[Job]) -> Iterator[dict[str, Any]]:
        """Record the pictures of ``jobs`` that a killed run finished and had not recorded; their records."""
        wanted = {job.key: job for job in jobs if job.key not in self.done}
        for path, recipe in self.unrecorded() if wanted else ():
            job = wanted.pop(recipe["job"], None)
            if job is not None:
                record = record_of(recipe, path.name)
                self.write(job, record)
                yield record

    def unrecorded(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        """Pictures in the folder that a list has made and no manifest names, with their recipes."""
        for path in sorted(self.folder.glob("*.png")):
            if path.name not in self.recorded:
                with contextlib.suppress(BigsleepError):  # no picture of ours
                    recipe = read_recipe(path)
                    if recipe and "job" in recipe:
                        yield path, recipe

    def forget(self, jobs: list[Job]) -> None:
        """Delete what this manifest and the folder hold of ``jobs``: records, and the pictures they name."""
        keys = {job.key for job in jobs}
        kept = []
        doomed = [path for path, recipe in self.unrecorded() if recipe["job"] in keys]
        for record in records_in(self.path):
            if record["key"] not in keys:
                kept.append(line_of(record))
            elif "path" in record:
                doomed.append(self.folder / Path(record["path"]).name)
                self.recorded.pop(record["path"], None)
        # Records first: a record without its picture would pass for done.
        save(b"".join(kept), self.path)
        for path in doomed:
            path.unlink(missing_ok=True)
        self.done -= keys


def append_whole(file: FileIO, line: bytes) -> None:
    """Append ``line`` for good, or nothing: where a disk is full, half a line would spoil the next one too."""
    size = os.fstat(file.fileno()).st_size
    try:
        while line:
            line = line[file.write(line) :]
        os.fsync(file.fileno())
    except OSError:
        file.truncate(size)
        raise


def line_of(record: dict[str, Any]) -> bytes:
    """A record as the manifest's line; what is no Unicode, as a lone surrogate, stays JSON's own escape."""
    return json.dumps(record, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


def records_in(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a manifest; a last line that another process is still writing is left out."""
    if not path.exists():
        return
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            try:
                record = json.loads(line)
                _ = record["key"], record["prompt"]
            except (ValueError, TypeError, KeyError):
                raise BigsleepError(
                    f"{path}, line {number}: no record of a picture; take the line out, or use another --output-dir"
                ) from None
            yield record


def cut_half_line(path: Path) -> None:
    """Cut off what follows the last line's end: a write that was never finished."""
    if path.exists():
        data = path.read_bytes()
        if data and not data.endswith(b"\n"):
            os.truncate(path, data.rfind(b"\n") + 1)
