"""The models as things on a shelf: what is there and in which state, hashed again, taken away."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from bigsleep.errors import BigsleepError
from bigsleep.models.catalogue import BUILT_IN
from bigsleep.models.published import PUBLISHED
from bigsleep.models.weights import (
    Published,
    damaged_files,
    intact,
    locked,
    look,
    places,
    read_record,
    set_aside,
    write_record,
)


@dataclass(frozen=True)
class Standing:
    """How it stands with a model.

    Attributes
    ----------
    state
        ``"built in"``; ``"verified"``: its hash is as published, or as the server said; ``"unverified"``: it is as it came,
        and nobody says what it should be; ``"unchecked"``: nobody has looked yet; ``"damaged"``; ``"incomplete"``: a part
        is there, and will be gone on with; ``"missing"``.
    size
        Bytes of its file, where there is one, or about as many as it will have.
    path, origin
        Where it lies and where it came from, where that is known; of what is missing, where it will come from.
    """

    name: str
    kind: str
    licence: str
    state: str
    size: int
    path: str | None
    origin: str | None


def names() -> list[str]:
    """The names of all models."""
    return [*BUILT_IN, *PUBLISHED]


def check_name(name: str) -> None:
    if name not in BUILT_IN and name not in PUBLISHED:
        raise BigsleepError(f"unknown model {name!r}: choose {', '.join(names())}", usage=True)


def published(name: str) -> Published:
    """The model of a name that is fetched; a :class:`BigsleepError` for others."""
    check_name(name)
    if name in BUILT_IN:
        raise BigsleepError(f"{name} is built in, and stays as it is", usage=True)
    return PUBLISHED[name]


def standing(name: str) -> Standing:
    """How it stands with a model, from what is remembered: nothing is hashed, and no network used."""
    if name in BUILT_IN:
        folder = BUILT_IN[name]
        size = sum(file.stat().st_size for file in folder.iterdir())
        return Standing(name, "generator and CLIP", "see NOTICE.md", "built in", size, str(folder), None)
    model = PUBLISHED[name]
    found = [(state_of(path, known), path) for path, known in places(model)]
    state, path = min(found, key=lambda each: each[0] == "damaged", default=("missing", None))
    if path is not None:
        record = read_record(path)
        origin = record.origin if record else ""
        return Standing(name, model.kind, model.licence, state, path.stat().st_size, str(path), origin or None)
    for part in (model.folder / f"{file}.part" for file in model.files):
        if part.exists():
            state = "incomplete"
    return Standing(name, model.kind, model.licence, state, model.size, None, model.sources[0].address)


def state_of(path: Path, known: set[str]) -> str:
    record = read_record(path)
    if record is None or not record.describes(path):
        return "unchecked"
    if record.sha256 not in known and "" not in known:
        return "damaged"
    return "verified" if record.verified else "unverified"


def verify(name: str) -> list[Path]:
    """Hash all files of a model again; those that are damaged, in our cache set aside, and elsewhere not to be used."""
    if name in BUILT_IN:
        return []
    model, damaged = published(name), []
    for path, known in list(places(model)):
        if intact(path, known, again=True):
            continue
        if path.parent == model.folder:
            with locked(model):
                damaged.append(set_aside(path))
        else:
            record = read_record(path)
            if record is not None:
                write_record(replace(record, size=-1), path)  # to be hashed again whenever it might be used
            damaged.append(path)
    return damaged


def remove(name: str) -> list[Path]:
    """Delete a model's files from our cache; which ones.

    Raises
    ------
    BigsleepError
        If there are none.
    """
    model = published(name)
    files = [path for path in model.folder.glob("*") if path.name != ".lock"] if model.folder.exists() else []
    if not files:
        elsewhere = next((path for path, _ in places(model)), None)
        reason = f"{elsewhere} is another program's: delete it there" if elsewhere else "there is nothing to remove"
        raise BigsleepError(f"{name} is not in our cache: {reason}")
    with locked(model):
        for path in files:
            path.unlink(missing_ok=True)
    return files


def path_of(name: str) -> Path:
    """Where a model lies: a file, or the folder of one that is built in.

    Raises
    ------
    BigsleepError
        If it is not on this machine, or damaged.
    """
    check_name(name)
    path = BUILT_IN[name] if name in BUILT_IN else look(PUBLISHED[name])
    if path is None:
        state = "damaged" if damaged_files(PUBLISHED[name]) else "not on this machine"
        raise BigsleepError(f"{name} is {state}: bigsleep models download {name} fetches it")
    return path
