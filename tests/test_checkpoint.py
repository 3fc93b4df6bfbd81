"""Checkpoints and configurations are data: what strangers may have put into them is refused, not run."""

import io
import json
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from clip.model import CLIP
from hypothesis import given, settings
from hypothesis.strategies import data, integers, sampled_from
from safetensors.torch import save, save_file

from benchmarks.random_models import biggan_config, random_biggan
from bigsleep.errors import BigsleepError
from bigsleep.models import catalogue
from bigsleep.models.catalogue import load_generator, load_perceptor
from bigsleep.models.checkpoint import read_config, read_state, unpacked
from bigsleep.models.fetch import sha256_of
from bigsleep.models.published import OFFICIAL_CLIPS

CONFIG = biggan_config(128, channel_width=8, num_classes=10)


def put_biggan(folder: Path) -> None:
    """A small BigGAN in ``folder`` as pytorch-pretrained-biggan publishes its own: pickle and JSON."""
    folder.mkdir(exist_ok=True)
    torch.save(random_biggan(CONFIG).state_dict(), folder / "pytorch_model.bin")
    (folder / "config.json").write_text(CONFIG.to_json_string())


class Bomb:
    def __reduce__(self):
        return os.system, ("touch exploded",)


def zipped(value) -> bytes:
    """As torch saves today."""
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def legacy(value) -> bytes:
    """As torch saved when BigGAN was published."""
    file = io.BytesIO()
    torch.save(value, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


@pytest.mark.parametrize("name", ["model.pt", "model.bin", "model.safetensors"])
@pytest.mark.parametrize("form", [zipped, legacy, pickle.dumps])
@pytest.mark.parametrize(
    "wrap", [lambda bomb: bomb, lambda bomb: {"x": bomb}, lambda bomb: {"state_dict": {"x": bomb}}]
)
def test_a_checkpoint_is_data_and_never_run(tmp_path, monkeypatch, form, wrap, name):
    monkeypatch.chdir(tmp_path)
    data = form(wrap(Bomb()))
    if form is pickle.dumps:
        pickle.loads(data)
        assert Path("exploded").exists(), "this one would go off"
        Path("exploded").unlink()
    Path(name).write_bytes(data)
    with pytest.raises(BigsleepError, match="cannot be read"):
        read_state(Path(name))
    assert not Path("exploded").exists()


def test_the_command_runs_nothing_of_a_strangers_model_and_says_so_in_one_line(bigsleep):
    folder = bigsleep.keywords["cwd"]
    (folder / "model").mkdir()
    (folder / "model/config.json").write_text(CONFIG.to_json_string())
    (folder / "model/pytorch_model.bin").write_bytes(zipped({"x": Bomb()}))
    for args in (("--model", "model", "--clip", "emoji"), ("--model", "emoji", "--clip", "model/pytorch_model.bin")):
        done = bigsleep("a house", *args)
        assert done.returncode == 1 and len(done.stderr.splitlines()) == 1 and "pytorch_model.bin" in done.stderr
    assert [path.name for path in folder.iterdir()] == ["model"]


def test_a_torchscript_program_is_opened_only_when_it_is_a_known_one(tmp_path, monkeypatch):
    path = tmp_path / "model.pt"
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path)
    assert set(read_state(path, trusted=frozenset([sha256_of(path)]))) == {"weight", "bias"}
    monkeypatch.setattr(torch.jit, "load", lambda *_, **__: pytest.fail("it was opened"))
    with pytest.raises(BigsleepError, match="TorchScript"):
        read_state(path)
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(BigsleepError):
        read_state(path, trusted=OFFICIAL_CLIPS)


def deflated(data: bytes) -> bytes:
    """A zip with its records compressed, as torch never does and yet reads."""
    file = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(data)) as before,
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as after,
    ):
        for entry in before.infolist():
            after.writestr(entry.filename, before.read(entry))
    return file.getvalue()


def overlapping(data: bytes, times: int) -> bytes:
    """A zip whose directory names the same record many times."""
    begin, end = data.index(b"PK\x01\x02"), data.index(b"PK\x05\x06")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        count = len(archive.infolist())
    directory = data[begin:end] * times
    return (
        data[:begin]
        + directory
        + struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, times * count, times * count, len(directory), begin, 0)
    )


