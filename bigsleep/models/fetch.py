"""One file from one address, whatever the network does meanwhile: gone on with where it broke off, bounded, checked.

A loop of our own, since pooch does not resume, the hub's client does so for its own addresses alone, and the others we
found ask neither with If-Range nor for a bound.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NoReturn

import requests
import urllib3
from tqdm import tqdm

log = logging.getLogger("bigsleep")

CONNECT = 3.0  # seconds to reach a server; a machine without a network shall learn it at once
STALL = 30.0  # seconds between two pieces of an answer
SLOWEST = 1024  # bytes a second, over STALL seconds, below which a server counts as stalled
TRIES = 5  # that bring nothing, before an address is given up
GAIN = 1 << 20  # bytes that a try must add for it not to count as one of them
PAUSE = 1.0  # seconds before the second try, doubled at each
PATIENCE = 60.0  # seconds that a server may tell us to wait
AGAIN = {408, 425, 429, *range(500, 600)}  # statuses that may be others in a while


class FetchFailed(Exception):
    """An address has not given the file, and will not; the message says why in a few words."""


class Interrupted(Exception):
    """A try has failed that may be repeated, after ``pause`` seconds where the server says so."""

    def __init__(self, reason: str, pause: float | None = None) -> None:
        super().__init__(reason)
        self.pause = pause


def sha256_of(path: Path) -> str:
    return digest_of(path, "sha256")


def digest_of(path: Path, kind: str) -> str:
    """The digest of a file by the name of its kind, such as ``"md5"``, in hexadecimal."""
    digest = hashlib.new(kind, usedforsecurity=False)
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@dataclass
class Note:
    """What is known of a part on the disk: where it is from, by what the server tells versions apart, what it will be.

    ``digest`` is ``"sha256:..."`` or ``"md5:..."``, where it was published or the server has promised it.
    """

    url: str
    version: str = ""
    total: int | None = None
    digest: str = ""


def note_of(part: Path) -> Path:
    """The file beside a part that has its :class:`Note`."""
    return part.with_name(part.name + ".json")


class Session(requests.Session):
    """Follows redirects, but not from https to plain http."""

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        target = super().get_redirect_target(resp)
        if target and resp.url.lower().startswith("https:") and target.lower().startswith("http:"):
            raise FetchFailed(f"it redirects to {target}, without encryption")
        return target


def fetch(
    url: str, part: Path, most: int, sha256: str = "", etag_is_md5: bool = False, quiet: bool = False
) -> tuple[str, bool]:
    """Fetch ``url`` to the file ``part``; its SHA-256, and whether it was compared with a digest known beforehand.

    A part that is there already is gone on with, if it is of this address and the server still has that version. Its note
    (:func:`note_of`) stays beside it: to be deleted when the part has its final name, and a kill costs nothing any more.

    Parameters
    ----------
    most
        Bytes; an answer that is longer is none.
    sha256
        What the file must have; without it the digest that the server itself names, as the Hugging Face hub does, and
        S3 for files put in one piece (``etag_is_md5``), must fit.

    Raises
    ------
    FetchFailed
        If the address has not given the file after all tries.
    OSError
        If ``part`` cannot be written.
    """
    with Session() as session:
        return Download(url, part, most, sha256, etag_is_md5, quiet, session).run()


class Download:
    """A file on its way, over as many tries as it takes."""

    def __init__(
        self, url: str, part: Path, most: int, sha256: str, etag_is_md5: bool, quiet: bool, session: Session
    ) -> None:
        self.url, self.part, self.most, self.sha256, self.etag_is_md5 = url, part, most, sha256, etag_is_md5
        self.quiet, self.session = quiet, session
        self.reached = self.told = False  # whether the server has ever answered, and the user knows
        self.note_file = note_of(part)
        self.note = self.known_part()

    def known_part(self) -> Note:
        """What is known of the part on the disk; one that cannot be gone on with is forgotten."""
        try:
            note = Note(**json.loads(self.note_file.read_text()))
            if note.url == self.url and note.version and self.part.exists():
                return note
        except (OSError, ValueError, TypeError):
            pass
        return Note(self.url)

    def have(self) -> int:
        """How many bytes of the file are on the disk and may be gone on with."""
        return self.part.stat().st_size if self.note.version and self.part.exists() else 0

    def run(self) -> tuple[str, bool]:
        vain, furthest = 0, self.have()
        while True:
            try:
                return self.once()
            except Interrupted as error:
                vain = 0 if self.have() >= furthest + GAIN else vain + 1
                furthest = max(furthest, self.have())
                pause = PAUSE * 2 ** (vain - 1) if error.pause is None else error.pause
                if vain >= TRIES:
                    raise FetchFailed(f"{error}, {vain} times") from error
                if pause > PATIENCE:
                    raise FetchFailed(f"{error}, to be asked again in {pause:.0f} seconds") from error
                time.sleep(pause)

    def once(self) -> tuple[str, bool]:
        """One try, from where the last one ended."""
        offset = self.have()
        if offset == 0 or offset != self.note.total:
            with mended(self.reached), self.answer(offset) as answer:
                self.reached = True
                self.take(answer, offset)
        return self.checked(whole_at_once=offset == 0)

    def answer(self, offset: int) -> requests.Response:
        headers = {"Accept-Encoding": "identity"}  # bytes are counted as they are on the disk
        if offset:
            headers |= {"Range": f"bytes={offset}-", "If-Range": self.note.version}
        return self.session.get(self.url, headers=headers, stream=True, timeout=(CONNECT, STALL))

    def take(self, answer: requests.Response, offset: int) -> None:
        """Write what a server answers to the part, at ``offset`` if that is what it gives, else from the start."""
        status = answer.status_code
        if status == 416 or (status == 206 and not self.continues(answer, offset)):
            self.forget()
            raise Interrupted("it gives another part of the file than asked for", pause=0)
        if status in AGAIN:
            raise Interrupted(f"HTTP {status}", wait_asked_for(answer))
        if status not in (200, 206):
            raise FetchFailed(f"HTTP {status}")
        if answer.headers.get("Content-Type", "").startswith("text/html"):
            raise FetchFailed("a web page came instead of the file")
        if status == 200:
            offset = 0
            self.start(answer)
        total = self.note.total
        if total is not None:
            if total > self.most:
                self.give_up(f"it has {total / 1e6:.0f} MB there, which cannot be right")
            check_room(self.part.parent, total - offset)
        self.tell(total)
        bar = tqdm(
            total=total, initial=offset, unit="B", unit_scale=True, leave=False, desc=self.part.name.removesuffix(".part"),
            disable=True if self.quiet else None,
        )  # fmt: skip
        with open(self.part, "ab" if offset else "wb") as file, bar:
            for block in blocks(answer):
                if offset == 0 and block.lstrip()[:5].lower() in (b"<html", b"<!doc", b"<?xml"):
                    self.give_up("a web page came instead of the file")
                file.write(block)
                bar.update(len(block))
                offset += len(block)
                if offset > self.most:
                    self.give_up(f"what comes does not end after {self.most / 1e6:.0f} MB")
            file.flush()
            os.fsync(file.fileno())
        if not offset and not total:
            self.give_up("it is empty")
        if total is not None and offset != total:
            raise Interrupted(f"the connection ended at byte {offset} of {total}")

    def tell(self, total: int | None) -> None:
        """Say once what is being fetched: where there is no terminal, nothing else shows it."""
        if not self.quiet and not self.told:
            log.warning("fetching %s%s", self.url, "" if total is None else f", {total / 1e6:.0f} MB")
        self.told = True

    def continues(self, answer: requests.Response, offset: int) -> bool:
        """Whether an answer 206 goes on where the part ends, in the same version of the file."""
        begins = answer.headers.get("Content-Range", "").startswith(f"bytes {offset}-")
        return begins and version_of(answer) in ("", self.note.version)

    def start(self, answer: requests.Response) -> None:
        """Note what a whole answer says of itself."""
        self.forget()
        length = answer.headers.get("Content-Length", "")
        self.note = Note(
            self.url, version_of(answer), int(length) if length.isdecimal() else None,
            f"sha256:{self.sha256}" if self.sha256 else promised(answer, self.etag_is_md5),
        )  # fmt: skip
        self.note_file.write_text(json.dumps(asdict(self.note)))

    def give_up(self, reason: str) -> NoReturn:
        """End with what came thrown away."""
        self.forget()
        raise FetchFailed(reason)

    def forget(self) -> None:
        self.part.unlink(missing_ok=True)
        self.note_file.unlink(missing_ok=True)
        self.note = Note(self.url)

    def checked(self, whole_at_once: bool) -> tuple[str, bool]:
        """The SHA-256 of the part, and whether it is what was published or promised. What is not is thrown away."""
        digest = sha256_of(self.part)
        kind, _, wanted = (f"sha256:{self.sha256}" if self.sha256 else self.note.digest).partition(":")
        if wanted and wanted != (digest if kind == "sha256" else digest_of(self.part, kind)):
            self.forget()
            reason = f"what came has not the {kind.upper()} {wanted[:12]}… that it should have"
            if whole_at_once:
                raise FetchFailed(reason)
            raise Interrupted(reason, pause=0)
        return digest, bool(wanted)


def check_room(folder: Path, needed: int) -> None:
    """An ``OSError`` where the disk of ``folder`` has not the room for ``needed`` bytes."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(errno.ENOSPC, f"{needed / 1e6:.0f} MB are needed and {free / 1e6:.0f} MB free")


