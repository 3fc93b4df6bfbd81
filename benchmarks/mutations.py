"""Pictures that somebody has tampered with, through every command that reads one: a clean error or a right answer each.

python -m benchmarks.mutations --count 1000 --seed 1
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import struct
import tempfile
import time
import traceback
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import click
import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.torch import load, save

from benchmarks.memory import peak_memory
from bigsleep import Dream, Models, Settings
from bigsleep.batch import models_key
from bigsleep.commands import main
from bigsleep.picture import RECIPE_CHUNK, STATE_CHUNK
from bigsleep.state import MOST_BYTES

DREAM = {"model": "emoji", "image_size": 128, "cutouts": 1, "steps": 4, "save_every": 1, "auditions": 1, "seed": 1}
QUICK = ("--steps", "1", "--cutouts", "1", "-q")
SECONDS, BYTES = 10.0, 1.5e9  # at most, for one command, and of memory for all
LENGTHS = (
    "steps",
    "time",
    "cutouts",
    "auditions",
    "best_of",
    "save_every",
)  # valid large ones would run long, and rightly

GONE = (StopIteration, LookupError, ValueError, SafetensorError, zlib.error)  # what is to be changed is there no more

Chunk = tuple[bytes, bytes]


def chunks_of(png: bytes) -> list[Chunk]:
    found, place = [], 8
    while place < len(png):
        length, name = struct.unpack(">I4s", png[place : place + 8])
        found.append((name, png[place + 8 : place + 8 + length]))
        place += 12 + length
    return found


def png_of(chunks: list[Chunk]) -> bytes:
    parts = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def index_of(chunks: list[Chunk], name: bytes, begin: bytes = b"") -> int:
    return next(i for i, chunk in enumerate(chunks) if chunk[0] == name and chunk[1].startswith(begin))


STRANGE = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=20), st.just([]), st.just({}),
    st.just("../../../etc/passwd"), st.just("x" * 100_000), st.just([[[[1]]]]), st.just("\x1b[2J\n\0"),
)  # fmt: skip


def places_in(table: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where each value of a recipe stands."""
    inner = table.items() if isinstance(table, dict) else enumerate(table) if isinstance(table, list) else ()
    return [place for key, value in inner for place in [(*path, key), *places_in(value, (*path, key))]]


def other_recipe(draw: Any, chunks: list[Chunk]) -> list[Chunk]:
    """A value of the recipe replaced, or taken out."""
    place = index_of(chunks, b"iTXt", RECIPE_CHUNK.encode())
    recipe = json.loads(chunks[place][1].split(b"\0", 5)[5])
    *path, key = draw(st.sampled_from(places_in(recipe)))
    inner = functools.reduce(lambda table, part: table[part], path, recipe)
    if draw(st.booleans()) and isinstance(inner, dict) and key not in LENGTHS:
        del inner[key]
    else:
        value = draw(STRANGE)
        inner[key] = "many" if key in LENGTHS and (value is None or isinstance(value, (int, float))) else value
    text = json.dumps(recipe).encode()
    return [*chunks[:place], (b"iTXt", RECIPE_CHUNK.encode() + b"\0\0\0\0\0" + text), *chunks[place + 1 :]]


def other_state(draw: Any, chunks: list[Chunk]) -> list[Chunk]:
    """A tensor of the state of another shape or kind, with other numbers, under another name, or gone."""
    place = index_of(chunks, STATE_CHUNK)
    state = load(zlib.decompress(chunks[place][1]))
    name = draw(st.sampled_from(sorted(state)))
    tensor = state.pop(name)
    kind = draw(st.integers(0, 7))
    if kind == 0:
        state[name] = (
            torch.full_like(tensor, float("nan"))
            if tensor.is_floating_point()
            else tensor.logical_not().to(tensor.dtype)
        )
    elif kind == 1:
        state[name] = (tensor.double() * draw(st.sampled_from([-1, 0, 1e3, 1e30, float("inf")]))).to(tensor.dtype)
    elif kind == 2:
        state[name] = torch.zeros(draw(st.lists(st.integers(0, 40), max_size=3)), dtype=tensor.dtype)
    elif kind == 3:
        state[name] = tensor.to(draw(st.sampled_from([torch.bool, torch.int8, torch.float64, torch.bfloat16])))
    elif kind == 4:
        state[draw(st.sampled_from(["layer9.noise", "layer-1.noise", "", "start.layer0.noise", name.upper()]))] = tensor
    elif kind == 5:
        state |= {f"layer{i}.{name.rpartition('.')[2]}": tensor.clone() for i in range(draw(st.integers(1, 60)))}
    elif kind == 6:
        state[name] = torch.randn(tensor.shape).to(tensor.dtype)
    return [*chunks[:place], (STATE_CHUNK, zlib.compress(save(state))), *chunks[place + 1 :]]


def bombs(draw: Any, chunks: list[Chunk]) -> list[Chunk]:
    """A state that unpacks to more than memory holds, or says that it does."""
    place = index_of(chunks, STATE_CHUNK)
    size = draw(st.sampled_from([2**20, 2**40, 2**62]))
    header = json.dumps({"layer0.noise": {"dtype": "F16", "shape": [size], "data_offsets": [0, 2 * size]}}).encode()
    bomb = draw(
        st.sampled_from([bytes(MOST_BYTES * 3), struct.pack("<Q", 2**62), struct.pack("<Q", len(header)) + header])
    )
    return [*chunks[:place], (STATE_CHUNK, zlib.compress(bomb)), *chunks[place + 1 :]]


