"""What the tests share: the command as a user runs it, and a loopback web server."""

from __future__ import annotations

import functools
import http.server
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
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

WARM = multiprocessing.get_context("forkserver")
WARM.set_forkserver_preload(
    ["torch", "bigsleep.dreamer", "bigsleep.batch", "bigsleep.commands.dream", "bigsleep.commands.batch"]
)


class OnGPU(torch.Tensor):
    """A tensor on the CPU that says it is on a GPU, so that what is computed otherwise there can be checked here."""

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return torch.device("cuda")


def run_bigsleep(*args: str, cwd: Path, timeout: float = 120, input: str = "") -> subprocess.CompletedProcess[str]:
    """``bigsleep ARGS`` in a process of its own, in folder ``cwd``.

    The process is a fork of one that has imported torch and what dreams, which takes half of a short command's time. What
    must be seen from the first byte on (signals, terminals, what is imported) is run by its test as ``python -m bigsleep``.
    """
    with tempfile.TemporaryDirectory() as folder:
        streams = [Path(folder) / name for name in ("stdin", "stdout", "stderr")]
        streams[0].write_text(input, encoding="utf-8")
        process = WARM.Process(target=commanded, args=(args, cwd, dict(os.environ), streams))
        process.start()
        process.join(timeout)
        if process.is_alive():
            process.kill()
            raise subprocess.TimeoutExpired(args, timeout)
        stdout, stderr = (path.read_text() for path in streams[1:])
    return subprocess.CompletedProcess(args, process.exitcode, stdout, stderr)


def commanded(args: tuple[str, ...], cwd: Path, environment: dict[str, str], streams: list[Path]) -> None:
    """What ``python -m bigsleep ARGS`` does, with files for streams."""
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    for number, (path, flags) in enumerate(zip(streams, (os.O_RDONLY, *[os.O_WRONLY | os.O_CREAT] * 2), strict=True)):
        os.dup2(os.open(path, flags), number)
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(number, mode, 1, closefd=False) for number, mode in enumerate("rww"))
    sys.argv = ["bigsleep", *args]
    runpy.run_module("bigsleep", run_name="__main__")


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
