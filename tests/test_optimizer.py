"""The loop on the built-in pair."""

from dataclasses import replace

import pytest
import torch

import bigsleep.optimizer as optimizer_module
from bigsleep import Models, Settings
from bigsleep.dreamer import complete_settings
from bigsleep.models.catalogue import BIG_SLEEP
from bigsleep.optimizer import Goal, Optimizer


@pytest.fixture(scope="module")
def models():
    return Models.load(Settings(model="emoji", precision="fp32", device="cpu"))


def optimizer(models, text="a red heart", seed=1, **options):
    settings = complete_settings(Settings(model="emoji", seed=seed, auditions=4, **options), models)
    goal = Goal(models.perceptor.encode_text([text]), torch.ones(1))
    return Optimizer(models.generator, models.perceptor, goal, settings, torch.Generator().manual_seed(seed))


def test_steps_raise_the_score(models):
    searching = optimizer(models, "a purple flower", init="random", stages="free")
    before = searching.score(searching.render())
    for step in range(15):
        searching.step(step / 15)
    assert searching.score(searching.render()) > before + 0.02


def test_the_chunk_size_changes_memory_and_not_the_gradient(models, monkeypatch):
    gradients = []
    for chunk in (2, 3, 64):
        monkeypatch.setitem(optimizer_module.CHUNK, "cpu", chunk)
        searching = optimizer(models, cutouts=8, augment=0.0)
        image = searching.render()[None].detach()
        gradients.append(searching.likeness_gradient(image)[1])
    torch.testing.assert_close(gradients[0], gradients[2], atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(gradients[1], gradients[2], atol=1e-6, rtol=1e-4)


def test_out_of_memory_halves_the_chunk_and_goes_on(models, monkeypatch):
    searching, plain = (optimizer(models, cutouts=8, augment=0.0) for _ in range(2))
    encode, seen = searching.fast_perceptor.encode_images, []

    def small_device(pixels):
        seen.append(len(pixels))
        if len(pixels) > 3:
            raise torch.OutOfMemoryError("device full")
        return encode(pixels)

    image = searching.render()[None].detach()
    expected = plain.likeness_gradient(image.clone())[1]
    monkeypatch.setattr(searching.fast_perceptor, "encode_images", small_device)
    gradient = searching.likeness_gradient(image)[1]
    assert seen == [8, 8, 8, 4, 2, 2, 2, 2]  # chunks of 32, 16 and 8 hold all eight cutouts
    torch.testing.assert_close(gradient, expected, atol=1e-6, rtol=1e-4)


def test_the_gradient_is_that_of_the_mean_likeness(models):
    searching = optimizer(models, cutouts=4, augment=0.0)
    image = searching.render()[None].detach()
    state = searching.random.get_state()
    _, gradient = searching.likeness_gradient(image)
    uphill = gradient / gradient.norm()
    values = []
    for move in (-0.02, 0.02):
        searching.random.set_state(state)
        values.append(searching.likeness_gradient((image + move * uphill).detach())[0])
    assert (values[1] - values[0]) / 0.04 == pytest.approx(float(gradient.norm()), rel=0.05)


def test_a_start_by_words_is_near_the_words(models):
    # One plain start each, so that it is the words that tell.
    plain = Settings(model="emoji", auditions=1, seed=1)
    scores = {"words": 0.0, "random": 0.0}
    for prompt in ("a banana", "a rocket", "a red heart"):
        goal = Goal(models.perceptor.encode_text([prompt]), torch.ones(1))
        for init in scores:
            settings = complete_settings(replace(plain, init=init), models)
            searching = Optimizer(models.generator, models.perceptor, goal, settings, torch.Generator().manual_seed(1))
            scores[init] += searching.score(searching.render()) / 3
    assert scores["words"] > scores["random"] + 0.1


@pytest.mark.parametrize("stages", ["free", "released", "shared"])
def test_stages_are_free_released_or_shared(models, stages):
    searching = optimizer(models, stages=stages, release=0.5)
    rows = []
    for share in (0.0, 0.4, 0.6):
        searching.step(share)
        rows.append(bool((searching.latents.noise == searching.latents.noise[0]).all()))
    assert rows == {"free": [False] * 3, "released": [True, True, False], "shared": [True] * 3}[stages]


def test_the_cosine_schedule_ends_at_rest_and_the_constant_one_does_not(models):
    assert optimizer(models, schedule="cosine").rate_at(1.0) == pytest.approx(0)
    assert optimizer(models, schedule="constant").rate_at(1.0) == 1


def test_big_sleeps_recipe_runs_on_any_generator(models):
    searching = optimizer(models, **{k: v for k, v in BIG_SLEEP.items() if k != "auditions"}, cutouts=4)
    assert abs(searching.latents.logits.mean().item() + 3.9) < 0.01
    loss = searching.step(0.0)
    assert loss == loss and abs(loss) < 1e4


def test_avoiding_pushes_away(models):
    features = models.perceptor.encode_text(["a heart", "red"])
    settings = complete_settings(Settings(model="emoji", seed=3, auditions=1), models)
    likeness = {}
    for weight in (-1.0, 1.0):
        goal = Goal(features, torch.tensor([1.0, weight]))
        searching = Optimizer(models.generator, models.perceptor, goal, settings, torch.Generator().manual_seed(3))
        for step in range(12):
            searching.step(step / 12)
        crops = torch.nn.functional.interpolate(searching.render()[None], size=(64, 64))
        likeness[weight] = float(models.perceptor.encode_images(crops) @ features[1])
    assert likeness[-1.0] < likeness[1.0]
