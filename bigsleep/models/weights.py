"""Weight files: where they lie, what has become of them since they came, and how they come where they are not."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import platformdirs
from filelock import FileLock, Timeout

from bigsleep.disk import sweep, write_beside
from bigsleep.errors import BigsleepError
from bigsleep.models.fetch import FetchFailed, fetch, is_hex, note_of, sha256_of

log = logging.getLogger("bigsleep")


class WeightsMissing(BigsleepError):
    """Weights that are in no cache and could not be fetched; ``brief`` says so without addresses."""

    def __init__(self, message: str, brief: str = "") -> None:
        super().__init__(message)
        self.brief = brief or message


@dataclass(frozen=True)
class Source:
    """One way to a file: a ``url``, or the ``hub``'s repository that has it; ``file`` is its name in our cache.

    ``sha256`` is what it has, where that is public. ``etag_is_md5`` says that the server gives an MD5 as ETag.
    """

    file: str
    url: str = ""
    hub: str = ""
    sha256: str = ""
    etag_is_md5: bool = False

    @property
    def address(self) -> str:
        """Where it is asked for; ``HF_ENDPOINT`` has the say for the hub's."""
        endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or "https://huggingface.co"
        return self.url or f"{endpoint}/{self.hub}/resolve/main/{self.file}"


@dataclass(frozen=True)
class Published:
    """A model that is fetched: one file, from the first of its sources that gives it.

    Attributes
    ----------
    name, kind, licence
        As the user sees them; the kind is ``"generator"`` or ``"CLIP"``.
    size
        About how many bytes it has.
    check
        Raises a :class:`BigsleepError` for a file that is another model's.
    """

    name: str
    kind: str
    licence: str
    size: int
    sources: tuple[Source, ...]
    check: Callable[[Path], object] | None = None

    @property
    def folder(self) -> Path:
        return cache_folder() / self.label

    @property
    def label(self) -> str:
        """Its name as a folder's."""
        return self.name.replace("/", "-")

    @property
    def files(self) -> dict[str, set[str]]:
        """The names that its file may have, each with the SHA-256s it may have; one that is empty stands for any."""
        return {
            source.file: {other.sha256 for other in self.sources if other.file == source.file}
            for source in self.sources
        }


@dataclass(frozen=True)
class Record:
    """What a file was when it was last hashed.

    ``origin`` is where it came from, if we fetched it, and ``verified`` says that it was compared with a hash that was
    published, or that the server gave.
    """

    sha256: str
    size: int
    mtime_ns: int
    origin: str = ""
    verified: bool = False

    def describes(self, path: Path) -> bool:
        """Whether ``path`` has not been touched since."""
        stat = path.stat()
        return (stat.st_size, stat.st_mtime_ns) == (self.size, self.mtime_ns)


def cache_folder() -> Path:
    """``BIGSLEEP_CACHE``, else the platform's cache folder for us."""
    return Path(os.environ.get("BIGSLEEP_CACHE") or platformdirs.user_cache_dir("bigsleep"))


def offline() -> bool:
    """Whether the network may not be used: ``BIGSLEEP_OFFLINE``, or ``HF_HUB_OFFLINE``, is 1."""
    given = (os.environ.get(name, "") for name in ("BIGSLEEP_OFFLINE", "HF_HUB_OFFLINE"))
    return any(value.lower() in ("1", "true", "yes", "on") for value in given)


def mirror() -> str:
    """``BIGSLEEP_MIRROR``: an address or a folder that has ``NAME/FILE`` of the models, and is tried first."""
    return os.environ.get("BIGSLEEP_MIRROR", "").rstrip("/")


def first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def find(model: Published, quiet: bool = False) -> Path:
    """The weight file of a published model: from our cache, the mirror's folder, other programs' caches, the net.

    A file of our cache that has changed since it came is set aside, and fetched again. Processes that want the same
    model fetch it once.

    Raises
    ------
    WeightsMissing
        If it is nowhere and cannot be fetched; the message says from where, why not, and how to do without.
    """
    found = look(model)
    if found is not None:
        return found
    damaged = damaged_files(model)
    if offline() and not damaged:
        why = f"{model.name} is not on this machine, and the network is not to be used"
        raise WeightsMissing(f"{why}: {by_hand(model)}", why)
    try:
        with locked(model, quiet):
            found = look(model)  # another process may have fetched it meanwhile
            if found is not None:
                return found
            for path in damaged_files(model):
                log.warning("%s has changed since it came: it is now %s", path, set_aside(path).name)
            if offline():
                raise WeightsMissing(f"{damaged[0]} was damaged, and the network is not to be used: {by_hand(model)}")
            return fetch_any(model, quiet)
    except OSError as error:
        reason = "no room on the disk: " if error.errno == errno.ENOSPC else ""
        raise WeightsMissing(
            f"{model.name} cannot be kept in {model.folder} ({reason}{error.strerror or error}): make room there, "
            f"or name another folder in BIGSLEEP_CACHE"
        ) from error


def look(model: Published) -> Path | None:
    """The file of a model where it is whole, without the network; nothing is written but what its hash is."""
    return next((path for path, known in places(model) if intact(path, known)), None)


def damaged_files(model: Published) -> list[Path]:
    """The files of our cache that are not what they were, or should be."""
    paths = [(model.folder / file, known) for file, known in model.files.items()]
    return [path for path, known in paths if path.exists() and not intact(path, known)]


