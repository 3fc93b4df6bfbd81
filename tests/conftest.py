"""What the tests share: the command as a user runs it, and models of random weights in the published formats."""

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
import torch.nn.functional as F
from pytorch_pretrained_biggan import BigGAN, BigGANConfig
from torch import nn

warnings.filterwarnings("ignore", message=".*pkg_resources.*")
torch.set_num_threads(2)

UP, SAME = True, False
BIGGAN_LAYERS = {
    128: [(SAME, 16, 16), (UP, 16, 16), (SAME, 16, 16), (UP, 16, 8), (SAME, 8, 8), (UP, 8, 4), (SAME, 4, 4),
          (UP, 4, 2), (SAME, 2, 2), (UP, 2, 1)],
    512: [(SAME, 16, 16), (UP, 16, 16), (SAME, 16, 16), (UP, 16, 8), (SAME, 8, 8), (UP, 8, 8), (SAME, 8, 8),
          (UP, 8, 4), (SAME, 4, 4), (UP, 4, 2), (SAME, 2, 2), (UP, 2, 1), (SAME, 1, 1), (UP, 1, 1)],
}  # fmt: skip


def biggan_config(size: int, channel_width: int = 128, num_classes: int = 1000) -> BigGANConfig:
    """The published configuration of a size, at full width unless told otherwise."""
    return BigGANConfig(
        output_dim=size, layers=BIGGAN_LAYERS[size], channel_width=channel_width, num_classes=num_classes
    )


@torch.no_grad()
def random_biggan(config: BigGANConfig, seed: int = 0) -> BigGAN:
    """The library's BigGAN with random weights that behave: spectral norms settled, no uninitialised memory left."""
    torch.manual_seed(seed)
    model = BigGAN(config).eval()
    for module in model.modules():
        if hasattr(module, "weight_orig"):
            matrix = module.weight_orig.flatten(1)
            for _ in range(12):
                module.weight_v.copy_(F.normalize(matrix.T @ module.weight_u, dim=0))
                module.weight_u.copy_(F.normalize(matrix @ module.weight_v, dim=0))
        if hasattr(module, "running_means"):
            module.running_means.normal_(0, 0.1)
            module.running_vars.uniform_(0.5, 1.5)
        if hasattr(module, "gamma"):
            module.gamma.fill_(0.7)
    nn.init.uniform_(model.generator.bn.weight, 0.5, 1.5)
    nn.init.normal_(model.generator.bn.bias, 0, 0.1)
    return model


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
