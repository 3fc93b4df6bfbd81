"""The one exception that a user can cause, and the ones that a machine can."""

from __future__ import annotations


class BigsleepError(Exception):
    """Something a user can mend; the message says what is wrong and what to do, in one line.

    ``usage`` tells a request that could never work (the command exits with 2) from a run that failed (1).
    """

    def __init__(self, message: str, *, usage: bool = False) -> None:
        super().__init__(message)
        self.usage = usage


class ShortOfMemory(BigsleepError):
    """A dream for which there is too little memory where it was to be dreamt."""


# Of torch's CPU allocator, of safetensors, of oneDNN, which says no more, and of the loader of torch's own libraries.
OUT_OF_MEMORY = (
    "allocate memory",
    "could not create a primitive",
    "could not create a memory",
    "failed to map segment",
)


def out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that memory has ended, a device's or the machine's."""
    known = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return known or any(words in str(error) for words in OUT_OF_MEMORY)
