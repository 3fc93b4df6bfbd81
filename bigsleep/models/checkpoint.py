"""Checkpoints, whoever made them, read as plain data: nothing in them is run, and none is larger than it looks."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from bigsleep.errors import BigsleepError, out_of_memory
from bigsleep.models.fetch import sha256_of
from bigsleep.models.weights import first_line

# The least and the most that a config.json may say: beyond any BigGAN that was ever trained, and too little to hurt.
CONFIG_LIMITS = {
    "output_dim": (4, 4096), "z_dim": (1, 8192), "class_embed_dim": (1, 8192), "channel_width": (8, 2048),
    "num_classes": (1, 1_000_000), "attention_layer_position": (-1, 1000), "n_stats": (2, 10_000),
}  # fmt: skip
MOST_BLOCKS, MOST_WIDTHS = 64, 64  # in a BigGAN's layers
MOST_JSON = 16 << 20  # bytes of a config.json, the names of its classes included


def read_config(path: Path) -> dict[str, Any]:
    """The table of a BigGAN's ``config.json``, of nothing but what such a table may say.

    Raises
    ------
    BigsleepError
        If it is none.
    """
    try:
        if path.stat().st_size > MOST_JSON:
            raise ValueError(f"it has more than {MOST_JSON >> 20} MB")
        table = json.loads(path.read_bytes())
        if not isinstance(table, dict):
            raise ValueError("it is no table")
        check_config(table)
    except (OSError, ValueError, RecursionError) as error:
        raise BigsleepError(f"{path} is no BigGAN configuration ({first_line(error)}): get it again") from error
    table["layers"] = [tuple(layer) for layer in table["layers"]]
    return table


def check_config(table: dict[str, Any]) -> None:
    """Raise ``ValueError`` where a table says what no BigGAN's does."""
    for name, (least, most) in CONFIG_LIMITS.items():
        if not is_whole(table.get(name), least, most):
            raise ValueError(f"{name} is no whole number in {least}..{most}")
    layers, count = table.get("layers"), table["num_classes"]
    if not isinstance(layers, list) or not 1 <= len(layers) <= MOST_BLOCKS or not all(map(is_block, layers)):
        raise ValueError(f"layers are no 1 to {MOST_BLOCKS} blocks of true or false and two widths")
    if table["output_dim"] != 4 * 2 ** sum(layer[0] for layer in layers):
        raise ValueError(f"layers do not make a picture of {table['output_dim']} px")
    if not isinstance(table.get("eps"), float) or not 0 < table["eps"] < 1:
        raise ValueError("eps is no number between 0 and 1")
    names, grounds = table.get("class_names", [""] * count), table.get("grounds", [])
    if not isinstance(names, list) or len(names) != count or not all(isinstance(name, str) for name in names):
        raise ValueError(f"class_names are no {count} texts")
    if not isinstance(table.get("alpha", False), bool):
        raise ValueError("alpha is neither true nor false")
    if not isinstance(grounds, list) or not all(is_whole(ground, 0, count - 1) for ground in grounds):
        raise ValueError(f"grounds are no numbers of classes, 0 to {count - 1}")


def is_whole(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def is_block(layer: object) -> bool:
    """Whether a layer is what BigGAN's are: whether it doubles the side, and its channels in and out in widths."""
    return (
        isinstance(layer, list) and len(layer) == 3 and isinstance(layer[0], bool)
        and all(is_whole(width, 1, MOST_WIDTHS) for width in layer[1:])
    )  # fmt: skip


MOST_TENSORS = 5000  # in a checkpoint; the largest CLIP has a third of them
MOST_TIMES = 4  # that the tensors of a checkpoint may be as large as its file
MOST_UNPACKED = 32  # that what is unpacked may be as large as the file; the built-in pair's is 5 times


def read_state(path: Path, trusted: frozenset[str] = frozenset()) -> dict[str, Tensor]:
    """The tensors of a checkpoint, on the CPU. Never runs what is in it, nor takes much more memory than it is long.

    safetensors and torch's zip of tensors are data. A TorchScript archive is opened only where its SHA-256 is one of
    the ``trusted``.

    Raises
    ------
    BigsleepError
        If the file cannot be read, or is a program that is not trusted.
    """
    try:
        length = path.stat().st_size
        if path.suffix == ".safetensors":
            packed = load_file(path)
            check_state(packed, length)
            return unpacked(packed, MOST_UNPACKED * length)
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                entries = archive.infolist()
            if any(entry.filename.endswith("/constants.pkl") for entry in entries):
                return read_program(path, trusted)
            if sum(entry.file_size for entry in entries) > MOST_TIMES * length:
                raise ValueError("it unpacks to many times its length")
        state = torch.load(path, map_location="cpu", weights_only=True)
        if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
            state = state["state_dict"]
        check_state(state, length)
        return state
    except BigsleepError:
        raise
    except Exception as error:  # what a stranger's file makes a reader raise is not to be foreseen
        if out_of_memory(error):
            raise BigsleepError(
                f"{path} takes more memory than is free, or says so: close other programs, or get the file again"
            ) from error
        raise BigsleepError(
            f"{path} cannot be read as a checkpoint ({first_line(error)}): get the file again, or give a plain state dict"
        ) from error


def read_program(path: Path, trusted: frozenset[str]) -> dict[str, Tensor]:
    """The tensors of a TorchScript archive that is one of the ``trusted``."""
    if sha256_of(path) not in trusted:
        raise BigsleepError(f"{path} is a TorchScript program and none of the known ones: give a state dict instead")
    return torch.jit.load(path, map_location="cpu").state_dict()


def check_state(state: object, length: int) -> None:
    """Raise ``ValueError`` for what is no table of plain tensors, or claims to be larger than a file of that length."""
    if not isinstance(state, dict) or len(state) > MOST_TENSORS:
        raise ValueError("it is not a plain table of tensors")
    for name, tensor in state.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise ValueError("it is not a plain table of tensors")
        if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.is_quantized:
            raise ValueError(f"{name[:100]} is no plain tensor")
    if sum(tensor.numel() * tensor.element_size() for tensor in state.values()) > MOST_TIMES * length:
        raise ValueError("its tensors claim to be many times its length")


def unpacked(state: dict[str, Tensor], most: float = float("inf")) -> dict[str, Tensor]:
    """Undo the built-in pair's packing: ``name:int8`` times ``name:scale``, then ``name:left @ name:right``.

    Raises
    ------
    ValueError
        If that would take more than ``most`` bytes.
    """
    state = dict(state)
    for key in [key for key in state if key.endswith(":int8")]:
        name = key.removesuffix(":int8")
        whole, scale = state.pop(key), state.pop(f"{name}:scale")
        # Not torch.broadcast_shapes, which imports sympy: a third of a second.
        if scale.ndim != whole.ndim or not all(a in (1, b) for a, b in zip(scale.shape, whole.shape, strict=True)):
            raise ValueError(f"{name}'s scale does not fit it")
        state[name] = whole.float() * scale.float()
    for key in [key for key in state if key.endswith(":left")]:
        name = key.removesuffix(":left")
        left, right = state.pop(key), state.pop(f"{name}:right")
        most -= 4 * left.shape[0] * right.shape[1]
        if most < 0:
            raise ValueError("it unpacks to many times its length")
        state[name] = left.float() @ right.float()
    return state
