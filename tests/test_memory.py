"""A CPU's memory that ends for real: less at once, then one line."""

import subprocess
import sys

import pytest

# Each part in what room there is beside what the process has taken before.
PROGRAM = """
import re, resource
from contextlib import contextmanager
from pathlib import Path
import torch
from bigsleep import BigsleepError, Dream, Models, Settings
from tests.test_optimizer import Alone

@contextmanager
def room(megabytes):
    size = int(re.search(r"VmSize:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
    resource.setrlimit(resource.RLIMIT_AS, (size + megabytes * 2**20, resource.RLIM_INFINITY))
    try:
        yield
    except BigsleepError as error:
        print(error)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

torch.set_num_threads(1)
models = Models.load(Settings(model="emoji", device="cpu", precision="fp32"))
options = {"cutouts": 64, "layers": "1", "auditions": 1}
first, tight = Alone(models, **options), Alone(models, **options)
for chunk in (64, 32, 16):  # oneDNN makes what it needs for each size once
    first.optimizer.chunk = chunk
    first.search = Alone(models, **options).search
    loss = first.step(0.0)
with room(10):
    found = tight.step(0.0)
torch.testing.assert_close(found, loss)  # which imports a great deal
assert tight.optimizer.chunk < 64, tight.optimizer.chunk
dream = Dream("a cat", models=models, model="emoji", **options)
with room(0):
    list(dream)
with room(0):
    Models.load(Settings(model="emoji"))
"""


@pytest.mark.slow
def test_less_is_done_at_once_and_where_that_does_not_do_one_line_says_so():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    dreaming, loading = done.stdout.splitlines()
    assert dreaming.startswith("cpu has too little memory for emoji: close other programs")
    assert "memory" in loading and "close other programs" in loading
