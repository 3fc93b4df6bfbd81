"""Checkpoints and configurations are data: what strangers may have put into them is refused, not run."""

import json
import os
from pathlib import Path

import pytest
import torch

from benchmarks.random_models import biggan_config, random_biggan
from bigsleep.errors import BigsleepError
from bigsleep.models import catalogue
from bigsleep.models.catalogue import load_generator, load_perceptor
from bigsleep.models.checkpoint import read_state, unpacked
from bigsleep.models.fetch import sha256_of

CONFIG = biggan_config(128, channel_width=8, num_classes=10)


def put_biggan(folder: Path) -> None:
    """A small BigGAN in ``folder`` as pytorch-pretrained-biggan publishes its own: pickle and JSON."""
    folder.mkdir(exist_ok=True)
    torch.save(random_biggan(CONFIG).state_dict(), folder / "pytorch_model.bin")
    (folder / "config.json").write_text(CONFIG.to_json_string())


class Bomb:
    def __reduce__(self):
        return os.system, ("touch exploded",)


def test_a_checkpoint_is_data_and_never_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"x": Bomb()}, "bomb.pt")
    with pytest.raises(BigsleepError, match="cannot be read"):
        read_state(Path("bomb.pt"))
    assert not Path("exploded").exists()


def test_a_torchscript_program_is_opened_only_when_it_is_a_known_one(tmp_path):
    path = tmp_path / "model.pt"
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path)
    with pytest.raises(BigsleepError, match="TorchScript"):
        read_state(path)
    assert set(read_state(path, trusted=frozenset([sha256_of(path)]))) == {"weight", "bias"}


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
