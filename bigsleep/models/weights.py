"""Weight files: find them in the caches, download them where they are not, check them, read them as plain data."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import platformdirs
import pooch
import requests
import torch
from filelock import FileLock
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from bigsleep.errors import BigsleepError
from bigsleep.models.lean import lean_import

CONNECT = 3.0  # seconds to reach a server; a machine without a network shall learn it at once
TIMEOUT = (CONNECT, 30.0)  # the latter between two pieces of an answer


class WeightsMissing(BigsleepError):
    """Weights that are in no cache and could not be fetched."""


def cache_folder() -> Path:
    """``BIGSLEEP_CACHE``, else the platform's cache folder for us."""
    return Path(os.environ.get("BIGSLEEP_CACHE") or platformdirs.user_cache_dir("bigsleep"))


def sha256_of(path: Path) -> str:
    with open(path, "rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def record_of(path: Path) -> Path:
    """Where the SHA-256 that ``path`` had when it arrived is kept."""
    return path.with_name(path.name + ".sha256")


def check_record(path: Path) -> Path:
    """``path``, if it is still what was downloaded; a :class:`BigsleepError` that says so if it is not."""
    record = record_of(path)
    if record.exists() and sha256_of(path) != record.read_text().strip():
        raise BigsleepError(f"{path} has changed since it was downloaded: delete it, and it will be fetched again")
    return path


def download(url: str, target: Path, known_hash: str | None = None, quiet: bool = False) -> Path:
    """Fetch ``url`` to ``target`` under a temporary name, verify it, rename it and note its SHA-256.

    Two processes that want the same file fetch it once. ``known_hash`` is ``"sha256:..."`` or ``"md5:..."``; without
    it an ETag that is an MD5 serves.

    Raises
    ------
    WeightsMissing
        If the server cannot be reached or what came is not what was promised.
    """
    pooch.get_logger().setLevel("WARNING")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_name(target.name + ".lock")):
            if target.exists():
                return check_record(target)
            fetch = pooch.HTTPDownloader(progressbar=not quiet, timeout=TIMEOUT)
            fetched = target.with_name(target.name + ".part")
            pooch.retrieve(url, known_hash or etag_md5(url), fetched.name, fetched.parent, downloader=fetch)
            record_of(target).write_text(sha256_of(fetched))
            os.replace(fetched, target)
    except (requests.RequestException, OSError, ValueError) as error:
        reason = "no answer" if isinstance(error, (requests.ConnectionError, requests.Timeout)) else first_line(error)
        raise WeightsMissing(f"{url} could not be fetched ({reason})") from error
    return target


def etag_md5(url: str) -> str | None:
    """``"md5:..."`` where the server's ETag for ``url`` is one, as S3's is for files put in one piece."""
    answer = requests.head(url, timeout=TIMEOUT, allow_redirects=True)
    answer.raise_for_status()
    etag = answer.headers.get("ETag", "").strip('"')
    return f"md5:{etag}" if re.fullmatch(r"[0-9a-f]{32}", etag) else None


def first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def older_biggan_files() -> Iterator[tuple[str, Path]]:
    """``(url, path)`` of what pytorch-pretrained-biggan has left in its cache."""
    folder = lean_import("pytorch_pretrained_biggan.file_utils").PYTORCH_PRETRAINED_BIGGAN_CACHE
    for note in sorted(Path(folder).glob("*.json")):
        try:
            url = json.loads(note.read_text()).get("url")
        except (ValueError, AttributeError, OSError):
            continue
        if url and note.with_suffix("").exists():
            yield url, note.with_suffix("")


def find_biggan(name: str, weights_url: str, config_url: str, quiet: bool = False) -> tuple[Path, Path]:
    """``(weights, config)`` of a published BigGAN: our cache, the library's, the net."""
    folder = cache_folder() / name
    paths = []
    for url, target in ((weights_url, folder / "pytorch_model.bin"), (config_url, folder / "config.json")):
        if target.exists():
            paths.append(check_record(target))
        else:
            paths.append(dict(older_biggan_files()).get(url) or download(url, target, quiet=quiet))
    return paths[0], paths[1]


HUB_FILE = "open_clip_model.safetensors"


def find_clip(repository: str, url: str, quiet: bool = False) -> Path:
    """A published CLIP: our cache, those of open_clip and CLIP, the Hugging Face hub, OpenAI's address."""
    hub, file, known = cache_folder() / "hub", Path(url).name, f"sha256:{Path(url).parent.name}"
    for folder in (hub, None):  # ours; the hub's own
        found = huggingface_hub.try_to_load_from_cache(repository, HUB_FILE, cache_dir=folder)
        if isinstance(found, str):
            return Path(found)
    if (cache_folder() / file).exists():
        return check_record(cache_folder() / file)
    older = Path.home() / ".cache/clip" / file
    if older.exists() and f"sha256:{sha256_of(older)}" == known:
        return older
    if quiet:
        huggingface_hub.utils.disable_progress_bars()
    try:
        # The hub's client tries for half a minute and says so at every try; one knock at its door is enough.
        requests.head(huggingface_hub.constants.ENDPOINT, timeout=TIMEOUT)
        return Path(huggingface_hub.hf_hub_download(repository, HUB_FILE, cache_dir=hub, etag_timeout=CONNECT))
    except Exception as hub_error:  # the hub's errors share no base class but this
        try:
            return download(url, cache_folder() / file, known, quiet)
        except WeightsMissing as error:
            raise WeightsMissing(
                f"{repository} could not be fetched from the Hugging Face hub, and {error}"
            ) from hub_error


def is_torchscript(path: Path) -> bool:
    """Whether ``path`` is a TorchScript archive, that is, a program."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def read_state(path: Path, trusted: frozenset[str] = frozenset()) -> dict[str, Tensor]:
    """The tensors of a checkpoint, on the CPU. Never runs what is in it.

    safetensors and torch's zip of tensors are data. A TorchScript archive is opened only where its SHA-256 is one of
    the ``trusted``.

    Raises
    ------
    BigsleepError
        If the file cannot be read, or is a program that is not trusted.
    """
    try:
        if path.suffix == ".safetensors":
            return unpacked(load_file(path))
        if is_torchscript(path):
            if sha256_of(path) not in trusted:
                raise BigsleepError(
                    f"{path} is a TorchScript program and none of the known ones: give a state dict instead"
                )
            return torch.jit.load(path, map_location="cpu").state_dict()
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, SafetensorError, zipfile.BadZipFile) as error:
        raise BigsleepError(
            f"{path} cannot be read as a checkpoint ({first_line(error)}): get the file again"
        ) from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise BigsleepError(f"{path} is not a plain table of tensors: give a state dict")
    return state


def unpacked(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Undo the built-in pair's packing: ``name:int8`` times ``name:scale``, then ``name:left @ name:right``."""
    state = dict(state)
    for key in [key for key in state if key.endswith(":int8")]:
        name = key.removesuffix(":int8")
        state[name] = state.pop(key).float() * state.pop(f"{name}:scale").float()
    for key in [key for key in state if key.endswith(":left")]:
        name = key.removesuffix(":left")
        state[name] = state.pop(key).float() @ state.pop(f"{name}:right").float()
    return state