def other_chunks(draw: Any, chunks: list[Chunk]) -> list[Chunk]:
    """A chunk repeated, grown, cut, taken out, renamed, or put elsewhere."""
    place = draw(st.integers(0, len(chunks) - 1))
    name, data = chunks[place]
    kind, other = draw(st.integers(0, 5)), draw(st.integers(0, len(chunks) - 1))
    if kind == 0:
        return [*chunks[:other], (name, data), *chunks[other:]]
    if kind == 1:
        return [*chunks[:place], (name, data + draw(st.binary(max_size=5000))), *chunks[place + 1 :]]
    if kind == 2:
        return [*chunks[:place], (name, data[: draw(st.integers(0, len(data)))]), *chunks[place + 1 :]]
    if kind == 3:
        return [*chunks[:place], *chunks[place + 1 :]]
    if kind == 4:
        renamed = draw(
            st.sampled_from([b"bgST", b"iTXt", b"tEXt", b"zTXt", b"IDAT", b"PLTE", b"acTL", b"fcTL", b"eXIf", b"iCCP"])
        )
        return [*chunks[:place], (renamed, data), *chunks[place + 1 :]]
    header = struct.pack(">II", draw(st.integers(0, 2**31)), draw(st.integers(0, 2**31))) + chunks[0][1][8:]
    return [(b"IHDR", header), *chunks[1:]]


@st.composite
def tampered(draw: Any, pictures: list[bytes]) -> bytes:
    png = draw(st.sampled_from(pictures))
    kind = draw(st.integers(0, 6))
    if kind == 0:
        data = bytearray(png)
        for place in draw(st.lists(st.integers(0, len(png) * 8 - 1), min_size=1, max_size=5)):
            data[place // 8] ^= 1 << place % 8
        return bytes(data)
    if kind == 1:
        return png[: draw(st.integers(0, len(png)))]
    chunks = chunks_of(png)
    for change in draw(
        st.lists(st.sampled_from([other_recipe, other_state, bombs, other_chunks]), min_size=1, max_size=2)
    ):
        with contextlib.suppress(*GONE):  # the first change left nothing
            chunks = change(draw, chunks)
    return png_of(chunks)


def dreamt(models: Models) -> list[bytes]:
    """A finished picture, one begun with it, and one broken off."""
    found = []
    for at, options in ((4, {}), (4, {"start": True}), (2, {})):
        start = {"start": found[0][0]} if options else {}
        dreaming = Dream("a red heart", models=models, **DREAM, **start)
        for snapshot in dreaming:
            if snapshot.step == at:
                found.append((dreaming.picture(snapshot), dreaming.picture(snapshot).png()))
                break
    return [png for _, png in found]


def said(args: list[str]) -> tuple[int, str, float]:
    """What the command exits with and says on stderr, and the seconds it takes; run in this process."""
    out, err, began = io.StringIO(), io.StringIO(), time.monotonic()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(args)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
    return code, err.getvalue(), time.monotonic() - began


@click.command()
@click.option("--count", default=1000, help="Pictures to tamper with.")
@click.option("--seed", "number", default=1, help="Seed of all that is drawn.")
def mutations(count: int, number: int) -> None:
    """Tamper with pictures and see what the commands say."""
    from bigsleep import find

    find.STEPS, find.AUDITIONS, find.STARTS = 1, 8, 1  # what is found is not looked at here
    models = Models.load(Settings(model="emoji", device="cpu"))
    original, kept = Models.load.__func__, {models_key(Settings(model="emoji")): models}  # type: ignore[attr-defined]

    def load_once(cls: Any, asked: Settings, *args: Any, **more: Any) -> Models:
        """The models, loaded once; or whatever is wrong with those asked for."""
        if asked.model == "emoji" and asked.clip in (None, "emoji") and asked.device in ("auto", "cpu"):
            return models
        key = models_key(asked)
        if key not in kept:
            kept[key] = original(cls, asked, *args, **more)
        return kept[key]

    Models.load = classmethod(load_once)  # type: ignore[assignment, method-assign]
    pictures = dreamt(models)
    ends: Counter[str] = Counter()
    wrong: list[str] = []
    slowest = 0.0

    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        Path("whole.png").write_bytes(pictures[0])
        commands = (
            ["info", "x.png"], ["continue", "x.png", *QUICK], ["continue", "x.png", "-q"], ["redo", "x.png", "-q"],
            ["dream", "a cat", "--model", "emoji", "--start", "x.png", *QUICK],
            ["morph", "whole.png", "x.png", "-o", "m.gif", "--seconds", "0.1", "-q"],
        )  # fmt: skip

        @seed(number)
        @settings(
            max_examples=count,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(tampered(pictures))
        def attempt(png: bytes) -> None:
            nonlocal slowest
            Path("x.png").write_bytes(png)
            for args in commands:
                try:
                    code, text, seconds = said(args)
                except Exception:
                    wrong.append(f"{args}: {traceback.format_exc()}")
                    continue
                slowest = max(slowest, seconds)
                lines = [line for line in text.splitlines() if "may differ" not in line]
                clean = code == 0 or (code in (1, 2) and len(lines) == 1 and "Traceback" not in text)
                if not clean or seconds > SECONDS:
                    wrong.append(f"{args}: exit {code} after {seconds:.1f} s: {text}")
                ends[f"{args[0]} {'right answer' if code == 0 else 'clean error'}"] += 1
            for path in Path().iterdir():
                if path.name != "whole.png":
                    path.unlink()

        attempt()
        os.chdir("/")
    peak = peak_memory()
    for line in wrong[:20]:
        print(line)
    for end, times in sorted(ends.items()):
        print(f"{times:6} {end}")
    print(
        json.dumps(
            {"pictures": count, "seed": number, "wrong": len(wrong), "slowest_s": round(slowest, 1), "peak_bytes": peak}
        )
    )
    if wrong or peak > BYTES:
        raise SystemExit(1)


if __name__ == "__main__":
    mutations()