def plain_zip(size: int) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", bytes(size))
    return file.getvalue()


def safe(header: dict, data: bytes = b"", length: int | None = None) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def clip_of(**shapes: tuple[int, ...]) -> dict[str, torch.Tensor]:
    """A small CLIP in OpenAI's layout, with other shapes for some of its tensors."""
    state = CLIP(64, 32, 1, 64, 8, 77, 49408, 64, 1, 1).state_dict()
    return state | {name.replace("__", "."): torch.zeros(shape) for name, shape in shapes.items()}


def claiming_a_terabyte() -> bytes:
    """A legacy checkpoint whose storage says, in both places that do, that it is a terabyte."""
    small, large = legacy({"x": torch.zeros(3)}), 1 << 38
    assert small.count(b"K\x03") >= 2 and small.count(struct.pack("<q", 3)) == 1
    large_in_a_pickle = b"\x8a\x06" + large.to_bytes(6, "little")
    return small.replace(b"K\x03", large_in_a_pickle).replace(struct.pack("<q", 3), struct.pack("<q", large))


HUGE = {
    "zip.pt": lambda: deflated(zipped({"x": torch.zeros(1 << 27)})),  # half a gigabyte in two megabytes
    "overlap.pt": lambda: overlapping(plain_zip(1 << 20), 1000),
    "legacy.pt": claiming_a_terabyte,
    "expanded.pt": lambda: zipped({"x": torch.zeros(1).expand(1 << 14, 1 << 14)}),
    "repeated.pt": lambda: zipped({str(number): torch.zeros(1000)[:] for number in range(3)} | dict.fromkeys("abcdefghijklm", torch.zeros(100_000))),
    "many.pt": lambda: zipped({str(number): torch.zeros(0) for number in range(6000)}),
    "sparse.pt": lambda: zipped({"x": torch.sparse_coo_tensor(size=(1 << 30, 1 << 30))}),
    "meta.pt": lambda: zipped({"x": torch.empty(1 << 40, device="meta")}),
    "header.safetensors": lambda: safe({}, length=1 << 42),
    "offsets.safetensors": lambda: safe({"x": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}),
    "shape.safetensors": lambda: safe({"x": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 4]}}, bytes(4)),
    "packed.safetensors": lambda: save({"x:left": torch.ones(1 << 16, 1), "x:right": torch.ones(1, 1 << 16)}),
    "scaled.safetensors": lambda: save({"x:int8": torch.ones(1 << 16, 1, dtype=torch.int8), "x:scale": torch.ones(1, 1 << 16)}),
    "half.safetensors": lambda: save({"x:int8": torch.ones(3, dtype=torch.int8)}),
}  # fmt: skip

CLIPS = {
    "wide text": lambda: clip_of(ln_final__weight=(1 << 20,)),
    "many blocks": lambda: clip_of(ln_final__weight=(1 << 13,), **{f"transformer__resblocks__{n}__x": (0,) for n in range(500)}),
    "long context": lambda: clip_of(positional_embedding=(1 << 20, 1)),
    "wide pictures": lambda: clip_of(visual__conv1__weight=(1 << 16, 3, 1, 1)),
    "many words": lambda: clip_of(token_embedding__weight=(50_000, 64)),
    "fine patches": lambda: clip_of(visual__positional_embedding=(1 << 18, 1)),
    "no width": lambda: clip_of(ln_final__weight=(0,)),
    "no such layers": lambda: {"visual.layer1.0.conv1.weight": torch.zeros(4)},
    "scalar": lambda: clip_of(text_projection=()),
}  # fmt: skip

# Reads each file in a process of its own, whose memory is measured from when all is imported.
READER = """
import sys
from pathlib import Path
from benchmarks.memory import peak_memory
from bigsleep.errors import BigsleepError
from bigsleep.models.checkpoint import read_state
from bigsleep.models.perceptor import Perceptor
for name in sys.argv[1:]:
    before = peak_memory()
    try:
        state = read_state(Path(name))
        Perceptor(state, name)
        print("read", name)
    except BigsleepError as error:
        lines = len(str(error).splitlines())
        print("refused", lines, (peak_memory() - before) // 2**20, name)
"""


