"""What a step moves between a CPU and a GPU, counted on a device that computes nothing: torch's ``meta``."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.beside_big_sleep import CONFIG, small_clip
from benchmarks.random_models import random_biggan
from bigsleep import Settings, cutouts
from bigsleep.cutouts import chance_on
from bigsleep.goal import Goal
from bigsleep.models.catalogue import generator_row
from bigsleep.models.generator import Generator
from bigsleep.models.perceptor import Perceptor
from bigsleep.optimizer import Optimizer

aten = torch.ops.aten
AWAY = torch.device("meta")


class Transfers(TorchDispatchMode):
    """Counts bytes sent to the device and waits for it; a number read back is 1."""

    def __init__(self):
        super().__init__()
        self.sent, self.waits = 0, 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if operation is aten._local_scalar_dense.default and args[0].device == AWAY:
            self.waits += 1
            return 1.0
        if operation is aten._to_copy.default and args[0].device == AWAY and kwargs.get("device", AWAY) != AWAY:
            self.waits += 1
            return torch.ones(args[0].shape)
        result = operation(*args, **kwargs)
        if operation in (aten._to_copy.default, aten.copy_.default) and result.device == AWAY:
            source = args[operation is aten.copy_.default]
            self.sent += result.nbytes * (source.device.type == "cpu")
        return result


def send(module):
    """Put a module's tensors on the device, in place."""
    for part in module.modules():
        for name, parameter in list(part._parameters.items()):
            if parameter is not None:
                part._parameters[name] = torch.nn.Parameter(parameter.data.to(AWAY), parameter.requires_grad)
        for name, buffer in list(part._buffers.items()):
            if buffer is not None:
                part._buffers[name] = buffer.to(AWAY)


@pytest.mark.parametrize(
    "options", [{}, {"augment": 1.0}, {"resample": "antialiased"}, {"max_classes": 3}, {"views": "augclip"}]
)
def test_a_step_waits_for_the_gpu_once_and_sends_it_little(options, monkeypatch):
    perceptor = Perceptor(small_clip().state_dict(), "small")
    loop = Optimizer(Generator(CONFIG, random_biggan(CONFIG).state_dict()), perceptor)
    preferred = generator_row("biggan-deep-512").preferred("cuda", "bigsleep") | {"layers": "1"}
    settings = Settings(**options, seed=0).filled(preferred)
    goal = Goal(perceptor.encode_text(["a house", "a garden"]), torch.ones(2))
    search = loop.search(goal, settings, torch.Generator().manual_seed(0))
    for module in (loop.generator, perceptor.visual, search.layers):
        send(module)
    search.goal, loop.device = Goal(goal.features.to(AWAY), goal.weights.to(AWAY)), AWAY
    search.begin(search.layers)
    monkeypatch.setattr(cutouts, "chance_on", lambda device, _: None if device == AWAY else pytest.fail("on the CPU"))
    with Transfers():
        loop.step([search], [0.0])  # what is made once, at first
    with Transfers() as transfers:
        loop.step([search], [0.1])
    assert transfers.waits <= 1
    assert 0 < transfers.sent < 1e6


def test_on_a_cpu_chance_is_the_dreams_own():
    random = torch.Generator().manual_seed(1)
    assert chance_on(torch.device("cpu"), random) is random
