"""Finding, fetching, checking and reading weight files, against a loopback web server and small models."""

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from clip import clip as clip_package
from huggingface_hub import constants
from pytorch_pretrained_biggan import BigGANConfig
from pytorch_pretrained_biggan import model as biggan_model

from benchmarks.random_models import biggan_config, random_biggan
from bigsleep.errors import BigsleepError
from bigsleep.models import catalogue, fetch, weights
from bigsleep.models import published as published_module
from bigsleep.models.catalogue import load_generator
from bigsleep.models.published import PUBLISHED, biggan_table
from bigsleep.models.weights import Published, Source, WeightsMissing, cache_folder, find
from tests import faulty

CONFIG = biggan_config(128, channel_width=8, num_classes=10)
CONTENT = os.urandom(50_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def host(tmp_path, monkeypatch):
    """A loopback server; caches are empty, homes too, and waits short."""
    for name in [name for name in os.environ if name.lower().endswith(("_proxy", "_offline", "_mirror"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("BIGSLEEP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "home/hub"))
    monkeypatch.setattr(fetch, "PAUSE", 0.01)
    with faulty.serving() as host:
        yield host


def published(*sources: Source, check=None, size: int = len(CONTENT)) -> Published:
    return Published("a/model", "generator", "MIT", size, sources, check)


def source(host, path="/x", **options) -> Source:
    """The file model.bin at an address of the server."""
    host.files.setdefault(path, CONTENT)
    return Source("model.bin", host.url + path, **options)


def in_cache() -> dict[str, bytes]:
    """What lies under final names in the model's folder of our cache."""
    files = (cache_folder() / "a-model").iterdir()
    return {
        path.name: path.read_bytes()
        for path in files
        if path.suffix not in (".json", ".lock", ".part") and path.name != ".lock"
    }


def test_a_model_is_fetched_once_and_then_found(host):
    model = published(source(host, sha256=SHA256))
    path = find(model, quiet=True)
    assert path == cache_folder() / "a-model/model.bin" and path.read_bytes() == CONTENT
    assert find(model, quiet=True) == path and len(host.asked) == 1


def test_the_next_address_is_tried_and_the_end_names_them_all_and_the_way_by_hand(host):
    bad = [source(host, "/gone"), source(host, "/bad", sha256=SHA256), Source("model.bin", "http://127.0.0.1:9/x")]
    host.plays["/gone"], host.plays["/bad"] = [faulty.status(404)], [faulty.status(200, b"wrong")]
    with pytest.raises(WeightsMissing) as caught:
        find(published(*bad), quiet=True)
    message = str(caught.value)
    assert "\n" not in message and all(each.address in message for each in bad)
    assert all(
        word in message for word in ("HTTP 404", "SHA256", "no answer", str(cache_folder() / "a-model/model.bin"))
    )
    assert in_cache() == {}
    assert find(published(*bad, source(host)), quiet=True).read_bytes() == CONTENT


def test_a_mirrors_file_that_is_another_model_is_not_kept(host):
    def check(path: Path) -> None:
        if path.read_bytes() != CONTENT:
            raise BigsleepError("it lacks a tensor")

    host.files["/other"] = b"another model"
    with pytest.raises(WeightsMissing, match="another file: it lacks a tensor"):
        find(published(source(host, "/other"), check=check), quiet=True)
    assert in_cache() == {}
    assert find(published(source(host, "/other"), source(host), check=check), quiet=True).read_bytes() == CONTENT


def test_what_has_changed_in_the_cache_is_set_aside_and_fetched_again(host, caplog):
    model = published(source(host))
    path = find(model, quiet=True)
    for number in (1, 2):
        path.write_bytes(b"?" * number + CONTENT[number:])
        assert find(model, quiet=True).read_bytes() == CONTENT and len(host.asked) == 1 + number
    assert {name: data[:2] for name, data in in_cache().items()} == {
        "model.bin": CONTENT[:2], "model.bin.damaged": b"?" + CONTENT[1:2], "model.bin.damaged-2": b"??",
    }  # fmt: skip
    assert "has changed since it came" in caplog.text


def test_a_folder_where_the_file_should_be_is_set_aside(host):
    (cache_folder() / "a-model/model.bin/x").mkdir(parents=True)
    assert find(published(source(host)), quiet=True).read_bytes() == CONTENT
    assert (cache_folder() / "a-model/model.bin.damaged/x").is_dir()


def test_a_file_put_there_by_hand_is_used_if_it_can_be_the_right_one(host):
    path = cache_folder() / "a-model/model.bin"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"mine")
    assert find(published(source(host)), quiet=True).read_bytes() == b"mine"  # nobody knows better
    assert find(published(source(host, sha256=SHA256)), quiet=True).read_bytes() == CONTENT
    assert in_cache()["model.bin.damaged"] == b"mine"


def test_a_file_is_hashed_again_only_where_its_size_or_time_has_changed(host, monkeypatch):
    hashed = []
    monkeypatch.setattr(weights, "sha256_of", lambda path: hashed.append(path) or fetch.sha256_of(path))
    model = published(source(host))
    path = find(model, quiet=True)
    find(model, quiet=True)
    assert hashed == []
    os.utime(path)
    find(model, quiet=True)
    find(model, quiet=True)
    assert hashed == [path]


def test_what_a_mirror_or_another_program_has_is_hashed_once_too(host, monkeypatch, tmp_path):
    hashed = []
    monkeypatch.setattr(weights, "sha256_of", lambda path: hashed.append(path) or fetch.sha256_of(path))
    monkeypatch.setenv("BIGSLEEP_MIRROR", str(tmp_path / "mirror"))
    (tmp_path / "mirror/a-model").mkdir(parents=True)
    (tmp_path / "mirror/a-model/model.bin").write_bytes(CONTENT)
    for _ in range(2):
        assert find(published(source(host, sha256=SHA256))) == tmp_path / "mirror/a-model/model.bin"
    assert len(hashed) == 1 and host.asked == []


def test_a_mirrors_address_is_asked_first_and_its_folder_may_be_wrong(host, monkeypatch, tmp_path):
    monkeypatch.setenv("BIGSLEEP_MIRROR", f"{host.url}/mirror/")
    host.plays["/mirror/a-model/model.bin"] = [faulty.status(404), faulty.whole]
    host.files["/mirror/a-model/model.bin"] = CONTENT
    model = published(source(host))
    find(model, quiet=True)
    assert [path for path, _ in host.asked] == ["/mirror/a-model/model.bin", "/x"]
    shutil.rmtree(cache_folder())
    find(model, quiet=True)
    assert len(host.asked) == 3
    monkeypatch.setenv("BIGSLEEP_MIRROR", str(tmp_path / "mirror"))
    (tmp_path / "mirror/a-model").mkdir(parents=True)
    (tmp_path / "mirror/a-model/model.bin").write_bytes(b"another version")
    shutil.rmtree(cache_folder())
    assert find(published(source(host, sha256=SHA256)), quiet=True).read_bytes() == CONTENT


@pytest.mark.parametrize("name", ["BIGSLEEP_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_the_network_is_not_touched_and_what_is_there_is_used(host, monkeypatch, name):
    monkeypatch.setattr(socket, "socket", lambda *_, **__: pytest.fail("the network was touched"))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("a name was looked up"))
    monkeypatch.setenv(name, "1")
    model = published(source(host), Source("model.safetensors", hub="timm/none"))
    with pytest.raises(WeightsMissing, match=r"not to be used.*model\.bin"):
        find(model, quiet=True)
    assert not cache_folder().exists()
    path = cache_folder() / "a-model/model.bin"
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    assert find(model, quiet=True) == path
    path.write_bytes(b"other")
    with pytest.raises(WeightsMissing, match="was damaged"):
        find(model, quiet=True)
    assert in_cache() == {"model.bin.damaged": b"other"}


def test_what_other_programs_have_left_behind_is_used_if_it_is_whole(host, tmp_path):
    home = Path(os.environ["HOME"])
    for folder, name in (
        (".cache/clip", "RN50.pt"),
        (".pytorch_pretrained_biggan", "0123abcd"),
        ("hub/models--timm--x/snapshots/v1", "m.safetensors"),
    ):
        (home / folder).mkdir(parents=True)
        (home / folder / name).write_bytes(CONTENT)
    note = {"url": "https://weights.invalid/biggan.bin", "etag": None}
    (home / ".pytorch_pretrained_biggan/0123abcd.json").write_text(json.dumps(note))
    (home / "hub/models--timm--x/refs").mkdir()
    (home / "hub/models--timm--x/refs/main").write_text("v1")
    clip = Source("RN50.pt", "https://weights.invalid/RN50.pt", sha256=SHA256)
    biggan, hub = Source("pytorch_model.bin", note["url"]), Source("m.safetensors", hub="timm/x")
    for each in (clip, biggan, hub):
        assert find(published(each)).read_bytes() == CONTENT
    wrong = Source("RN50.pt", source(host).address, sha256="0" * 64)
    (home / ".cache/clip/RN50.pt").write_bytes(b"half")
    with pytest.raises(WeightsMissing):
        find(published(wrong), quiet=True)


def test_what_lies_in_the_hubs_cache_is_checked_against_its_name(host):
    blobs = Path(os.environ["HOME"]) / "hub/models--timm--x"
    for folder in ("blobs", "refs", "snapshots/v1"):
        (blobs / folder).mkdir(parents=True)
    (blobs / "refs/main").write_text("v1")
    (blobs / "blobs" / SHA256).write_bytes(CONTENT[:-1])
    (blobs / "snapshots/v1/model.bin").symlink_to(f"../../blobs/{SHA256}")
    model = published(Source("model.bin", hub="timm/x"), source(host))
    assert weights.look(model) is None
    (blobs / "blobs" / SHA256).write_bytes(CONTENT)
    assert weights.look(model) == blobs / "snapshots/v1/model.bin"


def test_the_hubs_endpoint_is_honoured(host, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", f"{host.url}/hub/")
    host.files["/hub/timm/x/resolve/main/model.bin"] = CONTENT
    assert find(published(Source("model.bin", hub="timm/x")), quiet=True).read_bytes() == CONTENT


PROGRAM = """
import sys, pathlib
from bigsleep.models import fetch
from bigsleep.models.weights import Published, Source, find, locked
model = Published("a/model", "generator", "MIT", 50_000, (Source("model.bin", sys.argv[1]),))
{body}
"""


def process(url: str, body: str = "print(find(model).read_bytes() != b'', flush=True)") -> subprocess.Popen[str]:
    """Python in a process of its own, with a model at an address."""
    command = [sys.executable, "-c", PROGRAM.format(body=body), url]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_ten_processes_that_start_together_fetch_once(host):
    def slowly(handler, data):
        time.sleep(2)  # long enough for all of them to have started
        faulty.whole(handler, data)

    host.plays["/x"] = [slowly]
    url = source(host).address
    processes = [process(url) for _ in range(10)]
    outputs = [each.communicate(timeout=120) for each in processes]
    assert [out for out, _ in outputs] == ["True\n"] * 10 and len(host.asked) == 1
    assert sum("fetching" in err for _, err in outputs) == 10  # one fetches, nine say that they wait


def test_a_process_that_is_killed_while_it_fetches_blocks_nobody_and_its_part_is_gone_on_with(host):
    host.plays["/x"] = [faulty.stall(20_000), faulty.whole]
    model = published(source(host))
    killed = process(model.sources[0].address)
    part = cache_folder() / "a-model/model.bin.part"
    while not part.exists() or part.stat().st_size < 20_000:
        assert killed.poll() is None
        time.sleep(0.02)
    killed.kill()
    killed.wait()
    assert in_cache() == {}
    began = time.monotonic()
    assert find(model, quiet=True).read_bytes() == CONTENT
    assert host.ranges() == [None, "bytes=20000-"] and time.monotonic() - began < 5


def test_a_kill_between_the_last_byte_and_the_final_name_costs_nothing(host):
    """As while a mirror's file is compared with the model that it should be."""
    killing = "from dataclasses import replace; import os\n"
    killing += "find(replace(model, check=lambda _: os.kill(os.getpid(), 9)))"
    model = published(source(host))
    process(model.sources[0].address, killing).wait(timeout=60)
    assert in_cache() == {} and len(host.asked) == 1
    assert find(model, quiet=True).read_bytes() == CONTENT and len(host.asked) == 1
    names = {path.name for path in (cache_folder() / "a-model").iterdir()}
    assert names == {"model.bin", "model.bin.json", ".lock"}


@contextlib.contextmanager
def unwritable(folder: Path):
    """``folder`` made so that we cannot write in it, not even as root."""
    if os.geteuid() == 0:
        if subprocess.run(["mount", "--bind", "-o", "ro", folder, folder]).returncode:
            pytest.skip("root may not mount here, and may write everywhere")
        subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)
    else:
        folder.chmod(0o555)
    yield
    if os.geteuid() == 0:
        subprocess.run(["umount", folder], check=True)
    else:
        folder.chmod(0o755)


def test_a_read_only_cache_with_the_file_works_and_one_without_says_what_to_do(host):
    path = cache_folder() / "a-model/model.bin"
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    with unwritable(cache_folder()):
        assert find(published(source(host, sha256=SHA256)), quiet=True) == path
        with pytest.raises(WeightsMissing, match=r"cannot be kept.*BIGSLEEP_CACHE"):
            find(dataclasses.replace(published(source(host)), name="b"), quiet=True)
    assert host.asked == []


@pytest.mark.parametrize("play", [faulty.whole, faulty.chunked])
def test_a_full_disk_says_so_and_leaves_nothing_under_a_final_name(host, play):
    """Known before it begins where the length is told, and otherwise when it happens."""
    cache_folder().mkdir(parents=True)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", cache_folder()]).returncode:
        pytest.skip("a disk that is full takes a mount, and that takes root")
    try:
        host.files["/big"], host.plays["/big"] = bytes(3_000_000), [play]
        with pytest.raises(WeightsMissing, match=r"no room.*BIGSLEEP_CACHE"):
            find(published(source(host, "/big"), source(host), size=3_000_000), quiet=True)
        assert in_cache() == {} and len(host.asked) == 1  # another address would not help
    finally:
        subprocess.run(["umount", cache_folder()], check=True)


def test_the_published_files_are_the_ones_whose_hashes_are_public():
    """The 256's SHA-256s are public; the library's defaults are the 128's."""
    (weights,) = PUBLISHED["biggan-deep-256"].sources
    assert PUBLISHED["biggan-deep-256"].size == 234_411_737
    assert weights.sha256 == "5900ef4065047e3aa0d1b66197b7f2664dceb59b27080e414ad57e203c485bc5"
    config = BigGANConfig.from_dict(biggan_table("biggan-deep-256")).to_json_string().encode()
    assert len(config) == 715
    assert hashlib.sha256(config).hexdigest() == "edd106f65ff28ee1638491a978cfa6bc50dfa0344aab70749a7b8eb08bbec677"
    assert BigGANConfig.from_dict(biggan_table("biggan-deep-128")).to_dict() == BigGANConfig().to_dict()


def test_the_published_addresses_are_the_librarys():
    for name, url in biggan_model.PRETRAINED_MODEL_ARCHIVE_MAP.items():
        assert PUBLISHED[name].sources[0].url == url
    for name, url in clip_package._MODELS.items():
        assert PUBLISHED[name].sources[-1].url == url and PUBLISHED[name].sources[-1].sha256 in url


def test_a_published_biggan_is_fetched_checked_and_loaded(host, monkeypatch):
    """One that is eight channels wide stands for the 128."""
    monkeypatch.setattr(published_module, "biggan_table", lambda _: CONFIG.to_dict())
    monkeypatch.setattr(catalogue, "biggan_table", lambda _: CONFIG.to_dict())
    monkeypatch.setenv("BIGSLEEP_MIRROR", host.url)
    file = io.BytesIO()
    torch.save({"generator.gen_z.bias": torch.zeros(3)}, file)
    address = "/biggan-deep-128/pytorch_model.bin"
    host.files[address] = file.getvalue()
    only_mirror = dataclasses.replace(
        PUBLISHED["biggan-deep-128"], sources=(Source("pytorch_model.bin", host.url + "/gone"),)
    )
    host.plays["/gone"] = [faulty.status(404)]
    monkeypatch.setitem(catalogue.PUBLISHED, "biggan-deep-128", only_mirror)
    with pytest.raises(WeightsMissing, match=r"another file: .*lacks"):
        load_generator("biggan-deep-128", quiet=True)
    file = io.BytesIO()
    torch.save(random_biggan(CONFIG).state_dict(), file)
    host.files[address] = file.getvalue()
    assert load_generator("biggan-deep-128", quiet=True).stages == 11
