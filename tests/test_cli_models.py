"""``bigsleep models`` as a user runs it, against a loopback server that is the mirror; and what shells complete."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from bigsleep.models.published import PUBLISHED
from bigsleep.models.shelf import names
from tests import faulty

FILE = "open_clip_model.safetensors"
CONTENT = save({"text_projection": torch.arange(4.0)})


@pytest.fixture
def host(bigsleep, monkeypatch):
    """A mirror of RN50 and RN101; the command finds nothing else."""
    for name in ("http_proxy", "HTTP_PROXY", "no_proxy"):  # https leads to a proxy that refuses
        monkeypatch.delenv(name)
    with faulty.serving() as host:
        monkeypatch.setenv("BIGSLEEP_MIRROR", host.url)
        host.files |= {f"/{name}/{FILE}": CONTENT for name in ("RN50", "RN101")}
        yield host


def cache() -> Path:
    return Path(os.environ["BIGSLEEP_CACHE"])


def rows(bigsleep) -> dict[str, dict]:
    done = bigsleep("models", "--json")
    assert done.returncode == 0 and done.stderr == ""
    return {row["name"]: row for row in map(json.loads, done.stdout.splitlines())}


def test_all_models_are_listed_with_size_licence_state_and_origin(bigsleep):
    table = rows(bigsleep)
    assert list(table) == names() and {"emoji", "biggan-deep-512", "ViT-B/32"} < set(table)
    assert table["emoji"]["state"] == "built in" and Path(table["emoji"]["path"]).is_dir()
    assert table["biggan-deep-256"] == {
        "name": "biggan-deep-256", "kind": "generator", "licence": "Apache-2.0", "state": "missing", "size": 234411737,
        "path": None, "origin": "https://s3.amazonaws.com/models.huggingface.co/biggan/biggan-deep-256-pytorch_model.bin",
    }  # fmt: skip
    lines = bigsleep("models").stdout.splitlines()
    assert lines[0].split()[:5] == ["NAME", "KIND", "SIZE", "LICENCE", "STATE"]
    assert [line.split()[0] for line in lines[1:]] == names()
    assert not cache().exists()


def test_a_model_is_downloaded_found_verified_and_removed(bigsleep, host):
    done = bigsleep("models", "download", "RN50", "emoji")
    path = cache() / "RN50" / FILE
    assert done.returncode == 0 and done.stdout.splitlines()[0] == str(path) and path.read_bytes() == CONTENT
    assert "fetching" in done.stderr and bigsleep("models", "download", "RN50", "-q").stderr == ""
    assert len(host.asked) == 1
    assert bigsleep("models", "path", "RN50").stdout == f"{path}\n"
    row = rows(bigsleep)["RN50"]
    assert (row["state"], row["path"], row["size"]) == ("unverified", str(path), len(CONTENT))
    assert row["origin"] == f"{host.url}/RN50/{FILE}"
    assert bigsleep("models", "verify", "RN50").stdout == f"RN50\tunverified\t{path}\n"
    assert str(path) in bigsleep("models", "remove", "RN50").stdout.splitlines() and not path.exists()
    assert rows(bigsleep)["RN50"]["state"] == "missing" and len(host.asked) == 1


def test_what_the_server_has_a_hash_of_is_verified(bigsleep, host):
    host.plays[f"/RN50/{FILE}"] = [faulty.saying(X_Linked_Etag=hashlib.sha256(CONTENT).hexdigest())]
    bigsleep("models", "download", "RN50")
    assert rows(bigsleep)["RN50"]["state"] == "verified"


def test_verify_finds_damage_that_neither_size_nor_time_shows_and_the_next_download_mends_it(bigsleep, host):
    bigsleep("models", "download", "RN50", "RN101")
    path = cache() / "RN50" / FILE
    before = path.stat()
    path.write_bytes(b"?" + CONTENT[1:])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert bigsleep("models", "path", "RN50").returncode == 0  # as if nothing had happened
    done = bigsleep("models", "verify")
    assert done.returncode == 1 and "1 files are damaged" in done.stderr
    aside = f"{path}.damaged"
    assert f"RN50\tdamaged\t{aside}" in done.stdout.splitlines()
    assert f"RN101\tunverified\t{cache() / 'RN101' / FILE}" in done.stdout.splitlines()
    assert bigsleep("models", "path", "RN50").returncode == 1
    assert bigsleep("models", "download", "RN50").returncode == 0 and path.read_bytes() == CONTENT
    assert Path(aside).read_bytes()[:1] == b"?"


def test_an_interrupted_download_is_listed_as_incomplete_and_goes_on(bigsleep, host):
    host.plays[f"/RN50/{FILE}"] = [faulty.cut(20), faulty.status(404), faulty.whole]
    assert bigsleep("models", "download", "RN50").returncode == 1
    assert rows(bigsleep)["RN50"]["state"] == "incomplete"
    assert bigsleep("models", "download", "RN50").returncode == 0
    assert host.ranges()[-1] == "bytes=20-"


def test_ctrl_c_ends_a_download_at_once_and_the_next_goes_on(bigsleep, host):
    host.plays[f"/RN50/{FILE}"] = [faulty.stall(20), faulty.whole]
    command = [sys.executable, "-m", "bigsleep", "models", "download", "RN50"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    part = cache() / "RN50" / f"{FILE}.part"
    while not part.exists() or part.stat().st_size < 20:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=10)
    assert process.returncode == 130 and stdout == "" and "Traceback" not in stderr
    assert bigsleep("models", "download", "RN50").returncode == 0
    assert host.ranges()[-1] == "bytes=20-"


def test_one_that_cannot_be_fetched_does_not_keep_the_others_and_says_how_to_place_it_by_hand(bigsleep, host):
    done = bigsleep("models", "download", "RN50x4", "RN50", "-q")
    assert done.returncode == 1 and done.stdout == f"{cache() / 'RN50' / FILE}\n"
    lines = done.stderr.splitlines()
    assert len(lines) == 2 and f"put the file at {cache() / 'RN50x4' / FILE}" in lines[0] and "1 of 2" in lines[1]
    assert "HTTP 404" in lines[0]


def test_all_are_asked_for_and_each_that_cannot_be_had_has_its_line(bigsleep, host):
    done = bigsleep("models", "download", "--all", "-q")
    assert done.stdout.splitlines() == [str(cache() / name / FILE) for name in ("RN50", "RN101")]
    *lines, last = done.stderr.splitlines()
    missing = set(PUBLISHED) - {"RN50", "RN101"}
    assert {line.split()[1] for line in lines} == missing and len(lines) == len(missing)
    assert done.returncode == 1 and f"{len(missing)} of {len(PUBLISHED)}" in last


@pytest.mark.parametrize(
    ("content", "reason"), [(b"", "empty"), (CONTENT[:-1], "another file"), (save({"x": torch.ones(9)}), "no CLIP")]
)
def test_a_mirrors_file_that_is_no_clip_is_not_kept(bigsleep, host, content, reason):
    host.files[f"/RN50/{FILE}"] = content
    done = bigsleep("models", "download", "RN50")
    assert done.returncode == 1 and reason in done.stderr
    assert not (cache() / "RN50" / FILE).exists()


@pytest.mark.parametrize("way", [("--offline",), ()])
def test_offline_nothing_is_asked_for(bigsleep, host, monkeypatch, way):
    if not way:
        monkeypatch.setenv("BIGSLEEP_OFFLINE", "1")
    done = bigsleep("models", "download", "RN50", *way)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1 and "network" in done.stderr
    done = bigsleep("a house", "--model", "biggan-deep-128", *way)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1 and "ViT-B/32" in done.stderr
    assert host.asked == []


def test_offline_auto_dreams_with_the_built_in_pair(bigsleep, host):
    done = bigsleep("a house", "--steps", "1", "--auditions", "1", "--offline")
    assert done.returncode == 0 and "built-in" in done.stderr and host.asked == []


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (("download",), 2, "--all"), (("download", "RN51"), 2, "RN50x64"), (("verify", "RN51"), 2, "RN50x64"),
        (("remove", "emoji"), 2, "built in"), (("remove", "RN50"), 1, "nothing to remove"),
        (("path", "RN50"), 1, "models download RN50"), (("verify", "RN50"), 1, "models download RN50"),
        (("path", "RN51"), 2, "RN50x64"), (("fetch",), 2, "fetch"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_said_in_one_line(bigsleep, args, code, message):
    done = bigsleep("models", *args)
    assert done.returncode == code and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1 and message in done.stderr


def test_another_programs_file_is_used_and_not_removed(bigsleep):
    older = Path(os.environ["HF_HOME"]) / "hub/models--timm--resnet50_clip.openai"
    (older / "snapshots/v1").mkdir(parents=True)
    (older / "refs").mkdir()
    (older / "refs/main").write_text("v1")
    path = older / "snapshots/v1" / FILE
    path.write_bytes(CONTENT)
    assert rows(bigsleep)["RN50"]["state"] == "unchecked"
    assert bigsleep("models", "download", "RN50").stdout == f"{path}\n"
    assert rows(bigsleep)["RN50"]["state"] == "unverified"
    done = bigsleep("models", "remove", "RN50")
    assert done.returncode == 1 and str(path) in done.stderr and path.exists()


def completed(words: str, shell: str = "bash") -> list[str]:
    """What a shell would be offered for the last of ``words``."""
    environment = os.environ | {
        "_BIGSLEEP_COMPLETE": f"{shell}_complete", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1),
    }  # fmt: skip
    if shell == "fish":
        environment["COMP_CWORD"] = words.rpartition(" ")[2]
    program = "import sys; from bigsleep.commands import main\ntry: main()\nfinally: print('torch' in sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.stderr == "False\n", "torch takes a second to import"
    return done.stdout.split()


def test_shells_complete_names_and_options():
    clips = [f"plain,ViT-{rest}" for rest in ("B/32", "B/16", "L/14", "L/14@336px")]
    biggans = [f"plain,biggan-deep-{size}" for size in (128, 256, 512)]
    for words, expected in {
        "bigsleep x --clip ViT": clips, "bigsleep --clip ViT": clips, "bigsleep batch list.txt --clip ViT": clips,
        "bigsleep x --model b": biggans, "bigsleep models download b": biggans, "bigsleep models path ViT-B/1": clips[1:2],
        "bigsleep mod": ["plain,models"], "bigsleep --mod": ["plain,--model"], "bigsleep x --model ./m": ["file,./m"],
        "bigsleep x --precision b": ["plain,bf16"],
    }.items():  # fmt: skip
        assert completed(words) == expected, words


def test_zsh_and_fish_are_told_the_same():
    assert completed("bigsleep x --clip ViT-B/3", "zsh") == ["plain", "ViT-B/32", "_"]
    assert completed("bigsleep x --clip ViT-B/3", "fish") == ["plain,ViT-B/32"]


def test_bash_completes_with_the_line_of_the_readme(tmp_path):
    script = tmp_path / "bigsleep"
    script.write_text(f"#!{sys.executable}\nfrom bigsleep.commands import main\nmain()\n")
    script.chmod(0o755)
    program = (
        'eval "$(_BIGSLEEP_COMPLETE=bash_source bigsleep)"; complete -p bigsleep >&2;'
        'COMP_WORDS=(bigsleep models download RN50x6); COMP_CWORD=3; _bigsleep_completion bigsleep; echo "${COMPREPLY[@]}"'
    )
    environment = os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", program], env=environment, capture_output=True, text=True)
    assert done.stdout == "RN50x64\n" and "_bigsleep_completion" in done.stderr
