"""The standard streams, whatever the shell has made of them: closed, full, broken, slow, or in another encoding."""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from typing import Any

from bigsleep.errors import BigsleepError


class Stream(io.FileIO):
    """A stream that waits for its reader, also where another program has made the pipe non-blocking."""

    def write(self, data: Any, /) -> int:
        while (written := super().write(data)) is None:
            select.select([], [self], [])
        return written


class Results(Stream):
    """stdout: where what is written is lost, the command ends."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            # What is left in buffers shall not fail once more when they are flushed at the end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
            if error.errno == errno.EIO:  # the terminal has gone; the work goes on, as without one
                return len(data)
            if isinstance(error, BrokenPipeError):  # the reader has had enough
                raise SystemExit(0) from None
            raise BigsleepError(f"stdout cannot be written: {error.strerror}; what is saved stays saved") from None


class Messages(Stream):
    """stderr: what cannot be said is no reason to end."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError:
            return len(data)


def open_streams() -> None:
    """Make ``sys``'s streams ones that can be relied on; to be called before any file is opened.

    A stream that is closed becomes the null device. Left as it is, the first file that is opened would get its number,
    and with it what others write to the stream.
    """
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            null, mode = os.open(os.devnull, os.O_RDWR), "r" if name == "stdin" else "w"
            setattr(sys, name, os.fdopen(null, mode, closefd=False))
    if os.name == "nt":  # whose consoles are no files
        return
    sys.stdout = text_stream(Results(sys.stdout.fileno(), "w", closefd=False), "surrogateescape")
    sys.stderr = text_stream(Messages(sys.stderr.fileno(), "w", closefd=False), "backslashreplace")


def text_stream(stream: Stream, errors: str) -> io.TextIOWrapper:
    encoding = sys.getfilesystemencoding()
    return io.TextIOWrapper(io.BufferedWriter(stream), encoding, errors, line_buffering=True)


def speak_utf8() -> None:
    """Start Python anew in its UTF-8 mode where the locale has it read and write ASCII alone, as ``LC_ALL=C`` may.

    There no prompt or file name could be of anything else, and Python cannot change its mind while it runs.
    """
    if sys.getfilesystemencoding() == "ascii" and sys.executable:
        os.execve(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]], os.environ | {"PYTHONUTF8": "1"})
