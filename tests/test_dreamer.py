"""The Python API on the built-in pair."""

import itertools
import time
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from bigsleep import BigsleepError, Dream, Models, Settings, dream
from bigsleep.course import settled, together
from bigsleep.goal import Goal
from bigsleep.loading import find_precision
from bigsleep.optimizer import Optimizer


@pytest.fixture(scope="module")
def models():
    return Models.load(Settings(model="emoji"))


def short(models, prompt="a red heart", **options):
    return Dream(
        prompt,
        models=models,
        **{"model": "emoji", "image_size": 128, "seed": 1, "steps": 6, "save_every": 2, "auditions": 5, **options},
    )


def test_dream_returns_a_picture_with_its_recipe():
    picture = dream("a beautiful house", model="emoji", steps=2, seed=5, auditions=2)
    assert picture.image.size == (512, 512) and picture.image.mode == "RGB"
    assert picture.recipe["prompt"] == "a beautiful house"
    recorded = picture.recipe["settings"]
    assert recorded["seed"] == 5 and recorded["model"] == "emoji" and recorded["device"] == "cpu"


def test_a_recipes_settings_are_complete_but_for_what_has_no_default(models):
    left_open = [name for name, value in vars(short(models).settings).items() if value is None]
    assert set(left_open) <= {"time", "max_classes", "preset", "start"}


def test_iterating_yields_snapshots_at_the_steps_asked_for(models):
    snapshots = list(short(models, steps=5))
    assert [snapshot.step for snapshot in snapshots] == [2, 4, 5]
    for snapshot in snapshots:
        assert snapshot.image.shape == (3, 128, 128)
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


class Cards:
    """Stands for ``torch.cuda`` of a machine with NVIDIA cards of these compute capabilities, the first one current."""

    def __init__(self, monkeypatch, *majors):
        self.current = 0
        for name, value in dict(
            is_available=lambda: True, device_count=lambda: len(majors),
            current_device=lambda: self.current, device=self.chosen,
            get_device_properties=lambda device: SimpleNamespace(major=majors[device]),
            _check_bf16_tensor_supported=lambda device: True,  # emulation does that
        ).items():  # fmt: skip
            monkeypatch.setattr(torch.cuda, name, value)

    @contextmanager
    def chosen(self, device):
        before, self.current = self.current, device.index or 0
        yield
        self.current = before


@pytest.mark.parametrize(
    ("major", "precision"), [(5, "fp16"), (6, "fp16"), (7, "fp16"), (8, "bf16"), (9, "bf16"), (10, "bf16")]
)
def test_bf16_is_for_cards_that_have_it_and_the_card_asked_is_the_chosen_one(monkeypatch, major, precision):
    Cards(monkeypatch, 17 - major, major)  # the current one is of the other kind
    assert find_precision("auto", torch.device("cuda:1")) == precision


def test_on_a_card_without_bf16_clip_steps_in_fp16_and_biggan_in_fp32(monkeypatch):
    move, card = torch.nn.Module.to, torch.device("cuda:1")
    with monkeypatch.context() as patch:
        Cards(patch, 9, 7)
        # There is no card to send them to.
        patch.setattr(torch.nn.Module, "to", lambda it, *to, **how: it if to == (card,) else move(it, *to, **how))
        loaded = Models.load(Settings(model="emoji", device="cuda:1"))
    steps = loaded.optimizer
    assert next(steps.fast_perceptor.visual.parameters()).dtype == torch.float16
    assert {parameter.dtype for parameter in steps.fast_generator.parameters()} == {torch.float32}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_each_precision_dreams(precision):
    snapshots = list(Dream("a red heart", model="emoji", seed=1, steps=3, auditions=3, precision=precision))
    assert snapshots[-1].score > 0.2


def ends(pairs):
    """What each dream of ``together`` came to: its last snapshot, or the exception that ended it."""
    return {dreaming.prompt.text: outcome for dreaming, outcome in pairs}


def test_together_each_dream_ends_as_it_would_alone():
    models = Models.load(Settings(model="emoji", precision="fp32"))
    dreams = [
        short(models, prompt, seed=i, steps=2 + i, cutouts=2)
        for i, prompt in enumerate(["a red heart", "a banana", "an owl"])
    ]
    alone = {dreaming.prompt.text: list(dreaming)[-1] for dreaming in dreams}
    for parallel in (2, 5):
        for prompt, snapshot in ends(together(dreams, parallel)).items():
            assert (snapshot.step, snapshot.seed) == (alone[prompt].step, alone[prompt].seed)
            assert snapshot.score == pytest.approx(alone[prompt].score, abs=2e-3)
            assert (snapshot.image - alone[prompt].image).abs().mean() < 5e-3


