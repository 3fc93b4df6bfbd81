"""How dreams of the built-in pair begin: which class plays what, and which way of setting it up is taken."""

import pytest
import torch

from bigsleep import Dream, Models, Settings
from bigsleep.optimizer import pictures


@pytest.fixture(scope="module")
def models():
    return Models.load(Settings(model="emoji", precision="fp32", device="cpu"))


def begun(models, prompt, **options):
    """The search of a dream that has not made a step."""
    dreaming = Dream(prompt, models=models, model="emoji", **{"seed": 1, "auditions": 1, **options})
    random = torch.Generator().manual_seed(dreaming.settings.seed)
    return models.optimizer.search(dreaming.goal(), dreaming.settings, random, dreaming.plan), dreaming


def classes(models, search):
    names = models.generator.class_names
    found = [names[int(layer.latents.logits[0].argmax())] for layer in search.layers]
    return [found[search.layers.order.index(i)] for i in range(len(found))]


@pytest.mark.parametrize(
    "prompt, expected",
    [
        ("a fish and a guitar", ["fish", "guitar"]),
        ("an owl at night", ["night", "owl"]),
        ("a lion in the desert", ["desert", "lion"]),
        ("a cat wearing a crown", ["cat face", "crown"]),
        ("two hearts", ["red heart", "red heart"]),
        ("a car and a mouse", ["automobile", "mouse"]),
        ("a rocket flying", ["rocket"]),
        ("a cute panda bear", ["panda"]),
        ("a sword and a shield", ["crossed swords", "shield"]),  # by a kind of the thing before what is likeness alone
    ],
)
def test_names_choose_classes(models, prompt, expected):
    search, _ = begun(models, prompt)
    assert classes(models, search) == expected


def test_a_colour_that_the_words_give_is_seen(models):
    search, _ = begun(models, "a yellow elephant")
    layers = search.layers
    with torch.no_grad():
        picture = pictures(models.generator, [layers], [layers.latents()])[0]
    red, green, blue = picture[:, 40:90, 40:90].mean((1, 2)).tolist()
    assert red > 0.5 and green > 0.4 and blue < 0.5 * red


def test_a_white_thing_has_no_tinge_and_stands_on_what_it_is_seen_on(models):
    search, _ = begun(models, "a white tiger")
    layers = search.layers
    with torch.no_grad():
        picture = pictures(models.generator, [layers], [layers.latents()])[0]
    light, paper = picture.amax((1, 2)), torch.tensor(layers.paper)
    assert light.min() > 0.9 and light.max() - light.min() < 0.05
    assert (light - paper).max() > 0.15


def test_a_keyword_may_play_a_thing_that_no_name_names(models):
    plan = Dream("a ufo", models=models, model="emoji", seed=1).plan
    names = [models.generator.class_names[role.place] for role in models.optimizer.start.casting.roles(plan, set())[0]]
    assert "flying saucer" in names[:2]


def test_steps_leave_a_ground_that_things_stand_on_and_tints(models):
    search, _ = begun(models, "a red owl at night", steps=2, cutouts=4)
    before = {name: part.clone() for name, part in search.layers.state().items()}
    for share in (0.0, 0.5):
        models.optimizer.step([search], [share])
    after = search.layers.state()
    assert search.layers.rows[0].ground
    still = [name for name in before if name.startswith("layer0.") or name.endswith(".tint")]
    assert all(after[name].equal(before[name]) for name in still)
    assert not after["layer1.noise"].equal(before["layer1.noise"])


def test_auditions_raise_the_score_of_what_they_judge(models):
    scores = []
    for auditions in (1, 30):
        search, _ = begun(models, "a monkey eating a banana", auditions=auditions, seed=3)
        scores.append(models.optimizer.score(search, models.optimizer.render(search)))
    assert scores[1] >= scores[0] - 0.01


def test_seeds_differ_and_one_seed_does_not(models):
    first, again, other = (begun(models, "a cat and a dog", seed=seed)[0] for seed in (1, 1, 2))
    state, same, different = (search.layers.state() for search in (first, again, other))
    assert all(tensor.equal(same[name]) for name, tensor in state.items())
    assert not state["layer0.noise"].equal(different["layer0.noise"])


def test_steps_move_each_layer_and_keep_it_near_its_class(models):
    search, _ = begun(models, "a fish and a guitar", cutouts=3)
    before = {name: tensor.clone() for name, tensor in search.layers.state().items()}
    for step in range(4):
        models.optimizer.step([search], [step / 4])
    after = search.layers.state()
    for i in range(2):
        assert 0 < (after[f"layer{i}.placement"] - before[f"layer{i}.placement"]).abs().max() < 0.2
        assert not after[f"layer{i}.noise"].equal(before[f"layer{i}.noise"])
    assert classes(models, search) == ["fish", "guitar"]


def test_the_more_steps_a_dream_has_the_shorter_is_each_ones_way_for_things(models):
    ways = []
    for steps in (10, 40, 400):
        search, _ = begun(models, "a fish and a guitar", cutouts=1, steps=steps)
        models.optimizer.step([search], [0.0])
        before = search.layers.state()["layer0.placement"].clone()
        models.optimizer.step([search], [1 / steps])
        ways.append((search.layers.state()["layer0.placement"] - before).abs().max().item())
    assert ways[2] < 0.15 * ways[1] < 0.2 * ways[0], "as far in 400 steps as in 40, however far that is"


def test_noise_that_no_penalty_holds_stays_as_short_as_it_is_drawn(models):
    lengths = {}
    for weight in (0.0, 1e-9):
        search, _ = begun(models, "a castle", init="random", layers="1", cutouts=1, lr=1.0, noise_weight=weight)
        for step in range(2):
            models.optimizer.step([search], [step / 10])
        lengths[weight] = search.layers.rows[0].latents.lengths().max().item()
    assert lengths[0.0] <= 1.2 + 1e-5 < 1.5 < lengths[1e-9]


def test_layers_in_company_go_as_alone(models):
    words = ["a cat wearing a hat", "an owl at night", "a fish"]
    company = [begun(models, prompt, cutouts=3)[0] for prompt in words]
    alone = [begun(models, prompt, cutouts=3)[0] for prompt in words]
    together = models.optimizer.step(company, [0.0] * 3)
    assert together == pytest.approx([models.optimizer.step([one], [0.0])[0] for one in alone], rel=1e-4)


def test_random_starts_have_layers_too(models):
    search, _ = begun(models, "a castle@left | a lake@right", init="random")
    assert len(search.layers) == 2
    left, right = sorted(layer.placement[0].item() for layer in search.layers)
    assert left == pytest.approx(-0.5) and right == pytest.approx(0.5)
