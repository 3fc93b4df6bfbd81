"""Dreams that begin with a picture, or go on from one, through the library."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from bigsleep import BigsleepError, Dream, Models, Picture, Settings, find
from bigsleep.course import together
from bigsleep.dreamer import image_features
from bigsleep.origin import again, beginning, onward
from bigsleep.state import decode, encode

QUICK = {"model": "emoji", "image_size": 128, "cutouts": 4, "steps": 6, "save_every": 2, "auditions": 2, "seed": 1}


@pytest.fixture(scope="module")
def models():
    return Models.load(Settings(model="emoji"))


def dreamt(models, prompt="a red heart", **options):
    dreaming = Dream(prompt, models=models, **{**QUICK, **options})
    for _ in dreaming:
        pass
    return reread(dreaming.picture(dreaming.best))


def reread(picture, folder=None):
    """The picture as a file would give it back."""
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        picture.save(Path(folder) / "a.png")
        return Picture.open(Path(folder) / "a.png")


def followed(models, found):
    settings, origin = found
    dreaming = Dream(origin.recipe["prompt"], settings, models=models, origin=origin)
    steps = [snapshot.step for snapshot in dreaming]
    return dreaming.picture(dreaming.best).png(), steps


def broken_off(models, at, words="a red heart", **options):
    dreaming = Dream(words, models=models, **{**QUICK, **options})
    for snapshot in dreaming:
        if snapshot.step == at:
            return reread(dreaming.picture(snapshot))
    raise AssertionError("it has no such snapshot")


@pytest.fixture(scope="module")
def heart(models):
    return dreamt(models)


def test_a_picture_is_made_again_to_the_byte_by_its_own_step(models, heart):
    png, steps = followed(models, again(heart, "heart.png"))
    assert png == heart.png() and steps == [heart.recipe["step"]]


def test_the_best_of_several_seeds_is_made_again_by_its_seed_alone(models):
    picture = dreamt(models, best_of=4)
    png, steps = followed(models, again(picture, "a.png"))
    assert png == picture.png() and len(steps) == 1


def test_a_dream_with_things_to_avoid_is_made_again(models):
    picture = dreamt(models, "a heart:2|a house", avoid=["red"])
    assert followed(models, again(picture, "a.png"))[0] == picture.png()


@pytest.mark.parametrize("at", [2, 4])
def test_a_dream_broken_off_ends_in_the_bytes_of_the_whole_one(models, heart, at):
    png, steps = followed(models, onward(broken_off(models, at), "a.png"))
    assert png == heart.png() and steps[0] > at


def test_a_dream_whose_best_lies_behind_it_ends_in_the_bytes_of_the_whole_one(models):
    options = {
        "class_lr": 10.0,
        "ema": 0.0,
        "schedule": "constant",
        "steps": 8,
        "save_every": 1,
    }  # so wild that it grows worse
    whole = dreamt(models, **options)
    part = broken_off(models, 7, **options)
    assert part.recipe["going"]["best"]["step"] < 7
    assert followed(models, onward(part, "a.png"))[0] == whole.png()


def test_a_scene_of_several_layers_is_made_again_and_gone_on_with(models):
    words = "a cat on a red box"
    whole = dreamt(models, words)
    assert sum(name.endswith(".noise") for name in whole.latents) == 2
    assert followed(models, again(whole, "a.png"))[0] == whole.png()
    assert followed(models, onward(broken_off(models, 2, words), "a.png"))[0] == whole.png()
    settings, origin = beginning(whole, "a.png")
    dreaming = Dream("a house", settings, models=models, origin=origin)  # with fewer things than it begins with
    for _ in dreaming:
        pass
    assert len(whole.png()) - len(whole.png(bare=True)) < 2 * 8192


def test_a_picture_that_lost_its_state_is_found_again_in_the_generator(models, heart, monkeypatch):
    monkeypatch.setattr(find, "STEPS", 30)
    bare = Picture(heart.image)
    dreaming = Dream("a heart", models=models, start=bare, **{**QUICK, "steps": 0})
    (shot,) = dreaming
    difference = np.abs(np.asarray(dreaming.picture(shot).image, dtype=int) - np.asarray(heart.image, dtype=int))
    assert difference.mean() < 12
    picture = reread(dreaming.picture(shot))
    assert followed(models, again(picture, "a.png"))[0] == picture.png()  # without looking for it again


def test_a_stopped_dream_shows_its_best_and_goes_on_from_its_last_step(models, heart):
    dreaming = Dream("a red heart", models=models, **QUICK)
    for snapshot in dreaming:
        if snapshot.step == 2:
            dreaming.stop()
    picture = reread(dreaming.picture(replace(dreaming.best, share=snapshot.share)))
    assert picture.recipe["going"]["step"] == 3
    # Its third step has a snapshot of its own, which the whole dream lacks: the picture is as good at least.
    settings, origin = onward(picture, "a.png")
    dreaming = Dream("a red heart", settings, models=models, origin=origin)
    for _ in dreaming:
        pass
    assert dreaming.best.score >= heart.recipe["score"] - 1e-6


def test_a_finished_dream_goes_on_from_its_latents(models, heart):
    settings, origin = onward(heart, "heart.png")
    dreaming = Dream("a red heart", replace(settings, steps=0), models=models, origin=origin)
    shots = list(dreaming)
    assert len(shots) == 1 and shots[0].step == 0
    difference = np.asarray(dreaming.picture(shots[0]).image, dtype=int) - np.asarray(heart.image, dtype=int)
    assert np.abs(difference).max() <= 2


def test_other_words_lead_on_from_a_picture_and_that_is_made_again_without_it(models, heart):
    dreaming = Dream("a blue heart", models=models, start=heart, **QUICK)
    for _ in dreaming:
        pass
    picture = reread(dreaming.picture(dreaming.best))
    assert followed(models, again(picture, "a.png"))[0] == picture.png()


def test_a_dream_begins_with_a_pictures_file(models, heart, tmp_path):
    heart.save(tmp_path / "heart.png")
    picture = dreamt(models, start=str(tmp_path / "heart.png"), steps=0)
    assert picture.recipe["settings"]["start"] == "heart.png"  # and not the folders of whoever made it
    difference = np.asarray(picture.image, dtype=int) - np.asarray(heart.image, dtype=int)
    assert np.abs(difference).max() <= 2


def test_an_image_beside_the_words_draws_the_dream_to_it_and_is_not_needed_again(models, heart, tmp_path):
    (tmp_path / "it.png").write_bytes(heart.png(bare=True))
    wanted = image_features(str(tmp_path / "it.png"), models.perceptor)
    plain = dreamt(models, "a tree", steps=10)
    drawn = dreamt(models, "a tree", steps=10, image_prompt=[f"{tmp_path}/it.png:2"])
    (tmp_path / "it.png").unlink()

    def likeness(picture):
        picture.save(tmp_path / "seen.png")
        return float(image_features(str(tmp_path / "seen.png"), models.perceptor) @ wanted)

    assert likeness(drawn) > likeness(plain) + 0.02
    assert drawn.recipe["settings"]["image_prompt"] == ["it.png:2"]
    assert followed(models, again(drawn, "a.png"))[0] == drawn.png()


def test_what_a_finished_picture_carries_is_small(models, heart):
    bare = len(heart.png(bare=True))
    assert len(heart.png()) - bare < 8192 and not any(name.startswith("search") for name in heart.latents)


def with_recipe(picture, **changes):
    return replace(picture, recipe={**picture.recipe, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"format": 2, "versions": {"bigsleep": "9.0"}}, "9.0, which is newer"), ({"prompt": 3}, "no prompt"),
     ({"settings": []}, "no settings"), ({"settings": {"stepz": 1}}, "stepz"), ({"settings": {}}, "not complete"), ({"settings": {"steps": "x"}}, "--steps"),
     ({"step": None}, "no step"), ({"going": 3}, "unfinished dream"), ({"going": {"step": 2}}, "unfinished dream")],
)  # fmt: skip
def test_a_recipe_that_cannot_be_used_gets_one_line(heart, changes, message):
    with pytest.raises(BigsleepError) as caught:
        onward(with_recipe(heart, **changes), "a.png")
    assert message in str(caught.value) and "a.png" in str(caught.value) and caught.value.usage
    assert len(str(caught.value).splitlines()) == 1


def test_a_foreign_picture_says_what_can_still_be_done_with_it():
    with pytest.raises(BigsleepError, match="--start"):
        again(Picture(Image.new("RGB", (8, 8))), "a.png")


def test_latents_of_other_weights_are_refused(models, heart):
    other = with_recipe(heart, weights={"generator": "00000000"})
    with pytest.raises(BigsleepError, match="other weights"):
        followed(models, onward(other, "a.png"))


@pytest.mark.parametrize("name", ["layer0.noise", "layer0.logits"])
@pytest.mark.parametrize("shape", [(1, 7), (20, 128), (1,)])
def test_latents_of_other_shapes_are_refused(models, heart, name, shape):
    state = decode(heart.state) | {name: torch.randn(shape)}
    with pytest.raises(BigsleepError, match="does not fit"):
        followed(models, beginning(replace(heart, state=encode(state, torch.float16)), "a.png"))


def test_the_state_of_a_broken_off_dream_is_checked_before_it_goes_on(models):
    part = broken_off(models, 2)
    state = decode(part.state)
    for name, tensor in (("search.random", torch.zeros(5, dtype=torch.uint8)), ("search.steps", torch.tensor(-1)),
                         ("search.weight", torch.tensor(7.0, dtype=torch.float64)), ("search.mean.layer0.noise", torch.zeros(2))):  # fmt: skip
        with pytest.raises(BigsleepError):
            followed(models, onward(replace(part, state=encode(state | {name: tensor})), "a.png"))


def test_auditions_are_cut_short_by_a_stop_and_what_comes_of_those_heard_is_made_again_and_gone_on_with(models):
    many = {**QUICK, "layers": "1", "init": "random", "auditions": 100}
    told = []

    def hear(progress):
        told.append((progress.step, progress.heard, progress.auditions))
        if progress.heard == 16:
            dreaming.stop()

    dreaming = Dream("a red heart", models=models, on_step=hear, **many)
    (shot,) = dreaming
    assert told == [(0, 8, 100), (0, 16, 100), (1, 0, 0)] and shot.share < 1
    picture = reread(dreaming.picture(shot))
    assert picture.recipe["heard"] == 16

    def seen(found):
        settings, origin = found
        dreaming = Dream("a red heart", settings, models=models, origin=origin)
        for _ in dreaming:
            pass
        return reread(dreaming.picture(dreaming.best))

    assert seen(again(picture, "a.png")).image.tobytes() == picture.image.tobytes()
    whole = seen(onward(picture, "a.png"))
    assert whole.recipe["heard"] == 16 and seen(again(whole, "a.png")).png() == whole.png()


def test_the_recipe_is_json_of_plain_values(heart):
    assert json.loads(json.dumps(heart.recipe)) == heart.recipe


def test_pictures_of_dreams_that_shared_their_steps_are_made_again_to_the_byte(models):
    dreams = [
        Dream(words, models=models, **{**QUICK, "seed": n, "steps": 3})
        for n, words in enumerate(("a cat", "a dog", "a sun", "a tree", "a car"))
    ]
    assert not any(isinstance(outcome, Exception) for _, outcome in together(dreams, parallel=4))
    for dreaming in dreams:
        picture = reread(dreaming.picture(dreaming.best))
        assert picture.recipe.get("company", [[3, 1, 0]])[0][1] in (4, 1)
        assert followed(models, again(picture, "a.png"))[0] == picture.png(), dreaming.prompt.text


def test_a_dream_that_ends_where_it_gets_no_better_ends_there_too_when_it_was_broken_off(models):
    options = {"until": "plateau", "steps": 30, "save_every": 1, "lr": 1.0, "ema": 0.0, "schedule": "constant"}
    whole = dreamt(models, **options)
    part = broken_off(models, 8, **options)
    assert followed(models, onward(part, "a.png"))[0] == whole.png()
