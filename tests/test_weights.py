"""Finding, fetching, checking and reading weight files, against a loopback web server and small models."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from pytorch_pretrained_biggan import file_utils, model
from safetensors.torch import save_file

from benchmarks.random_models import biggan_config, random_biggan
from bigsleep.errors import BigsleepError
from bigsleep.models import catalogue, weights
from bigsleep.models.catalogue import load_generator, load_perceptor
from bigsleep.models.weights import WeightsMissing, cache_folder, download, read_state, unpacked

CONFIG = biggan_config(128, channel_width=8, num_classes=10)


def put_biggan(folder: Path) -> None:
    """A small BigGAN in ``folder`` as pytorch-pretrained-biggan publishes its own: pickle and JSON."""
    folder.mkdir(exist_ok=True)
    torch.save(random_biggan(CONFIG).state_dict(), folder / "pytorch_model.bin")
    (folder / "config.json").write_text(CONFIG.to_json_string())


@pytest.fixture
def published(server, monkeypatch):
    """A loopback host that publishes a small BigGAN as biggan-deep-128."""
    host, folder = server
    put_biggan(folder)
    monkeypatch.setitem(model.PRETRAINED_MODEL_ARCHIVE_MAP, "biggan-deep-128", f"{host.url}/pytorch_model.bin")
    monkeypatch.setitem(model.PRETRAINED_CONFIG_ARCHIVE_MAP, "biggan-deep-128", f"{host.url}/config.json")
    monkeypatch.setattr(file_utils, "PYTORCH_PRETRAINED_BIGGAN_CACHE", folder.parent / "older")
    return host, folder


def test_a_biggan_is_fetched_once_and_then_found(published):
    host, _ = published
    assert load_generator("biggan-deep-128", quiet=True).stages == 11
    asked = len(host.requests)
    load_generator("biggan-deep-128", quiet=True)
    assert len(host.requests) == asked
    assert sorted(path.name for path in (cache_folder() / "biggan-deep-128").iterdir() if path.suffix != ".lock") == [
        "config.json", "config.json.sha256", "pytorch_model.bin", "pytorch_model.bin.sha256",
    ]  # fmt: skip


def test_what_changed_in_the_cache_since_its_download_is_found(published):
    load_generator("biggan-deep-128", quiet=True)
    path = cache_folder() / "biggan-deep-128/pytorch_model.bin"
    with open(path, "r+b") as file:
        file.seek(5000)
        file.write(b"\xff" * 16)
    with pytest.raises(BigsleepError, match="delete it"):
        load_generator("biggan-deep-128", quiet=True)


def test_an_etag_that_is_an_md5_is_checked(published):
    host, folder = published
    right = hashlib.md5((folder / "pytorch_model.bin").read_bytes()).hexdigest()
    host.headers["/pytorch_model.bin"] = {"ETag": '"' + "0" * 32 + '"'}
    with pytest.raises(WeightsMissing, match="hash"):
        load_generator("biggan-deep-128", quiet=True)
    assert not (cache_folder() / "biggan-deep-128/pytorch_model.bin").exists()
    host.headers["/pytorch_model.bin"] = {"ETag": f'"{right}"'}
    load_generator("biggan-deep-128", quiet=True)


def test_what_pytorch_pretrained_biggan_left_behind_is_used(published, tmp_path):
    host, folder = published
    older = tmp_path / "older"
    older.mkdir()
    for name in ("pytorch_model.bin", "config.json"):
        (older / f"{name}-hash").write_bytes((folder / name).read_bytes())
        (older / f"{name}-hash.json").write_text(json.dumps({"url": f"{host.url}/{name}", "etag": None}))
    load_generator("biggan-deep-128", quiet=True)
    assert host.requests == []


def test_two_at_once_fetch_once(server):
    host, folder = server
    (folder / "big.bin").write_bytes(os.urandom(3_000_000))
    targets: list[Path] = []
    threads = [
        threading.Thread(target=lambda: targets.append(download(f"{host.url}/big.bin", cache_folder() / "big", quiet=True)))
        for _ in range(4)
    ]  # fmt: skip
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(targets) == 4 and host.requests.count(("GET", "/big.bin")) == 1


@pytest.mark.parametrize("address", ["/absent.bin", None], ids=["404", "no host"])
def test_what_cannot_be_fetched_says_so_in_one_line_and_leaves_nothing(server, address):
    url = server[0].url + address if address else "http://127.0.0.1:9/x.bin"
    with pytest.raises(WeightsMissing) as caught:
        download(url, cache_folder() / "x.bin", quiet=True)
    assert url in str(caught.value) and "\n" not in str(caught.value)
    assert [path for path in cache_folder().iterdir() if path.suffix != ".lock"] == []


def test_clip_comes_from_the_hub_and_then_from_the_cache(server):
    """In a process of its own, since the hub's address is read once."""
    host, folder = server
    repository = folder / "timm/resnet50_clip.openai/resolve/main"
    repository.mkdir(parents=True)
    save_file({"x": torch.arange(4.0)}, repository / "open_clip_model.safetensors")
    path = "/timm/resnet50_clip.openai/resolve/main/open_clip_model.safetensors"
    host.headers[path] = {"ETag": '"' + "a" * 40 + '"', "X-Repo-Commit": "b" * 40}
    program = (
        "from bigsleep.models.weights import find_clip, read_state;"
        "print(read_state(find_clip('timm/resnet50_clip.openai', 'http://127.0.0.1:9/0/RN50.pt', True))['x'].sum().item())"
    )
    environment = os.environ | {"HF_ENDPOINT": host.url, "HF_HOME": str(folder.parent / "hf")}
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
        assert done.stdout.strip() == "6.0", done.stderr
    assert host.requests.count(("GET", path)) == 1


def test_openais_address_is_the_second_choice_and_its_checksum_is_checked(server, monkeypatch, tmp_path):
    host, folder = server
    monkeypatch.setattr(
        weights.huggingface_hub, "hf_hub_download", lambda *_, **__: (_ for _ in ()).throw(OSError("no hub"))
    )
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    data = b"weights"
    right = hashlib.sha256(data).hexdigest()
    for digest in (right, "0" * 64):
        (folder / digest).mkdir()
        (folder / digest / f"{digest[0]}.pt").write_bytes(data)
    assert weights.find_clip("timm/none", f"{host.url}/{right}/{right[0]}.pt", True).read_bytes() == data
    with pytest.raises(WeightsMissing, match="Hugging Face"):
        weights.find_clip("timm/none", f"{host.url}/{'0' * 64}/0.pt", True)


def test_a_clip_that_openais_package_left_behind_is_used_if_it_is_whole(monkeypatch, tmp_path):
    monkeypatch.setenv("BIGSLEEP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    older = tmp_path / ".cache/clip/RN50.pt"
    older.parent.mkdir(parents=True)
    older.write_bytes(b"weights")
    right = hashlib.sha256(b"weights").hexdigest()
    assert weights.find_clip("timm/none", f"http://127.0.0.1:9/{right}/RN50.pt", True) == older


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
    assert set(read_state(path, trusted=frozenset([weights.sha256_of(path)]))) == {"weight", "bias"}


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