def test_a_file_that_unpacks_to_much_more_than_it_is_is_refused_before_it_takes_the_memory(tmp_path):
    for name, make in HUGE.items():
        (tmp_path / name).write_bytes(make())
    for name, make in CLIPS.items():
        save_file(make(), tmp_path / f"clip, {name}.safetensors")
    names = sorted(path.name for path in tmp_path.iterdir())
    here = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)}
    done = subprocess.run(
        [sys.executable, "-c", READER, *names], cwd=tmp_path, env=here, capture_output=True, text=True
    )
    found = [line.split(" ", 3) for line in done.stdout.splitlines()]
    assert [line[-1] for line in found] == names, done.stderr
    assert all(line[:2] == ["refused", "1"] for line in found), found
    # In MB; the largest file that is refused after it was read has 13.
    assert all(int(line[2]) < 150 for line in found), found


@settings(max_examples=100, deadline=None)
@given(data())
def test_a_checkpoint_with_any_bytes_changed_is_read_or_refused(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("changed") / data.draw(sampled_from(["x.pt", "x.bin", "x.safetensors"]))
    tensors = {"a": torch.arange(6.0).view(2, 3), "b": torch.ones(4).half()}
    form = save if path.suffix == ".safetensors" else data.draw(sampled_from([zipped, legacy]))
    content = bytearray(form(tensors))
    for _ in range(data.draw(integers(1, 4))):
        content[data.draw(integers(0, len(content) - 1))] = data.draw(integers(0, 255))
    path.write_bytes(content[: data.draw(sampled_from([None, data.draw(integers(0, len(content)))]))])
    try:
        assert all(isinstance(tensor, torch.Tensor) for tensor in read_state(path).values())
    except BigsleepError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("name", ["model.pt", "model.safetensors"])
@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 half a zip"])
def test_a_damaged_file_is_refused_in_one_line(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BigsleepError, match="get the file again") as caught:
        read_state(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_local_folder_or_file_loads(tmp_path):
    put_biggan(tmp_path / "mine")
    for path in (tmp_path / "mine", tmp_path / "mine/pytorch_model.bin"):
        assert load_generator(str(path)).num_classes == 10


def test_a_local_folder_without_a_model_or_a_config_is_refused(tmp_path):
    with pytest.raises(BigsleepError, match="no BigGAN"):
        load_generator(str(tmp_path))
    put_biggan(tmp_path / "mine")
    (tmp_path / "mine/config.json").unlink()
    with pytest.raises(BigsleepError, match=r"config\.json"):
        load_generator(str(tmp_path / "mine"))
    (tmp_path / "mine/config.json").write_text("[1]")
    with pytest.raises(BigsleepError, match="configuration"):
        load_generator(str(tmp_path / "mine"))


ABSURD = [
    {"channel_width": 10**9}, {"channel_width": 0}, {"channel_width": "128"}, {"channel_width": True}, {"z_dim": -1},
    {"num_classes": 10**12}, {"num_classes": 1.5}, {"num_classes": None}, {"n_stats": 1}, {"n_stats": 10**15},
    {"eps": 0}, {"eps": float("nan")}, {"eps": 10**400}, {"attention_layer_position": "8"}, {"output_dim": 1 << 40},
    {"layers": []}, {"layers": [[True, 16, 16]] * 65}, {"layers": [[True, 16, 16]] * 10**4}, {"layers": "deep"},
    {"layers": [[1, 16, 16]]}, {"layers": [[True, 16]]}, {"layers": [[True, 16, 10**9]]}, {"layers": {"0": 1}},
    {"layers": [[True, 16, 16]] * 40, "output_dim": 4 << 40}, {"class_names": ["x"]}, {"class_names": [1] * 10},
    {"class_names": "0123456789"}, {"alpha": 1}, {"grounds": [True]}, {"grounds": [-1]},
]  # fmt: skip


@pytest.mark.parametrize("wrong", ABSURD, ids=lambda wrong: str(wrong)[:40])
def test_a_config_of_absurd_sizes_is_refused(tmp_path, wrong):
    file = tmp_path / "config.json"
    file.write_text(CONFIG.to_json_string())
    assert read_config(file)["channel_width"] == 8
    file.write_text(json.dumps(CONFIG.to_dict() | wrong))
    with pytest.raises(BigsleepError, match=r"config\.json is no BigGAN configuration") as caught:
        read_config(file)
    assert len(str(caught.value)) < 400 and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b"\xff", b"[" * 100_000, b'{"z_dim":' + b"9" * 5000 + b"}", b" " * (17 << 20)]
)
def test_a_config_that_is_none_is_refused(tmp_path, text):
    file = tmp_path / "config.json"
    file.write_bytes(text)
    with pytest.raises(BigsleepError, match="no BigGAN configuration"):
        read_config(file)