def places(model: Published) -> Iterator[tuple[Path, set[str]]]:
    """Where a model's file lies on this machine, and the SHA-256s that it may have there."""
    folders = [model.folder]
    if mirror() and "://" not in mirror():
        folders.append(Path(mirror()).expanduser() / model.label)
    for folder in folders:
        for file, known in model.files.items():
            if os.path.exists(folder / file):  # which is False, too, where we may not look
                yield folder / file, known
    for source in model.sources:
        path = hub_file(source) if source.hub else openai_file(source) or huggingface_file(source)
        if path is not None:
            # The hub's cache names its files by their hashes.
            name = path.resolve().name
            yield path, {source.sha256} if source.sha256 or not is_hex(name, 64) else {name}


def hub_file(source: Source) -> Path | None:
    """What the Hugging Face hub's client has left in its cache."""
    # Not before they are needed: the list of models shall be there at once.
    from huggingface_hub import constants, try_to_load_from_cache

    found = try_to_load_from_cache(source.hub, source.file, cache_dir=constants.HF_HUB_CACHE)
    return Path(found) if isinstance(found, str) else None


def openai_file(source: Source) -> Path | None:
    """What OpenAI's package has left in its cache; only what has a hash is looked for, since the names are plain."""
    path = Path.home() / ".cache/clip" / source.file
    return path if source.sha256 and os.path.exists(path) else None


def huggingface_file(source: Source) -> Path | None:
    """What pytorch-pretrained-biggan has left in its cache, where a note beside each file has its address."""
    given = os.environ.get("PYTORCH_PRETRAINED_BIGGAN_CACHE")
    for note in sorted(Path(given or Path.home() / ".pytorch_pretrained_biggan").glob("*.json")):
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            if json.loads(note.read_text())["url"] == source.url and note.with_suffix("").exists():
                return note.with_suffix("")
    return None


def record_file(path: Path) -> Path:
    """Where the record of a file is kept: beside it in our cache, and in a folder of it for what lies elsewhere."""
    if path.is_relative_to(cache_folder()):
        return path.with_name(path.name + ".json")
    return cache_folder() / "elsewhere" / (hashlib.sha256(os.fsencode(path.absolute())).hexdigest()[:32] + ".json")


def read_record(path: Path) -> Record | None:
    try:
        return Record(**json.loads(record_file(path).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def record_of(path: Path, sha256: str, origin: str, verified: bool) -> Record:
    stat = path.stat()
    return Record(sha256, stat.st_size, stat.st_mtime_ns, origin, verified)


def write_record(record: Record, path: Path) -> None:
    """Remember what is, or is about to be, at ``path``."""
    file = record_file(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    sweep(file.parent)
    os.replace(write_beside(json.dumps(asdict(record)).encode(), file), file)


def intact(path: Path, known: set[str], again: bool = False) -> bool:
    """Whether a file is one of the ``known``, or, where any will do, what it was when it was first seen.

    It is read only where its size or time is not as remembered, or ``again`` says so.
    """
    record = read_record(path)
    remembered = record is not None and record.describes(path) and not again
    try:
        sha256 = record.sha256 if record and remembered else sha256_of(path)
    except OSError:  # not ours to read, or a folder
        return False
    right = sha256 in known or ("" in known and (record is None or sha256 == record.sha256))
    if right and not remembered:
        with contextlib.suppress(OSError):  # a cache that cannot be written is as good, and read a second longer
            origin, verified = (record.origin, record.verified) if record else ("", False)
            write_record(record_of(path, sha256, origin, verified or sha256 in known), path)
    return right


def set_aside(path: Path) -> Path:
    """Rename a file that is not to be used; its new name."""
    number, aside = 1, path.with_name(path.name + ".damaged")
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.damaged-{number}")
    os.replace(path, aside)
    record_file(path).unlink(missing_ok=True)
    return aside


@contextlib.contextmanager
def locked(model: Published, quiet: bool = False) -> Iterator[None]:
    """Be the only process that changes a model's folder. The lock of a process that has died is free."""
    model.folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(model.folder / ".lock")
    try:
        lock.acquire(timeout=0.2)
    except Timeout:
        if not quiet:
            log.warning("another process is fetching %s: waiting for it", model.name)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def sources(model: Published) -> Iterator[Source]:
    """Where to ask for a model, in turn."""
    if "://" in mirror():
        for file, known in model.files.items():
            yield Source(file, f"{mirror()}/{model.label}/{file}", sha256=next(iter(known)) if len(known) == 1 else "")
    yield from model.sources


def fetch_any(model: Published, quiet: bool) -> Path:
    """Fetch a model's file from the first address that gives it."""
    failures = []
    for source in sources(model):
        target = model.folder / source.file
        part = target.with_name(target.name + ".part")
        try:
            sha256, verified = fetch(
                source.address, part, int(1.25 * model.size), source.sha256, source.etag_is_md5, quiet
            )
            if model.check is not None:  # a mirror's file need not be the model that it is called
                check_part(model, part)
        except FetchFailed as error:
            failures.append(f"{source.address} ({error})")
            continue
        write_record(record_of(part, sha256, source.address, verified), target)
        os.replace(part, target)
        note_of(part).unlink(missing_ok=True)
        return target
    raise WeightsMissing(
        f"{model.name} could not be fetched from {', nor from '.join(failures)}: {by_hand(model)}",
        f"{model.name} could not be fetched (bigsleep models download {model.name} says why)",
    )


def check_part(model: Published, part: Path) -> None:
    """:class:`FetchFailed` if what came is another model's; then it is deleted."""
    assert model.check is not None
    try:
        model.check(part)
    except BigsleepError as error:
        part.unlink()
        note_of(part).unlink(missing_ok=True)
        raise FetchFailed(f"what came is another file: {error}") from error


def by_hand(model: Published) -> str:
    """How to do without the network."""
    return f"put the file at {' or '.join(str(model.folder / file) for file in model.files)}"
