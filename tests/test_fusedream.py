"""FuseDream's pieces beside its own code, whose numbers ``python -m benchmarks.beside_fusedream`` recorded; and its preset."""

import json
from pathlib import Path

import pytest
import torch

from benchmarks.beside_big_sleep import CONFIG, PROMPT, small_clip
from benchmarks.beside_fusedream import (
    AUDITIONS,
    BASIS,
    SIZE,
    STEPS,
    VIEWS,
    drawn,
    picture,
    slope,
    told,
    views_of,
)
from benchmarks.random_models import random_biggan
from bigsleep import BigsleepError, Dream, Models, Settings, optimizer, search
from bigsleep.cutouts import cut, whole
from bigsleep.goal import Goal
from bigsleep.latents import Basis, Latents, class_shares, mixed
from bigsleep.layers import Layers
from bigsleep.models.catalogue import generator_row
from bigsleep.models.generator import Generator
from bigsleep.models.perceptor import Perceptor
from bigsleep.optimizer import Optimizer
from bigsleep.origin import again, beginning, onward
from tests.test_origin import broken_off, dreamt, followed

SMALL = dict(preset="fusedream", auditions=8, cutouts=3)


@pytest.fixture(scope="module")
def theirs():
    return json.loads((Path(__file__).parent / "fusedream.json").read_text())


@pytest.mark.parametrize("step", [1, 6])
def test_augclips_views_and_their_gradient_are_fusedreams(theirs, step):
    image, views = picture().requires_grad_(), views_of(step, VIEWS)
    seen = cut(image, views, SIZE)
    (gradient,) = torch.autograd.grad((seen * slope()).sum(), image)
    assert told(seen) == pytest.approx(theirs[f"views {step}"], abs=1e-5)
    assert told(gradient) == pytest.approx(theirs[f"gradient {step}"], abs=1e-5)
    assert (seen - seen.mean(0)).std() > 0.1, "all alike, they would prove nothing"


@pytest.fixture(scope="module")
def loop():
    return Optimizer(Generator(CONFIG, random_biggan(CONFIG).state_dict()), Perceptor(small_clip().state_dict(), "s"))


def preferred(**options):
    preset = generator_row("biggan-deep-512").preferred("cuda", "fusedream")
    return Settings(seed=0, **{"auditions": AUDITIONS, **options}).filled(preset)


def test_the_basis_and_the_steps_from_there_are_fusedreams(theirs, loop, monkeypatch):
    monkeypatch.setattr(optimizer, "SIMILARITY_WEIGHT", 1.0)  # which Adam does not feel but for what it adds to a root
    settings = preferred(schedule="constant")  # as their code has it
    goal = Goal(loop.perceptor.encode_text([PROMPT]), torch.ones(1))
    basis = loop.start.alone(goal, settings, whole(), torch.Generator().manual_seed(5))
    for part, name in ((basis.noise, "noise"), (basis.logits, "embedded")):
        assert told(part[:BASIS]) == pytest.approx(theirs[f"basis {name}"], abs=1e-5), name
    assert basis.noise[:BASIS].abs().max() == 2 < drawn()[0].abs().max(), "clamped"
    one = search.Search(goal, settings, torch.Generator())
    one.begin(Layers([loop.start.whole(basis)]))
    losses = []
    for step in range(STEPS):
        before = [mixed(part.detach().clone()) for part in (basis.noise, basis.logits)]
        monkeypatch.setattr(search, "draw_augclip", lambda count, _, step=step: views_of(step, count))
        losses += loop.step([one], [step / STEPS])
    assert max(losses) - min(losses) > 0.01, "steps without an effect would prove nothing"
    assert losses == pytest.approx(theirs["losses"], abs=1e-5)
    for part, name in zip(before, ("noise", "embedded"), strict=True):
        assert told(part) == pytest.approx(theirs[name], abs=1e-5), name


def test_a_basis_around_a_picture_is_that_picture(loop):
    rows = Latents(torch.randn(1, 128).expand(loop.generator.stages, -1), torch.rand(1, 1000), "softmax")
    noise, shares = (part.detach()[:1] for part in rows.forward())
    begun = Basis.around(rows, 3, loop.generator.embeddings).plain()
    torch.testing.assert_close(begun.noise, noise.expand(loop.generator.stages, -1))
    embedded, expected = (part @ loop.generator.embeddings.T for part in (begun.logits[:1], shares))
    torch.testing.assert_close(embedded, expected, atol=1e-5, rtol=1e-5)


@pytest.fixture(scope="module")
def models():
    return Models.load(Settings(model="emoji", precision="fp32", device="cpu"))


@pytest.fixture(scope="module")
def heart(models):
    return dreamt(models, **SMALL)


def test_the_preset_is_the_papers_and_each_option_goes_before_it(heart):
    settings = heart.recipe["settings"]
    assert (settings["views"], settings["latents"], settings["init"], settings["lr"]) == (
        "augclip",
        "basis",
        "classes",
        5e-3,
    )
    assert settings["cutouts"] == 3
    paper = generator_row("biggan-deep-512").preferred("cuda", "fusedream")
    assert (paper["steps"], paper["cutouts"], paper["auditions"]) == (1000, 50, 10_000)


def test_its_pictures_are_made_again_and_gone_on_with_as_others_are(models, heart):
    assert followed(models, again(heart, "heart.png"))[0] == heart.png()
    assert followed(models, onward(broken_off(models, 2, **SMALL), "a.png"))[0] == heart.png()
    dreaming = Dream(
        "a blue heart", models=models, **SMALL, model="emoji", steps=1, origin=beginning(heart, "a.png")[1]
    )
    (shot,) = dreaming
    assert shot.score > 0.1


def test_a_picture_of_other_classes_is_gone_on_with_in_those(models, heart):
    other = dreamt(models, layers="1", steps=2)
    dreaming = Dream("a heart", models=models, **SMALL, model="emoji", steps=1, start=other)
    (shot,) = dreaming
    assert dreaming.settings.classes == "softmax"
    assert class_shares(shot.latents["layer0.logits"], "softmax").max() <= 1


def test_an_image_is_looked_for_in_likely_classes_first(models, monkeypatch, heart):
    from bigsleep import find

    monkeypatch.setattr(find, "AUDITIONS", 4)
    monkeypatch.setattr(find, "STEPS", 2)
    monkeypatch.setattr(find, "TRIAL", 1)
    bare = type(heart)(heart.image)
    (shot,) = Dream("a heart", models=models, **SMALL, model="emoji", steps=0, start=bare)
    shares = shot.latents["layer0.logits"]
    embedded = shares @ models.generator.embeddings.T
    assert embedded.norm(dim=1).max() < 2 * models.generator.embeddings.norm(dim=0).max()


def test_a_basis_of_likely_classes_is_refused(models):
    with pytest.raises(BigsleepError, match=r"--latents basis .* give --classes linear"):
        list(Dream("a heart", models=models, model="emoji", latents="basis", layers="1", steps=1, seed=1))


def test_auditions_of_single_classes_see_one_class_each(loop):
    for classes in ("sigmoid", "softmax", "linear"):
        settings = preferred(classes=classes, auditions=6, latents="rows")
        _, logits = loop.start.random_latents(6, settings, torch.Generator().manual_seed(0))
        shares = class_shares(logits, classes)
        assert (shares.max(-1).values > 0.85).all() and (shares.median(-1).values < 0.03).all()
        assert len(set(shares[:, 0].argmax(1).tolist())) > 1