def test_class_features_of_other_classes_are_refused(tmp_path):
    put_biggan(tmp_path)
    state = torch.load(tmp_path / "pytorch_model.bin") | {"class_features": torch.zeros(9, 4)}
    torch.save(state, tmp_path / "pytorch_model.bin")
    with pytest.raises(BigsleepError, match="class features"):
        load_generator(str(tmp_path))


def test_a_config_may_say_that_there_is_alpha_and_which_classes_are_grounds(tmp_path):
    put_biggan(tmp_path / "mine")
    assert (load_generator(str(tmp_path / "mine")).alpha, load_generator(str(tmp_path / "mine")).grounds) == (False, [])
    file = tmp_path / "mine/config.json"
    plain = json.loads(file.read_text())
    file.write_text(json.dumps(plain | {"alpha": True, "grounds": [3, 9]}))
    generator = load_generator(str(tmp_path / "mine"))
    assert (generator.alpha, generator.grounds) == (True, [3, 9])
    for wrong in ({"alpha": "yes"}, {"grounds": [10]}, {"grounds": "sky"}, {"grounds": 3}):
        file.write_text(json.dumps(plain | wrong))
        with pytest.raises(BigsleepError, match="configuration"):
            load_generator(str(tmp_path / "mine"))


def test_the_built_in_pair_is_the_librarys_own_classes(tmp_path):
    """Our folded generator and clip-anytorch's own towers agree on the shipped weights."""
    from pytorch_pretrained_biggan import BigGAN, BigGANConfig

    folder = catalogue.EMOJI
    table = json.loads((folder / "config.json").read_text())
    library = BigGAN(BigGANConfig.from_dict(table)).eval()
    state = read_state(folder / "generator.safetensors")
    state.pop("class_features")
    library.load_state_dict({name: value.float() for name, value in state.items()})
    generator = load_generator("emoji")
    noise, classes = torch.randn(1, 128), torch.eye(generator.num_classes)[[7]]
    with torch.no_grad():
        ours = generator(
            noise[:, None].expand(-1, generator.stages, -1), classes[:, None].expand(-1, generator.stages, -1)
        )
        torch.testing.assert_close(ours[:, :3], library(noise, classes, 1.0), atol=1e-4, rtol=1e-4)
    assert load_perceptor("emoji").size == 64


def test_packing_is_undone():
    state = {"a:int8": torch.tensor([[127, -127]], dtype=torch.int8), "a:scale": torch.tensor([[0.5]]),
             "b:left": torch.eye(2), "b:right": torch.ones(2, 3), "c": torch.zeros(1)}  # fmt: skip
    result = unpacked(state)
    assert result["a"].tolist() == [[63.5, -63.5]] and result["b"].shape == (2, 3) and set(result) == {"a", "b", "c"}


def test_the_pair_ships_with_its_notices_and_is_small():
    files = {path.name: path.stat().st_size for path in catalogue.EMOJI.iterdir()}
    assert sum(files.values()) < 31e6
    notice = (catalogue.EMOJI / "NOTICE.md").read_text()
    assert all(word in notice for word in ("Fluent", "Noto", "Twemoji", "CC BY 4.0", "MiniLM", "WordNet", "Apache"))
