"""The one exception that a user can cause."""

from __future__ import annotations


class BigsleepError(Exception):
    """Something a user can mend; the message says what is wrong and what to do, in one line.

    ``usage`` tells a request that could never work (the command exits with 2) from a run that failed (1).
    """

    def __init__(self, message: str, *, usage: bool = False) -> None:
        super().__init__(message)
        self.usage = usage
