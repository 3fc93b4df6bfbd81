"""What the tests share: the command as a user runs it, and a loopback web server."""

from __future__ import annotations

import functools
import http.server
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

warnings.filterwarnings("ignore", message=".*pkg_resources.*")
if "PYTEST_XDIST_WORKER" in os.environ:  # side by side, with threads for all cores each, they would wait for each other
    os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))


class OnGPU(torch.Tensor):
    """A tensor on the CPU that says it is on a GPU, so that what is computed otherwise there can be checked here."""

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return torch.device("cuda")


def run_bigsleep(*args: str, cwd: Path, timeout: float = 120, **options: object) -> subprocess.CompletedProcess[str]:
    """``bigsleep ARGS`` in a process of its own, in folder ``cwd``."""
    command = [sys.executable, "-m", "bigsleep", *args]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=timeout, **options)  # type: ignore


@pytest.fixture
def bigsleep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> functools.partial[subprocess.CompletedProcess[str]]:
    """The command, run in an empty folder with empty caches and no way to the weight hosts."""
    home = tmp_path / "home"
    home.mkdir()
    for name, value in offline(home).items():
        monkeypatch.setenv(name, value)
    folder = tmp_path / "work"
    folder.mkdir()
    return functools.partial(run_bigsleep, cwd=folder)


def offline(home: Path) -> dict[str, str]:
    """Environment of a machine without a network: empty caches, and a proxy that refuses."""
    refused = "http://127.0.0.1:9"
    return {
        "HOME": str(home), "BIGSLEEP_CACHE": str(home / "cache"), "HF_HOME": str(home / "hf"),
        "https_proxy": refused, "http_proxy": refused, "HTTPS_PROXY": refused, "HTTP_PROXY": refused, "no_proxy": "",
    }  # fmt: skip


class Server:
    """A loopback web server over a folder, which counts what is asked of it and can add headers."""

    def __init__(self, folder: Path) -> None:
        self.requests: list[tuple[str, str]] = []
        self.headers: dict[str, dict[str, str]] = {}
        server = self

        class Handler(http.server.SimpleHTTPRequestHandler):
            def __init__(self, *args: object, **kwargs: object) -> None:
                super().__init__(*args, directory=str(folder), **kwargs)  # type: ignore[arg-type, misc]

            def end_headers(self) -> None:
                for name, value in server.headers.get(self.path, {}).items():
                    self.send_header(name, value)
                super().end_headers()

            def log_request(self, *_: object) -> None:
                server.requests.append((self.command, self.path))

            def log_message(self, *_: object) -> None: ...

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Server, Path]]:
    """A running :class:`Server` and the folder it serves; caches are empty."""
    folder = tmp_path / "served"
    folder.mkdir()
    monkeypatch.setenv("BIGSLEEP_CACHE", str(tmp_path / "cache"))
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    running = Server(folder)
    yield running, folder
    running.server.shutdown()
