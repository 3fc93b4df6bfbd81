"""A dream's tensors as bytes, and back: what a picture carries so that a dream can go on from it.

The bytes come from files, which anybody may have written: nothing in them is believed before it has been checked.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from safetensors import SafetensorError, deserialize

from bigsleep.errors import BigsleepError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

MOST_BYTES = 32_000_000  # unpacked; sixteen layers of BigGAN's at 512 with all that Adam knows are 8 MB
MOST_TENSORS = 1000
MOST_VALUE = 1e4  # of any number of a state; a dream's own stay within some dozens


def encode(state: Mapping[str, Tensor], dtype: torch.dtype | None = None) -> bytes:
    """A state of named tensors as compressed bytes, numbers as ``dtype`` where given.

    Of a matrix whose rows are all equal, as where the generator's stages share their latents, one row is kept.
    """
    from safetensors.torch import save

    return zlib.compress(save({name: packed(tensor, dtype) for name, tensor in sorted(state.items())}), 9)


def packed(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    tensor = tensor.detach().cpu()
    if tensor.is_floating_point() and dtype is not None:
        tensor = tensor.to(dtype)
    if tensor.ndim == 2 and len(tensor) > 1 and tensor.eq(tensor[:1]).all():
        tensor = tensor[:1]
    return tensor.contiguous().clone()  # safetensors refuses tensors that share their memory


def unpacked(data: bytes) -> list[tuple[str, dict]]:  # type: ignore[type-arg]
    """The tensors that ``data`` declares: names, each with its ``dtype``, ``shape`` and bytes. Needs no torch.

    Raises
    ------
    BigsleepError
        If the bytes are no state, or would grow beyond bounds.
    """
    inflater = zlib.decompressobj()
    try:
        plain = inflater.decompress(data, MOST_BYTES)
        if not inflater.eof:
            raise BigsleepError("what it holds of its dream is cut short or too large")
        found = deserialize(plain)
    except (zlib.error, SafetensorError, ValueError, OverflowError) as error:
        raise BigsleepError("what it holds of its dream is damaged") from error
    if len(found) > MOST_TENSORS:
        raise BigsleepError("what it holds of its dream is too large")
    return found


def decode(data: bytes) -> dict[str, Tensor]:
    """The state that :func:`encode` made ``data`` of; what was halved in fp32, all numbers finite and of sensible size.

    Raises
    ------
    BigsleepError
        If the bytes are no state, or its numbers none that a dream has.
    """
    import torch

    kinds = {"F16": torch.float16, "F32": torch.float32, "F64": torch.float64, "U8": torch.uint8, "I64": torch.int64}
    state = {}
    for name, part in unpacked(data):
        if part["dtype"] not in kinds or not part["data"]:
            raise BigsleepError(f"what it holds of its dream is damaged: {name} is {part['dtype']} {part['shape']}")
        tensor = torch.frombuffer(bytearray(part["data"]), dtype=kinds[part["dtype"]]).reshape(part["shape"])
        if tensor.is_floating_point():
            tensor = tensor.float() if tensor.dtype == torch.float16 else tensor
            if not tensor.abs().max() <= MOST_VALUE:  # written so that NaN fails too
                raise BigsleepError(f"what it holds of its dream is damaged: {name} holds no sensible numbers")
        state[name] = tensor
    return state


def fitted(state: Mapping[str, Tensor], pattern: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``state`` as the dream that ``pattern`` is a state of would have it: the same names, shapes and kinds of numbers.

    Raises
    ------
    BigsleepError
        If it is a state of something else.
    """
    missing, foreign = sorted(pattern.keys() - state.keys()), sorted(state.keys() - pattern.keys())
    if missing or foreign:
        wrong = f"lacks {missing[0]}" if missing else f"has a {foreign[0]}"
        raise BigsleepError(f"what it holds of its dream does not fit the model: it {wrong}")
    return {name: fitting(name, state[name], like) for name, like in pattern.items()}


def fitting(name: str, tensor: Tensor, like: Tensor) -> Tensor:
    shape, wanted = tuple(tensor.shape), tuple(like.shape)
    if tensor.dtype != like.dtype or (shape != wanted and (len(shape) != 2 or shape != (1, *wanted[1:]))):
        found, asked = (f"{part.dtype}".removeprefix("torch.") for part in (tensor, like))
        raise BigsleepError(
            f"what it holds of its dream does not fit the model: {name} is {found} {shape}, not {asked} {wanted}"
        )
    return tensor.expand(wanted).contiguous()


def part_of(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with ``prefix`` and a dot, under the rest of their names."""
    return {name[len(prefix) + 1 :]: tensor for name, tensor in state.items() if name.startswith(f"{prefix}.")}


def named(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``state`` with ``prefix`` and a dot before each name: what :func:`part_of` finds again."""
    return {f"{prefix}.{name}": tensor for name, tensor in state.items()}
