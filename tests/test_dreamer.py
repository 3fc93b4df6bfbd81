"""The Python API on the built-in pair."""

import time

import pytest
import torch

from bigsleep import BigsleepError, Dream, Models, Settings, dream


@pytest.fixture(scope="module")
def models():
    return Models.load(Settings(model="emoji"))


def short(models, prompt="a red heart", **options):
    return Dream(
        prompt, models=models, **{"model": "emoji", "seed": 1, "steps": 6, "save_every": 2, "auditions": 5, **options}
    )


def test_dream_returns_a_picture_with_its_recipe():
    picture = dream("a beautiful house", model="emoji", steps=2, seed=5, auditions=2)
    assert picture.image.size == (512, 512) and picture.image.mode == "RGB"
    assert picture.recipe["prompt"] == "a beautiful house"
    recorded = picture.recipe["settings"]
    assert recorded["seed"] == 5 and recorded["model"] == "emoji" and recorded["device"] == "cpu"


def test_a_recipes_settings_are_complete_but_for_what_has_no_default(models):
    left_open = [name for name, value in vars(short(models).settings).items() if value is None]
    assert set(left_open) <= {"time", "max_classes"}


def test_iterating_yields_snapshots_at_the_steps_asked_for(models):
    snapshots = list(short(models, steps=5))
    assert [snapshot.step for snapshot in snapshots] == [2, 4, 5]
    for snapshot in snapshots:
        assert snapshot.image.shape == (3, 512, 512)
        assert snapshot.image.min() >= 0 and snapshot.image.max() <= 1
        assert -1 <= snapshot.score <= 1


def test_best_is_the_snapshot_with_the_highest_score(models):
    dreaming = short(models)
    snapshots = list(dreaming)
    assert dreaming.best.score == max(snapshot.score for snapshot in snapshots)


def test_the_same_seed_dreams_the_same_and_another_does_not(models):
    first, again, other = (list(short(models, seed=seed))[-1].image for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_a_dream_can_be_dreamt_again(models):
    dreaming = short(models)
    assert torch.equal(list(dreaming)[-1].image, list(dreaming)[-1].image)


def test_without_a_seed_one_is_drawn_and_reported(models):
    seeds = {short(models, seed=None).settings.seed for _ in range(3)}
    assert len(seeds) == 3 and None not in seeds


def test_a_time_budget_is_kept(models):
    dreaming = short(models, steps=None, time=2.0, save_every=1000)
    began = time.monotonic()
    (snapshot,) = dreaming
    assert snapshot.step > 1 and 2.0 <= time.monotonic() - began < 8


def test_stop_ends_with_a_last_snapshot(models):
    dreaming = short(models, steps=1000, save_every=1000, on_step=lambda progress: dreaming.stop())
    assert [snapshot.step for snapshot in dreaming] == [2]


def test_a_stop_before_the_first_step_leaves_one_step(models):
    dreaming = short(models)
    dreaming.stop()
    assert [snapshot.step for snapshot in dreaming] == [1]
    assert [snapshot.step for snapshot in dreaming] == [2, 4, 6]


def test_progress_is_told_after_every_step(models):
    told = []
    list(short(models, on_step=told.append))
    assert [progress.step for progress in told] == [1, 2, 3, 4, 5, 6]
    assert told[-1].share == 1 and told[-1].seconds_left == 0 and told[2].seconds_left > 0


@pytest.mark.parametrize("size", [128, 256])
def test_pictures_come_in_the_size_asked_for(models, size):
    assert list(short(models, steps=1, image_size=size))[-1].image.shape == (3, size, size)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(prompt=""), "prompt is empty"), (dict(model="biggun"), "unknown model.*emoji"),
        (dict(clip="ViT-X"), "unknown CLIP.*ViT-B/32"), (dict(device="cuda:99"), "CUDA"),
        (dict(device="tpu"), "unknown device"), (dict(prompt="word " * 100), "tokens"), (dict(steps=-1), "--steps"),
        (dict(model="emoji", max_classes=100_000), "--max-classes"), (dict(device="cpu", precision="fp16"), "GPU"),
    ],
)  # fmt: skip
def test_what_cannot_be_dreamt_is_refused_in_one_line(options, message):
    with pytest.raises(BigsleepError, match=message) as caught:
        Dream(**{"prompt": "a house", "model": "emoji", **options})
    assert caught.value.usage and "\n" not in str(caught.value)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_each_precision_dreams(precision):
    snapshots = list(Dream("a red heart", model="emoji", seed=1, steps=3, auditions=3, precision=precision))
    assert snapshots[-1].score > 0.2
