"""A download killed at random moments, from a server that takes its time; gone on with by the next one, to the verified file."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.kills import Fork, Tried

DATA = random.Random(1).randbytes(200_000)
SHA256 = hashlib.sha256(DATA).hexdigest()
PIECES, PAUSE = 20, 0.01  # in which it comes, and the seconds between them


@dataclass
class Server:
    """A server in a process of its own, which notes the Range of each request in the file ``log``."""

    url: str
    log: Path

    def asked(self) -> list[str]:
        """The Ranges asked for since the last call, each ``bytes=N-`` or empty."""
        ranges = self.log.read_text().split("\n")[:-1]
        self.log.write_text("")
        return ranges


@contextlib.contextmanager
def serving(log: Path) -> Iterator[Server]:
    log.write_text("")
    read, write = os.pipe()
    if not (number := os.fork()):
        from tests import faulty

        def slowly(handler: faulty.Handler, data: bytes) -> None:
            with open(log, "a") as file:
                file.write(handler.headers.get("Range", "") + "\n")
            faulty.whole(Piecemeal(handler), data)  # type: ignore[arg-type]

        with faulty.serving() as host:
            host.files["/x"], host.plays["/x"] = DATA, [slowly]
            os.write(write, f"{host.url}/x".encode())
            os.close(write)
            signal.pause()
    os.close(write)
    try:
        with os.fdopen(read) as pipe:
            yield Server(pipe.read(), log)
    finally:
        os.kill(number, signal.SIGKILL)
        os.waitpid(number, 0)


class Piecemeal:
    """A request's handler whose bodies go out slowly."""

    def __init__(self, handler: object) -> None:
        self.handler, self.wfile = handler, self

    def __getattr__(self, name: str) -> object:
        return getattr(self.handler, name)

    def write(self, data: bytes) -> None:
        size = len(DATA) // PIECES
        for begin in range(0, len(data), size):
            self.handler.connection.sendall(data[begin : begin + size])  # type: ignore[attr-defined]
            time.sleep(PAUSE)


def fetches_killed(times: int, seed: int, folder: Path) -> Tried:
    """Kill a process that fetches a model at ``times`` random moments of its life."""
    from bigsleep.models.weights import Published, Source, find

    chance, tried = random.Random(seed), Tried()
    for name in [name for name in os.environ if name.lower().endswith(("_proxy", "_offline", "_mirror"))]:
        del os.environ[name]  # of this process alone: it is a fork
    os.environ["BIGSLEEP_CACHE"] = str(folder / "cache")
    with serving(folder / "asked") as server:
        model = Published("a/model", "generator", "MIT", len(DATA), (Source("model.bin", server.url, sha256=SHA256),))

        def begun() -> Fork:
            return Fork(lambda: find(model, quiet=True), folder / "log")

        began = time.monotonic()
        tried.lost += complaints(begun(), model.folder)
        life = time.monotonic() - began
        shutil.rmtree(model.folder)
        server.asked()
        while tried.times < times:
            have = resumable(model.folder)
            fork = begun()
            fell = fork.kill_after(chance.uniform(0, life))
            asked = server.asked()
            tried.times += fell
            tried.lost += wanting(model.folder)
            if asked and asked[0] != (f"bytes={have}-" if have else ""):
                tried.lost.append(f"{have} bytes were there, and it asked for {asked[0] or 'all'}")
            tried.happened["with a part, gone on with by the next"] += bool(asked and have)
            if not fell:
                tried.happened["times it came to its end, verified"] += 1
                tried.lost += complaints(fork, model.folder, ended=True)
                shutil.rmtree(model.folder)
        tried.lost += complaints(begun(), model.folder)
    return tried


def resumable(folder: Path) -> int:
    """Bytes that are there of a part."""
    part = folder / "model.bin.part"
    return part.stat().st_size if part.exists() else 0


def wanting(folder: Path) -> Iterator[str]:
    """What lies under the final name and is not the file."""
    path = folder / "model.bin"
    if path.exists() and path.read_bytes() != DATA:
        yield f"{path.stat().st_size} bytes that are not the file under its name"


def complaints(fork: Fork, folder: Path, ended: bool = False) -> list[str]:
    """What is wrong when it has come to its end: the file, its record and the lock are there, and nothing else."""
    from bigsleep.models.weights import read_record

    if not ended:
        fork.ended()
    wrong = [*fork.complaints(), *wanting(folder)]
    record = read_record(folder / "model.bin")
    if record is None or record.sha256 != SHA256 or not record.verified or not record.describes(folder / "model.bin"):
        wrong.append(f"it is not known to be verified: {record}")
    left = {path.name for path in folder.iterdir()} - {"model.bin", "model.bin.json", ".lock"}
    return wrong + [f"{name} was left behind" for name in left]
