"""Thirty steps beside big-sleep 0.9.1, whose own numbers ``python -m benchmarks.beside_big_sleep`` recorded."""

import json
from pathlib import Path

import pytest
import torch

from benchmarks.beside_big_sleep import CONFIG, CUTOUTS, PROMPT, STEPS, cutouts_of, shown, small_clip, start
from benchmarks.random_models import random_biggan
from bigsleep import Settings, optimizer
from bigsleep.goal import Goal
from bigsleep.models.catalogue import generator_row
from bigsleep.models.generator import Generator
from bigsleep.models.perceptor import Perceptor
from bigsleep.optimizer import Optimizer


@pytest.fixture(scope="module")
def big_sleep():
    return json.loads((Path(__file__).parent / "big_sleep.json").read_text())


def test_from_the_same_start_with_the_same_cutouts_the_preset_goes_as_big_sleep_does(big_sleep, monkeypatch):
    perceptor = Perceptor(small_clip().state_dict(), "small")
    loop = Optimizer(Generator(CONFIG, random_biggan(CONFIG).state_dict()), perceptor)
    preset = generator_row("biggan-deep-512").preferred("cpu", "bigsleep")
    settings = Settings(cutouts=CUTOUTS, seed=0).filled(preset)
    goal = Goal(perceptor.encode_text([PROMPT]), torch.ones(1))
    search = loop.search(goal, settings, torch.Generator().manual_seed(0))
    latents = [search.state()[f"layer0.{name}"].detach() for name in ("noise", "logits")]
    for ours, begun in zip(latents, start(), strict=True):
        ours.copy_(begun)
    losses = []
    for step in range(STEPS):
        monkeypatch.setattr(optimizer, "draw_cutouts", lambda *_, step=step, **__: cutouts_of(step))
        losses += loop.step([search], [step / STEPS])
    expected = big_sleep["losses"]
    assert expected[0] - expected[-1] > 10, "steps without an effect would prove nothing"
    assert losses[:3] == pytest.approx(expected[:3], abs=1e-4)
    # From there Adam, whose steps are as long where a gradient is all rounding, lets rounding grow.
    assert losses == pytest.approx(expected, abs=1e-2)
    for (name, numbers), begun in zip(shown(*latents).items(), shown(*start()).values(), strict=True):
        assert numbers == pytest.approx(big_sleep[name], abs=1e-2), name
        assert numbers != pytest.approx(begun, abs=0.5), name
