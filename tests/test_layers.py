"""Layers: sprites with places and tints, how they make one picture, and how they are enlarged."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis.strategies import floats, sampled_from

from bigsleep import Settings
from bigsleep.colours import NAMED, shares, tint_for
from bigsleep.finish import enlarged
from bigsleep.latents import Latents
from bigsleep.layers import Layer, Layers, box_of, described, layers_of, layers_pattern, tinted, warped
from bigsleep.state import decode, encode, fitted


def layer(x=0.0, y=0.0, scale=1.0, angle=0.0, ground=False, mirror=1.0):
    latents = Latents(torch.randn(3, 8), torch.randn(3, 5), "softmax")
    placement = torch.tensor([x, y, math.log(scale), angle])
    return Layer(latents, placement, torch.zeros(6), mirror, ground)


def square(colour=(1.0, 0.0, 0.0), side=64, half=0.5):
    """A sprite of a square in the middle."""
    sprite = torch.zeros(4, side, side)
    low, high = round(side * (0.5 - half / 2)), round(side * (0.5 + half / 2))
    sprite[:, low:high, low:high] = torch.tensor([*colour, 1.0])[:, None, None]
    return sprite


@given(floats(-0.4, 0.4), floats(-0.4, 0.4), floats(0.4, 1.0), sampled_from([-1.0, 1.0]))
@settings(deadline=None, max_examples=30)
def test_a_sprite_is_seen_where_its_layer_stands(x, y, scale, mirror):
    left, top, right, bottom = box_of(warped(square(), layer(x, y, scale, mirror=mirror), 128))
    assert ((left + right) / 2, (top + bottom) / 2) == pytest.approx((x, y), abs=0.03)
    assert (right - left, bottom - top) == pytest.approx((scale, scale), abs=0.05)


def test_a_turned_sprite_turns():
    wide = torch.zeros(4, 64, 64)
    wide[:, 28:36, 8:56] = 1.0
    left, top, right, bottom = box_of(warped(wide, layer(angle=math.pi / 2), 64))
    assert bottom - top > 1.3 and right - left < 0.4


def test_later_layers_lie_over_earlier_ones_and_the_paper_shows_between():
    layers = Layers([layer(), layer(scale=0.5)], paper=(0.0, 0.0, 1.0))
    picture = layers.composed(torch.stack([square((1, 0, 0)), square((0, 1, 0))]), 64)
    assert picture[:, 32, 32].tolist() == pytest.approx([0, 1, 0], abs=0.01)
    assert picture[:, 32, 19].tolist() == pytest.approx([1, 0, 0], abs=0.01)
    assert picture[:, 2, 2].tolist() == pytest.approx([0, 0, 1], abs=0.01)


def test_gradients_reach_place_tint_and_angle():
    layers = Layers([layer(0.1, -0.1, 0.7, 0.1)])
    picture = layers.composed(square()[None], 64)
    # Where the square's corner is, in a colour that it has little of: all four of its places matter.
    (picture[:, :40, :40].square().sum() + 0.3 * picture[1].sum()).backward()
    only = layers.rows[0]
    assert only.placement.grad.abs().min() > 1e-4 and only.tint.grad.abs().max() > 1e-4


def test_masks_share_every_place_out_and_follow_their_layers():
    layers = Layers([layer(-0.5, 0, 0.5), layer(0.5, 0, 0.5)])
    masks = layers.masks(32).detach()
    torch.testing.assert_close(masks.sum(0), torch.ones(32, 32))
    assert (
        masks[0, 16, 4] > 0.99 and masks[1, 16, 27] > 0.99 and masks[0, :, 15:17].mean() == pytest.approx(0.5, abs=0.01)
    )


def test_a_ground_takes_what_no_layer_is_near():
    masks = Layers([layer(ground=True), layer(0, 0, 0.4)]).masks(32)
    assert masks[0, 0, 0] > 0.99 and masks[1, 16, 16] > 0.99


def test_no_tint_leaves_colours_as_they_are():
    sprite = square((0.2, 0.6, 0.4))
    torch.testing.assert_close(tinted(sprite, torch.zeros(6)), sprite, atol=1e-5, rtol=0)


@pytest.mark.parametrize("colour", sorted(NAMED))
@pytest.mark.parametrize("before", ["red", "grey", "green", "white", "black"])
def test_a_thing_takes_any_colour_that_the_words_give_it(before, colour):
    sprite = square(NAMED[before])
    sprite[:, 20:24, 20:44] = torch.tensor([0.05, 0.05, 0.05, 1.0])[:, None, None]  # a dark line across it
    painted = tinted(sprite, tint_for(sprite, colour))
    assert shares(painted)[list(NAMED).index(colour)] > 0.6
    assert painted[3].equal(sprite[3]) and (painted[:3] <= painted[3:] + 1e-6).all()


@pytest.mark.parametrize(
    "rgb, name", [((0.0, 0.12, 0.42), "blue"), ((0.1, 0.1, 0.12), "black"), ((1, 0.5, 0.74), "pink")]
)
def test_colours_are_told_as_people_tell_them_navy_is_no_black(rgb, name):
    assert list(NAMED)[int(shares(square(rgb)).argmax())] == name


def test_a_thing_of_the_colour_already_is_left_alone():
    assert not tint_for(square(NAMED["blue"]), "blue").any()


def test_crisp_edges_are_steeper_than_smooth_ones_and_flat_parts_stay():
    sprite = square((0.9, 0.3, 0.1))
    crisp, smooth = enlarged(sprite, 512), enlarged(sprite, 512, crisp=False)
    steepness = [(part[3, 256, 1:] - part[3, 256, :-1]).abs().max() for part in (crisp, smooth)]
    assert steepness[0] > 1.5 * steepness[1]
    torch.testing.assert_close(crisp[:, 256, 256], sprite[:, 32, 32], atol=0.02, rtol=0)
    shading = torch.ones(4, 64, 64) * torch.linspace(0.3, 0.6, 64)
    shading[3] = 1
    torch.testing.assert_close(enlarged(shading, 512), enlarged(shading, 512, crisp=False), atol=0.02, rtol=0)


def test_layers_come_back_from_their_state():
    layers = Layers([layer(ground=True), layer(0.3, -0.2, 0.5, mirror=-1.0)], (0.9, 0.8, 0.7), [1, 0])
    state = decode(encode(layers.state()))
    again = layers_of(fitted(state, layers_pattern(state, 3, 8, 5)), Settings(classes="softmax"))
    sprites = torch.stack([square((0, 0, 1)), square()])
    assert again.composed(sprites, 64).equal(layers.composed(sprites, 64))
    assert again.order == [1, 0] and again.state().keys() == state.keys()


def test_layers_are_told_of_in_words():
    layers = Layers([layer(ground=True), layer(0.5, -0.5, 0.25)])
    layers.rows[1].latents.logits.data = torch.tensor([0.0, 9.0, 0, 0, 0]).expand(3, 5)
    ground, thing = described(layers, ["night", "an owl"], ["a", "owl", "c", "d", "e"])
    assert ground["ground"] and ground["phrase"] == "night"
    assert thing == {"phrase": "an owl", "class": "owl 1.00", "x": 0.75, "y": 0.25, "size": 0.25, "angle": 0.0}