def blocks(answer: requests.Response) -> Iterator[bytes]:
    """What an answer brings, as it comes; :class:`Interrupted` where next to nothing comes."""
    began, brought = time.monotonic(), 0
    while block := answer.raw.read1(1 << 20):
        yield block
        brought += len(block)
        if (passed := time.monotonic() - began) > STALL:
            if brought < SLOWEST * passed:
                raise Interrupted(f"it sends less than {SLOWEST} bytes a second")
            began, brought = time.monotonic(), 0


def version_of(answer: requests.Response) -> str:
    """By what the server can tell whether a file is still the same: a strong ETag, else its date."""
    etag = answer.headers.get("ETag", "")
    return etag if etag.startswith('"') else answer.headers.get("Last-Modified", "")


def promised(answer: requests.Response, etag_is_md5: bool) -> str:
    """The digest that a server says its file has, as ``"sha256:..."`` or ``"md5:..."``; empty where it says none."""
    for each in (*answer.history, answer):  # the hub says it where it redirects
        etag = each.headers.get("X-Linked-Etag", "").strip('"')
        if is_hex(etag, 64):
            return f"sha256:{etag}"
    etag = answer.headers.get("ETag", "").strip('"')
    return f"md5:{etag}" if etag_is_md5 and is_hex(etag, 32) else ""


