"""Steps that lead to where a loss is no number: undone, tried with half the size, counted, and given up after a few."""

import pytest
import torch

from bigsleep import BigsleepError, Dream, Models, Settings
from bigsleep.course import together
from bigsleep.history import MOST_UNDONE
from bigsleep.origin import again, onward
from tests.test_optimizer import Alone
from tests.test_origin import broken_off, followed, reread

# Noise that only a penalty of next to nothing keeps short, and steps by which it is soon long.
QUICK = {"image_size": 128, "layers": "1", "truncation": 1.0, "noise_weight": 1e-6, "lr": 0.6, "cutouts": 4, "auditions": 1, "init": "random", "ema": 0.0}  # fmt: skip


@pytest.fixture(scope="module")
def models():
    return Models.load(Settings(model="emoji", precision="fp32", device="cpu"))


@pytest.fixture
def cliff(models, monkeypatch):
    """Pictures are NaN where their noise is wilder than ``cliff`` says; ``cliff.falls`` counts them."""

    class Cliff:
        height, falls, forward = 1.5, 0, models.generator.forward

        def __call__(self, noise, *others):
            over = noise.detach().square().mean((-1, -2)).sqrt() > self.height
            self.falls += int(over.sum())
            images = self.forward(noise, *others)
            return images + torch.where(over, torch.nan, 0.0)[:, None, None, None]

    cliff = Cliff()
    monkeypatch.setattr(models.generator, "forward", cliff)
    return cliff


def copied(search):
    return {name: tensor.detach().clone() for name, tensor in search.state().items() if name != "random"}


def test_a_step_over_a_cliff_is_undone_with_all_that_it_changed_and_tried_again_with_half_its_size(models, cliff):
    alone, states, chances = Alone(models, **QUICK), [], []
    losses = []
    while not cliff.falls and len(losses) < 20:
        states.append(copied(alone.search))
        losses.append(alone.step(0.0))
        chances.append(alone.search.random.get_state())
    assert len(losses) > 2 and torch.tensor(losses[:-1]).isfinite().all() and not torch.tensor(losses[-1]).isfinite()
    # The step before the last led there.
    for name, tensor in copied(alone.search).items():
        assert tensor.equal(states[-2][name]), name
    assert alone.search.history.undone == 1 and not chances[-1].equal(chances[-2])
    before = states[-2]["layer0.noise"]
    assert torch.tensor(alone.step(0.0)).isfinite()
    half, whole = ((now - before).norm() for now in (copied(alone.search)["layer0.noise"], states[-1]["layer0.noise"]))
    assert float(half / whole) == pytest.approx(0.5, abs=0.15)  # its gradient is that of other cutouts


def dreaming(models, words="a red heart", **options):
    return Dream(words, models=models, model="emoji", **{"seed": 1, "steps": 8, "save_every": 3, **QUICK, **options})


def test_a_picture_says_how_many_steps_were_undone_and_is_made_again_and_gone_on_with_to_the_byte(models, cliff):
    dream = dreaming(models)
    shots = list(dream)
    undone = shots[-1].undone
    assert cliff.falls >= undone > 0 and dream.best.step > 3 and all(shot.image.isfinite().all() for shot in shots)
    picture = reread(dream.picture(shots[-1]))
    assert picture.recipe["undone"] == undone
    assert followed(models, again(picture, "a.png"))[0] == dream.picture(shots[-1]).png()

    first = next(shot.step for shot in shots if shot.undone)
    half = broken_off(models, first, **{"steps": 8, "save_every": 3, **QUICK})
    assert half.recipe["going"]["undone"][0] > 0
    assert followed(models, onward(half, "a.png"))[0] == dream.picture(dream.best).png()


def test_a_neighbour_in_the_batch_notices_nothing(models, cliff):
    def last_of_the_other():
        pair = dreaming(models, steps=5), dreaming(models, "a dog", seed=2, lr=0.001, steps=5)
        return [shot for dream, shot in together(pair, parallel=2) if dream is pair[1]][-1]

    beside = last_of_the_other()
    assert cliff.falls and not beside.undone
    cliff.height = torch.inf
    assert last_of_the_other().image.equal(beside.image)


def test_where_every_step_leads_over_it_the_dream_ends_with_the_best_before(models, cliff):
    notes = []
    dream = dreaming(models, steps=100, lr=0.001, note=notes.append)
    shots = []
    for shot in dream:
        shots.append(shot)
        cliff.height = 0.0
    last = shots[-1]
    assert last.last and last.share == 1 and last.step == 3 and last.image.equal(shots[0].image)
    assert notes[-1].endswith(f"ended with the best before them after {3 + MOST_UNDONE} steps")
    assert "going" not in dream.picture(last).recipe


def test_of_several_seeds_only_the_one_that_falls_is_dropped(models, monkeypatch):
    forward = models.generator.forward

    def without_the_first(noise, *others):
        images = forward(noise, *others)
        return torch.cat([images[:1] * torch.nan, images[1:]]) if len(noise) == 2 else images

    monkeypatch.setattr(models.generator, "forward", without_the_first)
    shots = list(dreaming(models, best_of=2, steps=10, save_every=10))
    assert [(shot.seed, shot.step, shot.undone) for shot in shots] == [(2, 10, 0)]


def test_a_dream_that_never_had_a_number_says_so(models, cliff):
    cliff.height = 0.0
    with pytest.raises(BigsleepError, match="diverged by step 5"):
        list(dreaming(models, save_every=50, steps=50))
