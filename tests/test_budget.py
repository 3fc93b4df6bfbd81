"""Budgets and presets: on a small BigGAN with random weights, and on the built-in pair."""

import pytest
from PIL import ImageChops

from bigsleep import BigsleepError, Dream, Models, Settings, dream
from bigsleep.models import catalogue
from bigsleep.models.catalogue import GENERATORS, generator_row
from tests.test_checkpoint import put_biggan


@pytest.fixture
def options(tmp_path):
    """A dream of a tiny BigGAN, seen by the built-in CLIP."""
    put_biggan(tmp_path / "tiny")
    return dict(model=str(tmp_path / "tiny"), clip="emoji", device="cpu", cutouts=2, seed=1)


def test_without_a_gpu_a_full_size_dream_has_the_steps_that_fit_and_says_so(options, monkeypatch):
    notes: list[str] = []
    monkeypatch.setattr(catalogue, "CPU_SECONDS", 0.1)
    few = Dream("a house", **options, note=notes.append)
    monkeypatch.setattr(catalogue, "CPU_SECONDS", 1000.0)
    many = Dream("a house", **options)
    assert few.settings.steps == 10 and many.settings.steps > 50
    assert any(note.startswith("10 steps fit") and "--steps" in note for note in notes)
    assert Dream("a house", **options, steps=7).settings.steps == 7
    assert Dream("a house", **options, time=2.0).settings.steps is None


def test_the_steps_are_timed_once_for_all_dreams_of_the_same_models(options):
    notes: list[str] = []
    models = Models.load(Settings(**options))
    dreams = [Dream("a house", models=models, **options, note=notes.append) for _ in range(3)]
    assert len({dreaming.settings.steps for dreaming in dreams}) == 1
    assert len([note for note in notes if "steps fit" in note]) == 1


def test_the_recipe_holds_the_steps_so_that_the_same_picture_comes_again(options, monkeypatch):
    monkeypatch.setattr(catalogue, "CPU_SECONDS", 0.1)
    first = dream("a house", **options)
    monkeypatch.setattr(catalogue, "CPU_SECONDS", 1000.0)
    again = dream("a house", Settings.of(first.recipe["settings"]))
    assert ImageChops.difference(first.image, again.image).getbbox() is None


def test_a_preset_stands_before_the_models_preferences_and_behind_what_the_user_says():
    row = generator_row("biggan-deep-512")
    own = Settings(steps=5).filled(row.preferred("cuda", "bigsleep"))
    assert (own.steps, own.cutouts, own.resample, own.ema, own.init) == (5, 128, "nearest", 0.5, "random")
    assert row.preferred("cpu", "bigsleep")["steps"] == 20 * 1050
    for preset in ("fast", "best"):
        assert "steps" not in row.preferred("cuda", preset), "they fit its time"
    assert row.seconds("fast") < row.seconds() < row.seconds("best")
    assert row.seconds() == 180 and "steps" not in row.preferred("cpu"), "about three minutes a picture, without a GPU"


def test_the_built_in_model_has_presets_of_its_own():
    models = Models.load(Settings(model="emoji"))
    steps = [Dream("a cat", models=models, preset=preset).settings.steps for preset in ("fast", None, "best")]
    assert steps == sorted(steps) and len(set(steps)) == 3
    with pytest.raises(BigsleepError, match="--preset bigsleep: choose fusedream, fast, best"):
        Dream("a cat", models=models, preset="bigsleep")


def test_every_preset_is_made_of_valid_preferences():
    for row in GENERATORS.values():
        for preset in row.presets:
            for device in ("cpu", "cuda", "mps"):
                Settings.of(row.preferred(device, preset))


def test_a_sigmoid_over_the_built_in_classes_is_refused():
    with pytest.raises(BigsleepError, match="--classes sigmoid"):
        Dream("a cat", model="emoji", classes="sigmoid")


def test_the_command_says_why_a_dream_is_done_before_its_end(bigsleep):
    slow = (
        "--image-size",
        "128",
        "--lr",
        "1e-6",
        "--class-lr",
        "1e-6",
        "--cutouts",
        "1",
        "--auditions",
        "1",
        "--layers",
        "1",
    )
    done = bigsleep("a cat", "--model", "emoji", "--until", "plateau", "--steps", "40", "--save-every", "1", *slow)
    assert done.returncode == 0 and "no better for a fifth of the dream: done after" in done.stderr, done.stderr