def is_hex(text: str, length: int) -> bool:
    return len(text) == length and set(text) <= set("0123456789abcdef")


def wait_asked_for(answer: requests.Response) -> float | None:
    """Seconds until a server wants to be asked again, where it says so."""
    try:
        return urllib3.Retry().parse_retry_after(answer.headers["Retry-After"])
    except (KeyError, urllib3.exceptions.HTTPError):
        return None


@contextmanager
def mended(reached: bool) -> Iterator[None]:
    """What the network's libraries raise, as what it means here: to be tried again, or not."""
    try:
        yield
    except requests.exceptions.SSLError as error:
        raise FetchFailed("its certificate is not to be trusted") from error
    except (requests.ConnectionError, requests.Timeout) as error:
        # Where nobody has answered at all, there is no network, or no such host: the next address, at once.
        if reached or not nobody_answers(error):
            raise Interrupted(plain(error)) from error
        raise FetchFailed("no answer") from error
    except (urllib3.exceptions.HTTPError, requests.exceptions.ChunkedEncodingError) as error:
        raise Interrupted(plain(error)) from error
    except requests.RequestException as error:  # too many redirects, an address that is none
        raise FetchFailed(plain(error)) from error


def nobody_answers(error: requests.RequestException) -> bool:
    """Whether an error says that no connection was made."""
    if isinstance(error, (requests.ConnectTimeout, requests.exceptions.ProxyError)):
        return True
    reason = getattr(error.args[0] if error.args else None, "reason", None)
    return isinstance(reason, (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError))


def plain(error: Exception) -> str:
    """A network error in a few words."""
    if isinstance(error, (requests.Timeout, urllib3.exceptions.TimeoutError)):
        return f"nothing came for {STALL:.0f} seconds"
    if isinstance(error, (requests.ConnectionError, urllib3.exceptions.ProtocolError)):
        return "the connection broke"
    return " ".join(str(error).split())[:100]
