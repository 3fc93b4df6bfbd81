"""The loop on the built-in pair."""

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis.strategies import integers

from bigsleep import BigsleepError, Models, Settings, memory
from bigsleep.goal import Goal
from bigsleep.loading import complete_settings
from bigsleep.models.catalogue import BIG_SLEEP
from bigsleep.optimizer import Optimizer


@pytest.fixture(scope="module")
def models():
    return Models.load(Settings(model="emoji", precision="fp32", device="cpu"))


class Alone:
    """One search with its optimizer, stepped by itself."""

    def __init__(self, models, text="a red heart", seed=1, goal=None, **options):
        settings = complete_settings(Settings(**{"model": "emoji", "seed": seed, "auditions": 4, **options}), models)
        goal = goal or Goal(models.perceptor.encode_text([text]), torch.ones(1))
        self.optimizer = Optimizer(models.generator, models.perceptor)
        self.search = self.optimizer.search(goal, settings, torch.Generator().manual_seed(seed))

    def step(self, share):
        return self.optimizer.step([self.search], [share])[0]

    def render(self):
        return self.optimizer.render(self.search)

    def score(self):
        return self.optimizer.score(self.search, self.render())

    def gradient(self, image):
        likeness, gradient = self.optimizer.likeness_gradient([self.search], image)
        return float(likeness), gradient


def test_steps_raise_the_score(models):
    alone = Alone(models, "a purple flower", init="random", stages="free")
    before = alone.score()
    for step in range(15):
        alone.step(step / 15)
    assert alone.score() > before + 0.02


