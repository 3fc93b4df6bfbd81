"""Prompt lists, from files and pipes, read into jobs."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

from bigsleep.batch import Job, job_of
from bigsleep.errors import BigsleepError
from bigsleep.settings import OPTIONS, Settings, typed


def read_list(file: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise BigsleepError(f"the list {file} cannot be read: {error.strerror}", usage=True) from None


CHOICES = re.compile(r"\{([^{}]*,[^{}]*)\}")
MOST_EXPANDED = 100_000


def expanded(prompt: str) -> list[str]:
    """The prompts that one with choices in braces stands for; braces without a comma are text.

    >>> expanded("a {red,blue} {cat,dog}")
    ['a red cat', 'a red dog', 'a blue cat', 'a blue dog']
    """
    parts = CHOICES.split(prompt)  # text and choices in turn
    choices = [part.split(",") if i % 2 else [part] for i, part in enumerate(parts)]
    if (count := math.prod(map(len, choices))) > MOST_EXPANDED:
        raise BigsleepError(f"{prompt!r} stands for {count:,} prompts: stay within {MOST_EXPANDED:,}", usage=True)
    return [" ".join("".join(words).split()) for words in product(*choices)]


def read_jobs(
    data: bytes, source: str, options: dict[str, Any], variations: int = 1, expand: bool = False
) -> list[Job]:
    """The jobs of a prompt list.

    Parameters
    ----------
    data
        UTF-8 text: a prompt a line (blank lines and ``#`` comments skipped), JSON Lines, or CSV with a header.
    source
        The list's name, for messages. ``.csv`` and ``.jsonl`` are taken at their word, others are looked at.
    options
        Settings for all prompts; those of a row go before them.
    variations
        Jobs for each prompt, which differ in their seed.
    expand
        Whether ``{red,green}`` in a prompt makes a prompt of each (see :func:`expanded`).

    Raises
    ------
    BigsleepError
        With the line's number, if the list cannot be read. A prompt that cannot be dreamt of is not looked for here.
    """
    text = decoded(data, source)
    jobs: list[Job] = []
    known: dict[str, Settings] = {}  # rows that ask for the same share their settings
    seen: Counter[str] = Counter()
    count = 0  # of prompts
    for line, row in reader_of(text, source)(text, source):
        prompt, asked = row.pop("prompt"), repr(row)
        if asked not in known:
            try:
                known[asked] = row_settings(options, row)
            except BigsleepError as error:
                raise BigsleepError(f"{source}, line {line}: {error}", usage=True) from None
        settings = known[asked]
        for each in expanded(prompt) if expand else [prompt]:
            count += 1
            jobs += [job_of(count, variation, each, settings, seen) for variation in range(1, variations + 1)]
    return jobs


def decoded(data: bytes, source: str) -> str:
    """A list's text; a :class:`BigsleepError` with the line that is not UTF-8."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise BigsleepError(f"{source}, line {line}: not UTF-8; save the list as UTF-8", usage=True) from None


def row_settings(options: dict[str, Any], row: dict[str, Any]) -> Settings:
    """Settings of all prompts with one row's own before them."""
    own = {name: typed(name, value) for name, value in row.items()}
    instead = {"steps": "time", "time": "steps"}
    return Settings.of({name: value for name, value in options.items() if instead.get(name) not in own} | own)


Rows = Iterator[tuple[int, dict[str, Any]]]


def reader_of(text: str, source: str) -> Callable[[str, str], Rows]:
    """How to read a list: by the ending of its name, or else by how its first line looks."""
    lowered = source.lower()
    first = next((line for _, line in content_lines(text)), "")
    columns = {column_name(cell) for cell in first.split(",")}
    if lowered.endswith(".csv") or ("prompt" in columns and columns <= {"prompt", *OPTIONS}):
        return csv_rows
    if lowered.endswith((".jsonl", ".ndjson")) or first.startswith("{"):
        return json_rows
    return text_rows


def column_name(cell: str) -> str:
    return cell.strip().strip('"').lower().replace("-", "_")


def content_lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines that are neither blank nor comments, with their numbers."""
    for number, line in enumerate(text.split("\n"), 1):
        if (stripped := line.strip()) and not stripped.startswith("#"):
            yield number, stripped


def text_rows(text: str, source: str) -> Rows:
    for number, line in content_lines(text):
        yield number, {"prompt": line}


def json_rows(text: str, source: str) -> Rows:
    for number, line in content_lines(text):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise BigsleepError(f"{source}, line {number}: no JSON ({error})", usage=True) from None
        found = row if isinstance(row, dict) else {}
        named = {column_name(name): value for name, value in found.items() if value is not None}
        if not isinstance(named.get("prompt"), str):
            raise BigsleepError(f'{source}, line {number}: needs an object with a "prompt"', usage=True)
        yield number, named


def csv_rows(text: str, source: str) -> Rows:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, skipinitialspace=True)
    header: list[str] = []
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells) or cells[0].startswith("#"):
                continue
            if not header:
                header = csv_header(cells, f"{source}, line {reader.line_num}")
            elif len(cells) > len(header):
                raise csv.Error(f"{len(cells)} cells for {len(header)} columns: put text with commas in quotes")
            else:
                row = {name: cell.strip() for name, cell in zip(header, cells, strict=False)}
                yield reader.line_num, {"prompt": "", **{name: cell for name, cell in row.items() if cell}}
    except csv.Error as error:
        raise BigsleepError(f"{source}, line {reader.line_num}: {error}", usage=True) from None


def csv_header(cells: list[str], where: str) -> list[str]:
    header = [column_name(cell) for cell in cells]
    unknown = [name for name in header if name != "prompt" and name not in OPTIONS]
    if unknown or "prompt" not in header or len(set(header)) < len(header):
        wrong = f"unknown column {unknown[0]!r}" if unknown else "the columns need one prompt, and each name once"
        raise BigsleepError(f"{where}: {wrong}; known are prompt, {', '.join(sorted(OPTIONS))}", usage=True)
    return header


def shard_of(jobs: list[Job], number: int, count: int) -> list[Job]:
    """Every ``count``-th prompt, beginning with the ``number``-th."""
    return [job for job in jobs if (job.index - number) % count == 0]
