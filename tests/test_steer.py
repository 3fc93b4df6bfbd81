"""Other words for a picture of sprites: what they ask for changes, and the rest stays."""

from dataclasses import replace

import pytest
import torch

from bigsleep import Dream, Models, Settings
from bigsleep.layers import layers_of
from bigsleep.origin import again, beginning
from tests.test_origin import dreamt, followed, reread

QUICK = {"model": "emoji", "image_size": 128, "cutouts": 4, "steps": 2, "save_every": 2, "auditions": 1, "seed": 1}


@pytest.fixture(scope="module")
def models():
    return Models.load(Settings(model="emoji"))


def steered(models, picture, words, **options):
    settings, origin = beginning(picture, "before.png")
    dreaming = Dream(words, replace(settings, **options), models=models, origin=replace(origin, steered=True))
    for _ in dreaming:
        pass
    return dreaming, reread(dreaming.picture(dreaming.best))


def begun(models, dreaming):
    """The layers that a dream began with, by the plan's order, and what their classes are called."""
    layers = layers_of(dreaming.origin.start, dreaming.settings)
    names = models.generator.class_names
    ordered = [layers.rows[layers.order.index(i)] for i in range(len(layers))]
    return ordered, [names[int(layer.latents.logits[0].argmax())] for layer in ordered]


@pytest.fixture(scope="module")
def dog(models):
    return dreamt(models, "a dog and a ball", **QUICK)


def test_a_thing_with_other_words_is_cast_anew_where_it_stands_and_the_other_stays(models, dog):
    settings, origin = beginning(dog, "dog.png")
    dreaming, _ = steered(models, dog, "a lion and a ball")
    before, old = begun(models, Dream("a dog and a ball", settings, models=models, origin=origin))
    after, new = begun(models, dreaming)
    assert old[0].startswith("dog") and new[0].startswith("lion") and old[1] == new[1]
    for name, part in before[1].state_dict().items():
        now = after[1].state_dict()[name]
        assert torch.equal(part.expand_as(now), now), name
    assert torch.equal(before[0].placement, after[0].placement) and before[0].mirror == after[0].mirror


def test_a_colour_is_given_to_what_is_there(models):
    car = dreamt(models, "a car", **QUICK)
    dreaming, picture = steered(models, car, "a green car")
    assert begun(models, dreaming)[1] == ["automobile"]
    red, green, blue = torch.frombuffer(bytearray(picture.image.tobytes()), dtype=torch.uint8).view(-1, 3).float().T
    assert (green - torch.maximum(red, blue)).gt(40).float().mean() > 0.05


def test_another_layout_moves_things(models, dog):
    layers, _ = begun(models, steered(models, dog, "a dog below a ball")[0])
    assert layers[0].placement[1] > layers[1].placement[1] + 0.3


def test_a_thing_more_is_put_beside(models, dog):
    assert begun(models, steered(models, dog, "a dog and a ball and a tree")[0])[1][2].endswith("tree")


def test_what_was_steered_is_made_again_without_the_picture_before_it(models, dog):
    _, picture = steered(models, dog, "a lion and a ball")
    assert followed(models, again(picture, "lion.png"))[0] == picture.png()
