import json
import struct
import zlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from bigsleep.errors import BigsleepError
from bigsleep.state import MOST_BYTES, decode, encode, fitted, named, part_of, unpacked


def example():
    return {"layer0.noise": torch.randn(3, 8), "random": torch.arange(5, dtype=torch.uint8), "steps": torch.tensor(7)}


def packed(header: dict, data: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return zlib.compress(struct.pack("<Q", len(text)) + text + data)


def test_a_state_comes_back_to_the_bit():
    state = example()
    again = decode(encode(state))
    assert again.keys() == state.keys() and all(again[name].equal(state[name]) for name in state)


def test_a_finished_pictures_numbers_are_halved_and_come_back_in_full_precision():
    noise = torch.randn(15, 128)
    data = encode({"noise": noise}, torch.float16)
    assert len(data) < len(encode({"noise": noise})) * 0.6
    assert decode(data)["noise"].equal(noise.half().float())


def test_rows_that_are_all_equal_are_kept_once_and_fit_again():
    row = torch.randn(1, 1128)
    state = {"logits": row.expand(15, -1)}
    data = encode(state)
    assert len(data) < 6000 and fitted(decode(data), state)["logits"].equal(state["logits"])


def test_names_are_read_without_unpacking_numbers():
    assert {name for name, _ in unpacked(encode(example()))} == set(example())


def test_parts_of_a_state_have_names_of_their_own():
    assert part_of(named("start", {"layer0.noise": 1}) | {"starter": 2}, "start") == {"layer0.noise": 1}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 2e4])
def test_numbers_that_no_dream_has_are_refused(value):
    with pytest.raises(BigsleepError, match="no sensible numbers"):
        decode(encode({"noise": torch.tensor([[0.0, value]])}))


def test_what_would_grow_beyond_bounds_is_refused_before_it_does():
    with pytest.raises(BigsleepError, match="too large"):
        decode(zlib.compress(bytes(MOST_BYTES + 1)))


@pytest.mark.parametrize(
    "data",
    [b"", b"x", zlib.compress(b""), zlib.compress(b"\xff" * 100), encode({"a": torch.ones(3)})[:-5],
     packed({"a": {"dtype": "F32", "shape": [2**60], "data_offsets": [0, 2**62]}}),
     packed({"a": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 4]}}, bytes(4)),
     packed({"a": {"dtype": "I16", "shape": [1], "data_offsets": [0, 2]}}, bytes(2)),
     packed({"a": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}),
     packed({"a": {"dtype": "BOOL", "shape": [1], "data_offsets": [0, 1]}}, b"\x01"),
     packed({"a": 1}), packed({f"a{i}": {"dtype": "U8", "shape": [1], "data_offsets": [i, i + 1]} for i in range(1500)}, bytes(1500))],
)  # fmt: skip
def test_bytes_that_are_no_state_are_refused(data):
    with pytest.raises(BigsleepError):
        decode(data)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_bytes_are_a_state_or_a_clear_error(data):
    plain = bytearray(save(example()))
    for place in data.draw(st.lists(st.integers(0, len(plain) - 1), max_size=6)):
        plain[place] = data.draw(st.integers(0, 255))
    try:
        state = decode(zlib.compress(bytes(plain[: data.draw(st.integers(0, len(plain)))])))
    except BigsleepError as error:
        assert len(str(error).splitlines()) == 1
    else:
        assert all(tensor.isfinite().all() for tensor in state.values() if tensor.is_floating_point())


@pytest.mark.parametrize(
    ("change", "message"),
    [({"noise": torch.zeros(4, 8)}, "(4, 8)"), ({"noise": torch.zeros(3, 9)}, "(3, 9)"), ({"noise": None}, "lacks"),
     ({"more": torch.zeros(1)}, "has a more"), ({"noise": torch.zeros(3, 8, dtype=torch.long)}, "int64"),
     ({"noise": torch.zeros(24)}, "(24,)")],
)  # fmt: skip
def test_a_state_of_something_else_does_not_fit(change, message):
    pattern = {"noise": torch.zeros(3, 8)}
    state = {name: tensor for name, tensor in (pattern | change).items() if tensor is not None}
    with pytest.raises(BigsleepError) as caught:
        fitted(state, pattern)
    assert message in str(caught.value)