def test_the_chunk_size_changes_memory_and_not_the_gradient(models, monkeypatch):
    gradients = []
    for chunk in (2, 3, 64):
        monkeypatch.setitem(memory.CHUNK, "cpu", chunk)
        alone = Alone(models, cutouts=8, augment=0.0)
        image = alone.render()[None].detach()
        gradients.append(alone.gradient(image)[1])
    torch.testing.assert_close(gradients[0], gradients[2], atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(gradients[1], gradients[2], atol=1e-6, rtol=1e-4)


def test_out_of_memory_halves_the_chunk_and_goes_on(models, monkeypatch):
    alone, plain = (Alone(models, cutouts=8, augment=1.0) for _ in range(2))
    encode, seen = models.perceptor.encode_images, []

    def small_device(pixels):
        seen.append(len(pixels))
        if len(pixels) > 3:
            raise torch.OutOfMemoryError("device full")
        return encode(pixels)

    image = alone.render()[None].detach()
    expected = plain.gradient(image.clone())[1]
    monkeypatch.setattr(models.perceptor, "encode_images", small_device)
    gradient = alone.gradient(image)[1]
    assert seen == [8, 4, 2, 2, 2, 2]
    torch.testing.assert_close(gradient, expected, atol=1e-6, rtol=1e-4)


def test_the_chunk_fits_in_half_of_the_memory_that_is_free(models, monkeypatch):
    cpu = torch.device("cpu")
    each = memory.cutout_bytes(models.perceptor, cpu)
    assert 1e5 < each < 1e8, "what the small tower keeps of a 64 px image"
    for free, chunk in ((1e15, memory.CHUNK["cpu"]), (10.5 * each, 5), (0, 1)):
        monkeypatch.setattr(memory, "free_memory", lambda _, free=free: int(free))
        assert memory.affordable_chunk(models.perceptor, cpu) == chunk


def companions(models, count):
    """Searches that differ in prompt, seed, cutouts, penalties and length."""
    prompts = ["a red heart", "a banana", "an owl", "a rocket"]
    return [
        Alone(
            models,
            prompts[i % 4],
            seed=i,
            auditions=1,
            cutouts=3 + i,
            classes=["softmax", "sigmoid"][i % 2],
            lr=0.05 + 0.01 * i,
            noise_weight=1.0,  # without it a sigmoid's noise has no gradient but rounding
        )
        for i in range(count)
    ]


@settings(max_examples=4, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(chunk=integers(1, 40), batch=integers(1, 5), count=integers(1, 4))
def test_in_company_each_search_goes_as_it_would_alone(models, chunk, batch, count):
    company, alone = companions(models, count), companions(models, count)
    optimizer = Optimizer(models.generator, models.perceptor)
    optimizer.chunk, optimizer.batch = chunk, batch
    # A batch of another size rounds otherwise, and Adam's first steps are as long for a gradient that is all rounding.
    for step, tolerance in [(0, 1e-4), (1, 1e-2)]:
        shares = [step / (5 + i) for i in range(count)]
        losses = optimizer.step([one.search for one in company], shares)
        expected = [one.step(share) for one, share in zip(alone, shares, strict=True)]
        assert losses == pytest.approx(expected, rel=tolerance)
    for one, other, start in zip(company, alone, companions(models, count), strict=True):
        moved = [
            (each.search.layers.rows[0].latents.noise - start.search.layers.rows[0].latents.noise).flatten()
            for each in (one, other)
        ]
        assert torch.cosine_similarity(*moved, dim=0) > 0.99
        assert one.score() == pytest.approx(other.score(), abs=5e-3)


def test_out_of_memory_halves_the_batch_and_every_search_goes_on(models, monkeypatch):
    company, alone = companions(models, 4), companions(models, 4)
    optimizer = Optimizer(models.generator, models.perceptor)
    forward, seen = models.generator.forward, []

    def small_device(noise, classes):
        seen.append(len(noise))
        if len(noise) > 1:
            raise torch.OutOfMemoryError("device full")
        return forward(noise, classes)

    with monkeypatch.context() as patch:
        patch.setattr(models.generator, "forward", small_device)
        losses = optimizer.step([one.search for one in company], [0.0] * 4)
    assert seen == [4, 2, 1, 1, 1, 1]
    assert losses == pytest.approx([one.step(0.0) for one in alone], rel=1e-4)


def test_out_of_memory_late_in_a_step_leaves_no_trace(models, monkeypatch):
    company, alone = companions(models, 2), companions(models, 2)
    optimizer = Optimizer(models.generator, models.perceptor)
    backward, calls = torch.autograd.backward, []

    def breaks_off(*arguments, **options):
        backward(*arguments, **options)
        calls.append(arguments)
        if len(calls) == 1:
            raise torch.OutOfMemoryError("device full")

    with monkeypatch.context() as patch:
        patch.setattr(torch.autograd, "backward", breaks_off)
        optimizer.step([one.search for one in company], [0.0] * 2)
    assert len(calls) == 3
    for one, other in zip(company, alone, strict=True):
        other.step(0.0)
        torch.testing.assert_close(
            one.search.layers.rows[0].latents.noise, other.search.layers.rows[0].latents.noise, atol=1e-3, rtol=1e-3
        )
        torch.testing.assert_close(
            one.search.layers.rows[0].latents.logits, other.search.layers.rows[0].latents.logits, atol=1e-3, rtol=1e-3
        )


@pytest.mark.slow
def test_compiled_the_steps_are_the_same(models):
    plain = Alone(models, seed=1)
    compiled = Alone(models, seed=1)
    compiled.optimizer = Optimizer(models.generator, models.perceptor, compile=True)
    losses = [[one.step(share) for share in (0.0, 0.1)] for one in (plain, compiled)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


def test_the_gradient_is_that_of_the_mean_likeness(models):
    alone = Alone(models, cutouts=4, augment=0.0)
    image = alone.render()[None].detach()
    state = alone.search.random.get_state()
    _, gradient = alone.gradient(image)
    uphill = gradient / gradient.norm()
    values = []
    for move in (-0.02, 0.02):
        alone.search.random.set_state(state)
        values.append(alone.gradient((image + move * uphill).detach())[0])
    assert (values[1] - values[0]) / 0.04 == pytest.approx(float(gradient.norm()), rel=0.05)


def test_a_start_by_words_is_near_the_words(models):
    scores = {"words": 0.0, "random": 0.0}
    for prompt in ("a banana", "a rocket", "a red heart"):
        for init in scores:  # one plain start each, so that it is the words that tell
            scores[init] += Alone(models, prompt, init=init, auditions=1).score() / 3
    assert scores["words"] > scores["random"] + 0.1


@pytest.mark.parametrize("stages", ["free", "released", "shared"])
def test_stages_are_free_released_or_shared(models, stages):
    alone = Alone(models, stages=stages, release=0.5)
    rows = []
    for share in (0.0, 0.4, 0.6):
        alone.step(share)
        rows.append(
            bool((alone.search.layers.rows[0].latents.noise == alone.search.layers.rows[0].latents.noise[0]).all())
        )
    assert rows == {"free": [False] * 3, "released": [True, True, False], "shared": [True] * 3}[stages]


def test_the_cosine_schedule_ends_at_rest_and_the_constant_one_does_not(models):
    assert Alone(models, schedule="cosine").search.rate_at(1.0) == pytest.approx(0)
    assert Alone(models, schedule="constant").search.rate_at(1.0) == 1


def test_big_sleeps_recipe_runs_on_any_generator(models):
    alone = Alone(models, **{k: v for k, v in BIG_SLEEP.items() if k != "auditions"}, cutouts=4)
    assert abs(alone.search.layers.rows[0].latents.logits.mean().item() + 3.9) < 0.01
    loss = alone.step(0.0)
    assert loss == loss and abs(loss) < 1e4


def test_truncated_noise_begins_and_stays_within_two_deviations(models):
    far = dict(lr=1.0, noise_weight=1.0)  # without the penalty rows are held shorter still
    alone = Alone(models, seed=1, layers="1", init="random", auditions=1, truncation=0.3, **far)
    noise = alone.search.layers.rows[0].latents.noise
    assert 0.4 < noise.abs().max() <= 0.6
    alone.step(0.0)
    assert (noise.abs().max() - 0.6).abs() < 1e-6, "a step as long as that ends at the bound"


def test_a_search_pulls_its_noise_to_what_its_truncation_draws(models):
    search = Alone(models, layers="1", init="random", auditions=1, truncation=0.3, noise_weight=1.0).search
    noise, shares = search.layers.latents()
    shorter, drawn, longer = (search.penalty(factor * noise, shares).item() for factor in (1 / 1.5, 1, 1.5))
    assert drawn < shorter and drawn < longer


def test_a_short_search_shows_where_it_is_and_not_where_it_was(models):
    behind = []
    for ema in (0.0, 0.9999):
        alone = Alone(models, layers="1", init="random", auditions=1, cutouts=1, ema=ema)
        begun = alone.search.shown()["layer0.noise"].clone()
        for step in range(4):
            alone.step(step / 4)
        shown, now = alone.search.shown()["layer0.noise"], alone.search.layers.rows[0].latents.noise.detach()
        behind.append(float((now - shown).norm() / (now - begun).norm()))
    assert behind[0] == 0 < behind[1] < 0.1, "the mean of all steps is a third of the way behind"


def test_the_higher_its_class_temperature_the_more_evenly_a_search_mixes_classes(models):
    most = []
    for temperature in (0.1, 2.0, 50.0):
        alone = Alone(models, init="random", auditions=1, max_classes=3, class_temperature=temperature)
        most.append(alone.search.layers.latents()[1].max().item())
    assert most[0] > 1.5 * most[1] > 1.5 * most[2]


def test_with_centre_bias_a_search_looks_near_the_middle(models):
    half = dict(auditions=1, cutouts=1000, cutout_min=0.5, cutout_max=0.5)
    near, anywhere = (Alone(models, **half, center_bias=bias).search.views()[0].cutouts for bias in (True, False))
    assert near.theta[:, :, 2].std() < 0.9 * anywhere.theta[:, :, 2].std()


def test_avoiding_pushes_away(models):
    features = models.perceptor.encode_text(["a heart", "red"])
    likeness = {}
    for weight in (-1.0, 1.0):
        alone = Alone(models, seed=3, auditions=1, goal=Goal(features, torch.tensor([1.0, weight])))
        for step in range(12):
            alone.step(step / 12)
        crops = torch.nn.functional.interpolate(alone.render()[None], size=(64, 64))
        likeness[weight] = float(models.perceptor.encode_images(crops) @ features[1])
    assert likeness[-1.0] < likeness[1.0]


def test_a_search_goes_on_from_its_state_to_the_bit(models):
    first, second = Alone(models, stages="released", cutouts=3), Alone(models, stages="released", cutouts=3, seed=9)
    for step in range(3):
        first.step(step / 6)
    state = {name: tensor.detach().clone() for name, tensor in first.search.state().items()}
    second.search.restore(state)
    for step in range(3, 6):
        assert first.step(step / 6) == second.step(step / 6)
    for name, tensor in first.search.state().items():
        assert second.search.state()[name].equal(tensor), name
    assert first.render().equal(second.render())


def test_a_search_begins_with_the_picture_that_another_showed(models):
    first = Alone(models, cutouts=3)
    first.step(0.5)
    start = first.search.shown()
    goal, settings = first.search.goal, first.search.settings
    other = first.optimizer.search(goal, settings, torch.Generator().manual_seed(3), start=start)
    assert first.optimizer.render(other).equal(first.render())


def test_a_state_of_another_generator_is_no_start(models):
    alone = Alone(models, cutouts=3)
    with pytest.raises(BigsleepError, match="does not fit"):
        alone.optimizer.search(
            alone.search.goal,
            alone.search.settings,
            torch.Generator(),
            start={"layer0.noise": torch.zeros(2, 128)},
        )
