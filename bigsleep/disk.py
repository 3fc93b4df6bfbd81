"""Files written whole or not at all, under temporary names of their own until they are, whatever becomes of the process."""

from __future__ import annotations

import contextlib
import itertools
import os
import platform
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bigsleep.errors import BigsleepError


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns what the disk has against writing ``path`` into a :class:`BigsleepError`."""
    try:
        yield
    except OSError as error:
        raise BigsleepError(f"{path} could not be written: {error.strerror or error}") from error


def save(data: bytes, path: Path) -> None:
    """Write the file ``path``, replacing what is there: whole, or not at all, and then a :class:`BigsleepError`."""
    with writing(path):
        os.replace(write_beside(data, path), path)


def save_new(data: bytes, path: Path) -> Path:
    """Write a file to ``path``, or to ``path``-2, -3, … where that is taken; where it went. Fails as :func:`save`."""
    with writing(path):
        return claim_first(write_beside(data, path), path)


def claim_first(temporary: Path, path: Path) -> Path:
    """Give a finished file the first free name of ``path``, ``path``-2, …"""
    try:
        return next(target for target in numbered(path) if claim(temporary, target))
    finally:
        temporary.unlink(missing_ok=True)


def numbered(path: Path) -> Iterator[Path]:
    """``path``, ``path``-2, ``path``-3, …"""
    yield path
    for number in itertools.count(2):
        yield path.with_name(f"{path.stem}-{number}{path.suffix}")


def write_beside(data: bytes, path: Path) -> Path:
    """A finished file under a temporary name, which says whose it is, in the folder of ``path``."""
    handle, temporary = temporary_beside(path)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        temporary.unlink()
        raise
    return temporary


def temporary_beside(path: Path) -> tuple[int, Path]:
    """A new, empty file in the folder of ``path`` that says whose it is, open for writing; its handle and its name."""
    owner = f".bigsleep-{platform.node()}-{os.getpid()}-{birth(os.getpid())}-"
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=owner, suffix=".tmp")
    os.chmod(name, 0o666 & ~current_umask())
    return handle, Path(name)


def sweep(folder: Path) -> None:
    """Remove the temporary files that processes of this machine left in ``folder`` when they were killed."""
    for path in folder.glob(".bigsleep-*.tmp"):
        with contextlib.suppress(OSError, ValueError):  # gone by now, or named by somebody else
            host, number, born, _ = path.name.removeprefix(".bigsleep-").rsplit("-", 3)
            if host == platform.node() and born != birth(int(number)):
                path.unlink()


def birth(number: int) -> str:
    """When the process of this number began, for numbers are given out again; empty where there is none.

    By no clock that can be set, for dates go wrong with it.
    """
    import psutil

    if sys.platform != "linux":
        try:
            return f"{psutil.Process(number).create_time():.2f}"
        except psutil.NoSuchProcess:
            return ""
        except psutil.AccessDenied as error:  # it lives, and is somebody else's
            raise PermissionError(str(error)) from error
    try:  # psutil's is a date here, counted from the machine's start, which moves whenever the clock is set
        return Path(f"/proc/{number}/stat").read_bytes().rpartition(b")")[2].split()[19].decode()
    except OSError:
        if psutil.pid_exists(number):  # and is hidden from us
            raise
        return ""


def current_umask() -> int:
    """The process's umask; mkstemp's files are private, pictures are as any new file."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def claim(temporary: Path, target: Path) -> bool:
    """Give a finished file the name ``target`` unless that is taken, even by another process at this moment."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        return False
    except OSError:  # no hard links here (FAT, some network disks): a short race is left
        if target.exists():
            return False
        os.rename(temporary, target)
    return True
