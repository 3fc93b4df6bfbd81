"""Budgets and presets: on a small BigGAN with random weights, and on the built-in pair."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from bigsleep import BigsleepError, Dream, Models, Settings, budget, dream
from bigsleep.models import catalogue
from bigsleep.models.catalogue import GENERATORS, generator_row
from bigsleep.optimizer import Optimizer
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


def test_without_a_gpu_a_dream_has_as_many_steps_as_three_minutes_have_at_the_pace_of_some(options, monkeypatch):
    models, clock = Models.load(Settings(**options)), [0.0]
    monkeypatch.setattr(budget, "time", SimpleNamespace(perf_counter=lambda: sum(clock)))
    steps = []
    for seconds in (0.5, 3.0, 60.0):
        monkeypatch.setattr(Optimizer, "step", lambda *_, seconds=seconds: clock.append(seconds))
        models.paces.clear()
        steps.append(Dream("a house", models=models, **options).settings.steps)
    assert steps == [357, 57, 10], "the three that were timed taken off, and ten at least"


def test_the_steps_are_timed_once_for_all_dreams_of_the_same_models(options):
    notes: list[str] = []
    models = Models.load(Settings(**options))
    dreams = [Dream("a house", models=models, **options, note=notes.append) for _ in range(3)]
    assert len({dreaming.settings.steps for dreaming in dreams}) == 1
    assert len([note for note in notes if "steps fit" in note]) == 1


def test_the_recipe_holds_the_steps_so_that_the_same_picture_comes_again(options, monkeypatch):
    monkeypatch.setattr(catalogue, "CPU_SECONDS", 0.1)
    first = dream("a house", **options)
    monkeypatch.setattr(catalogue, "CPU_SECONDS", 3.0)
    again = dream("a house", Settings.of(first.recipe["settings"]))
    assert again.png() == first.png()


def test_a_preset_stands_before_the_models_preferences_and_behind_what_the_user_says():
    row = generator_row("biggan-deep-512")
    own = Settings(steps=5).filled(row.preferred("cuda", "bigsleep"))
    assert (own.steps, own.cutouts, own.resample, own.ema, own.init) == (5, 128, "nearest", 0.5, "random")
    assert row.preferred("cpu", "bigsleep")["steps"] == 20 * 1050
    for preset in ("fast", "best"):
        assert "steps" not in row.preferred("cuda", preset), "they fit its time"
    assert row.seconds("fast") < row.seconds() < row.seconds("best")
    assert row.seconds() == 180 and "steps" not in row.preferred("cpu"), "about three minutes a picture, without a GPU"


def test_the_documents_say_what_the_budgets_are_and_that_they_are_not_big_sleeps():
    root = Path(__file__).parent.parent
    readme, how, page = (
        " ".join((root / name).read_text().split()) for name in ("README.md", "docs/how.md", "docs/biggan.md")
    )
    row = generator_row("biggan-deep-512")
    ours, slow, theirs = row.preferred("cuda"), row.preferred("cpu"), row.preferred("cuda", "bigsleep")
    assert f"{ours['steps']:,} steps of {ours['cutouts']} cutouts on a GPU" in page
    assert f"on a CPU {slow['cutouts']} cutouts and as many steps as fit three minutes" in page
    assert f"| `bigsleep` | {theirs['steps']:,} steps" in page and f"of {theirs['cutouts']} cutouts, nearest" in page
    assert f"a {theirs['steps'] // ours['steps']}st of big-sleep's steps on a GPU, and fewer still on a CPU" in page
    assert "but not its budget (`--preset bigsleep` is; see [biggan.md](biggan.md))" in how
    assert "[docs/biggan.md](docs/biggan.md)" in readme and "Big Sleep's defaults" not in readme


def test_without_a_preset_cutouts_are_antialiased_and_lr_is_biggans_one_rate():
    for device in ("cuda", "cpu"):
        found = Settings(lr=0.1).filled(generator_row("biggan-deep-512").preferred(device))
        assert (found.resample, found.lr, found.class_lr) == ("antialiased", 0.1, 0.1)


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
    slow = "--image-size 128 --lr 1e-6 --class-lr 1e-6 --cutouts 1 --auditions 1 --layers 1 --steps 20 --save-every 1 --seed 5"
    done = bigsleep("a cat", "--model", "emoji", "--until", "plateau", *slow.split())
    assert done.returncode == 0 and "no better for a fifth of the dream: done after" in done.stderr, done.stderr