def test_dreams_begin_as_others_end(models):
    drawn = []

    def dreams():
        for steps in (1, 4, 1, 1):
            drawn.append(steps)
            yield short(models, f"a cat {len(drawn)}", steps=steps, save_every=100)

    order = []
    for dreaming, _ in together(dreams(), parallel=2):
        order.append((dreaming.prompt.text, len(drawn)))
    assert order == [("a cat 1", 2), ("a cat 3", 3), ("a cat 4", 4), ("a cat 2", 4)]


def test_a_dream_that_diverges_ends_alone(models):
    good, bad = short(models, "a cat"), short(models, "a dog", auditions=1, init="random")
    goal = bad.goal()
    bad.goal = lambda: Goal(goal.features, goal.weights * torch.inf)
    ended = ends(together([bad, good], parallel=2))
    assert isinstance(ended["a dog"], BigsleepError) and "diverged" in str(ended["a dog"])
    assert ended["a cat"].step == 6


def test_the_best_of_several_seeds_is_one_of_their_dreams_and_not_the_worst(models):
    plain = dict(steps=12, auditions=1, init="random", cutouts=4)
    several = short(models, "a purple flower", best_of=4, seed=10, **plain)
    steps = [snapshot.step for snapshot in several]
    assert steps == [2, 8, 10, 12]  # where half of the seeds is dropped, and as always from then on
    finals = [list(short(models, "a purple flower", seed=10 + i, save_every=12, **plain))[-1].score for i in range(4)]
    assert several.best.seed in range(10, 14) and several.best.score > sorted(finals)[1]
    recorded = several.picture(several.best).recipe["settings"]
    assert recorded["seed"] == several.best.seed and recorded["best_of"] == 1


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_the_best_of_many_costs_about_two_dreams(models, count):
    made = []

    class Counting(Optimizer):
        """What the steps find is of no matter here."""

        def step(self, searches, shares):
            made.extend(searches)
            return [0.0] * len(searches)

    counted = replace(models)
    counted.__dict__["optimizer"] = Counting(models.generator, models.perceptor)
    list(short(counted, "a cat", best_of=count, steps=40, auditions=1, cutouts=1, save_every=1000))
    assert 40 <= len(made) <= 40 * (1 if count == 1 else 2.6)


def test_stopping_the_best_of_several_yields_the_best_so_far(models):
    dreaming = short(models, best_of=3, steps=1000, on_step=lambda progress: dreaming.stop())
    assert [snapshot.step for snapshot in dreaming] == [2]


def test_ways_of_resampling_reach_the_cutouts(models):
    ways, large = ("nearest", "bilinear", "antialiased"), dict(cutout_min=1.5, cutout_max=2.0, steps=2)
    endings = [list(short(models, resample=way, **large))[-1].image for way in ways]
    assert not any(torch.equal(*pair) for pair in itertools.combinations(endings, 2))


def course(rise, noise, count=30, until=1.0):
    """Scores of a dream that rise by so much on the whole way, up to a share of it, under noise."""
    random = torch.Generator().manual_seed(0)
    shares = [i / 29 for i in range(count)]
    return [(share, rise * min(share, until) + noise * float(torch.randn((), generator=random))) for share in shares]


def test_a_plateau_is_a_fifth_of_the_dream_without_more_of_a_rise_than_noise():
    assert settled(course(0, 0.01)) and settled(course(1.0, 0.01, until=0.6))
    assert not settled(course(1.0, 0.01)) and not settled(course(1.0, 0.01, count=20, until=0.6))
    assert not settled(course(0, 0.01, count=5)), "too few to tell"


def test_a_dream_may_end_at_a_plateau_and_says_so(models, monkeypatch):
    noise = torch.Generator().manual_seed(0)
    monkeypatch.setattr(Optimizer, "score", lambda *_: 0.5 + 0.01 * float(torch.rand((), generator=noise)))
    notes: list[str] = []
    options = dict(layers="1", init="random", auditions=1, cutouts=1, steps=30, save_every=1)
    whole, ended = (list(short(models, **options, until=until, note=notes.append)) for until in ("end", "plateau"))
    assert whole[-1].step == 30 and len(ended) < 25
    assert ended[-1].last and ended[-1].share == 1 and not any(snapshot.last for snapshot in ended[:-1])
    assert f"done after {len(ended)} steps" in notes[-1]
