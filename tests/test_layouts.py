"""Relations as arrangements: what stands where, within the picture."""

import pytest
from hypothesis import given
from hypothesis.strategies import floats, integers, tuples

from bigsleep.layouts import LAYOUTS, WHOLE, arranged, beside, hat, holding, on, sprite, under
from bigsleep.plan import Plan, Thing
from bigsleep.prompt import Place

edges = floats(0.2, 1.0)
boxes = tuples(edges, edges, edges, edges).map(lambda e: (-e[0], -e[1], e[2], e[3]))


def things(*sizes):
    return tuple(Thing(f"thing {i}", "thing", size=size) for i, size in enumerate(sizes))


def seen(spot, box):
    """The box of a sprite where it stands."""
    return tuple(edge * spot.scale + (spot.x, spot.y)[i % 2] for i, edge in enumerate(box))


@given(integers(0, 5), boxes, boxes)
@pytest.mark.parametrize("relation", sorted(LAYOUTS))
def test_every_layout_shows_both_things_within_the_picture(relation, variant, first, second):
    plan = Plan(things(1, 1), (relation, 0, 1))
    spots = arranged(plan, [first, second], [variant])
    assert sorted(spot.layer for spot in spots) == [0, 1]
    for spot in spots:
        assert all(-1.01 <= edge <= 1.01 for edge in seen(spot, (first, second)[spot.layer])), spot
        assert spot.scale > 0.05


def test_what_is_on_something_touches_its_top_and_is_in_front():
    pair = on(sprite(0, WHOLE, 1.0), sprite(1, WHOLE, 1.0))
    below, above = pair.spots
    assert (below.layer, above.layer) == (1, 0) and above.scale < below.scale
    assert abs((above.y + above.scale) - (below.y - below.scale)) < 0.15


def test_a_hat_sits_on_the_head():
    wearer, worn = hat(sprite(0, WHOLE, 1.0), sprite(1, WHOLE, 1.0)).spots
    assert worn.y < wearer.y - 0.5 * wearer.scale and worn.scale < wearer.scale
    assert worn.y + worn.scale > wearer.y - wearer.scale


def test_left_is_left_under_is_under_and_what_is_held_is_at_the_side():
    a, b = sprite(0, WHOLE, 1.0), sprite(1, WHOLE, 1.0)
    left, right = beside(a, b).spots
    assert (left.layer, right.layer) == (0, 1) and left.x < right.x
    rainbow, house = under(a, b).spots
    assert (rainbow.layer, house.layer) == (1, 0) and house.y > rainbow.y
    holder, held = holding(a, b).spots
    assert held.x > holder.x and held.scale < holder.scale


def test_small_things_are_smaller_than_large_ones():
    spots = arranged(Plan(things(0.55, 1.6), ("beside", 0, 1)), [WHOLE, WHOLE], [0])
    scales = {spot.layer: spot.scale for spot in spots}
    assert scales[0] == pytest.approx(scales[1] * 0.55 / 1.6)


def test_equal_things_stand_apart():
    plan = Plan((Thing("an apple", "apple", count=4),), 0)
    spots = arranged(plan, [WHOLE] * 4, [])
    for i, one in enumerate(spots):
        for other in spots[:i]:
            assert max(abs(one.x - other.x), abs(one.y - other.y)) >= 2 * one.scale


def test_a_ground_lies_behind_and_things_stand_before_it():
    plan = Plan(things(1), 0, Thing("night", "night"))
    ground, thing = arranged(plan, [WHOLE, WHOLE], [])
    assert (ground.layer, ground.scale) == (0, 1.0) and thing.layer == 1
    assert thing.y + thing.scale == pytest.approx(0.78)


@given(floats(0.05, 1), floats(0, 1), floats(0, 1), boxes)
def test_a_place_that_the_prompt_names_is_where_the_thing_stands(size, x, y, box):
    plan = Plan((Thing("a cat", "cat", place=Place(x, y, size)),))
    (spot,) = arranged(plan, [box], [])
    left, top, right, bottom = seen(spot, box)
    assert (left + right) / 2 == pytest.approx(2 * x - 1, abs=1e-6)
    assert (top + bottom) / 2 == pytest.approx(2 * y - 1, abs=1e-6)
    assert max(right - left, bottom - top) == pytest.approx(2 * size, rel=1e-6)
