"""What the words of a prompt are taken to say of its picture."""

import string

import pytest
from hypothesis import given
from hypothesis.strategies import lists, sampled_from, text

from bigsleep import BigsleepError, Settings
from bigsleep.models.catalogue import drawn_names
from bigsleep.plan import MOST_LAYERS, plan_of, planned
from bigsleep.prompt import Place, Prompt

NAMES = drawn_names("emoji")


def plan(words):
    return plan_of(Prompt.parse(words), NAMES)


def nouns(words):
    return [thing.noun for thing in plan(words).things]


@pytest.mark.parametrize(
    "words, tree",
    [
        ("a cat wearing a crown", ("wearing-head", 0, 1)),
        ("a dog with sunglasses", ("wearing-eyes", 0, 1)),
        ("a fox wearing a scarf", ("wearing-body", 0, 1)),
        ("a frog with an umbrella", ("holding", 0, 1)),
        ("a monkey eating a banana", ("holding", 0, 1)),
        ("a bear riding a bicycle", ("on", 0, 1)),
        ("a mouse on top of an elephant", ("on", 0, 1)),
        ("a house under a rainbow", ("under", 0, 1)),
        ("a bird flying over a mountain", ("above", 0, 1)),
        ("a fish and a boat", ("beside", 0, 1)),
        ("a photo of a dog to the left of a teddy bear", ("left", 0, 1)),
        ("a dog right of a cake", ("right", 0, 1)),
        ("a dog in front of a castle", ("front", 0, 1)),
        ("a ghost behind a tree", ("behind", 0, 1)),
        ("a rabbit in a hat", ("inside", 0, 1)),
    ],
)
def test_a_relation_is_read_as_a_layout_of_two_things(words, tree):
    assert plan(words).tree == tree


def test_what_is_worn_is_joined_before_what_stands_beside_and_that_before_where_all_stand():
    assert plan("a cat wearing a crown and a dog on a house").tree == ("on", ("beside", ("wearing-head", 0, 1), 2), 3)


@pytest.mark.parametrize(
    "words, ground",
    [
        ("an owl at night", "night"), ("a rocket among the stars", "outer space"), ("a lion in the desert", "desert"),
        ("a ghost in the woods", "forest"), ("a pizza on the beach", "beach"), ("at sunset, a whale", "sunset"),
        ("breakfast in space", "outer space"), ("a snowman in winter", "snow"), ("a fish underwater", "underwater"),
    ],
)  # fmt: skip
def test_a_setting_becomes_the_ground_and_not_a_thing(words, ground):
    found = plan(words)
    assert found.ground is not None and found.ground.noun == ground
    assert len(found.things) == 1


def test_two_settings_make_one_ground():
    found = plan("a whale in the sea at sunset")
    assert (found.ground.noun, [thing.noun for thing in found.things]) == ("sunset", ["whale"])


def test_a_setting_with_an_article_is_a_thing():
    assert nouns("a cat on a house") == ["cat", "house"]
    assert plan("a mouse on the moon").ground is None


def test_counts_colours_and_sizes_belong_to_their_things():
    apples, dog = plan("three red apples and a tiny dog").things
    assert (apples.noun, apples.count, apples.colour, apples.text) == ("apple", 3, "red", "a red apple")
    assert (dog.noun, dog.count, dog.colour) == ("dog", 1, None) and dog.size < 1
    assert plan("two mice and a pair of knives").things[0].noun == "mouse"
    assert plan("two mice and a pair of knives").things[1].noun == "knife"


def test_what_no_class_draws_is_no_thing_of_its_own():
    (thing,) = plan_of(Prompt.parse("a giraffe with a long neck"), ["giraffe", "top hat"]).things
    assert (thing.noun, thing.text) == ("giraffe", "a giraffe with a long neck")
    hatted = plan_of(Prompt.parse("a giraffe with a hat"), ["giraffe", "top hat"])
    assert [thing.noun for thing in hatted.things] == ["giraffe", "hat"]


def test_names_of_classes_are_not_taken_apart():
    assert nouns("a bow and arrow") == ["bow and arrow"]
    assert nouns("a cat with a bow and arrow") == ["cat", "bow and arrow"]


@pytest.mark.parametrize(
    "words", ["un chat", "eternity", "a lonely astronaut dreaming of home", "夢の中の家", "a bowl of cherries"]
)
def test_what_is_not_understood_is_one_thing_with_all_its_words(words):
    found = plan(words)
    assert found.layers == 1 and found.things[0].text.lower() == words


def test_phrases_say_where_they_stand():
    castle, dragon = plan("a castle@left | a dragon@top-right").things
    assert castle.place == Place(0.25, 0.5, 0.5) and dragon.place == Place(0.75, 0.25, 0.42)
    assert plan("a cat@(0.3,0.7,0.4)").things[0].place == Place(0.3, 0.7, 0.4)
    assert plan("a cat | a brick wall@ground").ground.text == "a brick wall"


def test_an_at_that_is_no_place_stays_text():
    assert plan("a cat@home").things[0].text == "a cat@home"


@pytest.mark.parametrize("place", ["(2,0.5)", "(0.3)", "(0.1,0.2,0)", "(a,b)", "(0.1,0.2,0.3,0.4)"])
def test_a_place_outside_the_picture_is_refused_in_one_line(place):
    with pytest.raises(BigsleepError, match="the place in"):
        Prompt.parse(f"a cat@{place}")


def test_more_things_than_layers_are_refused_and_one_layer_takes_any_words():
    prompt = Prompt.parse("a cat, a dog and a fish")
    with pytest.raises(BigsleepError, match="asks for 3 layers, and --layers is 2"):
        planned(prompt, Settings(layers=2), alpha=True)
    assert planned(prompt, Settings(layers=1), alpha=True) is None
    assert planned(prompt, Settings(layers=3), alpha=False).layers == 3


def test_placed_phrases_need_layers():
    with pytest.raises(BigsleepError, match="give --layers 2"):
        planned(Prompt.parse("a castle@left | a lake@right"), Settings(layers=1), alpha=False)


def test_too_many_things_to_set_up_are_one_layer_again():
    assert planned(Prompt.parse("twelve apples"), Settings(layers="auto"), alpha=True) is None


def test_two_grounds_are_one_too_many():
    with pytest.raises(BigsleepError, match="two grounds"):
        plan("a wall@ground | a sky@background | a cat")


def test_a_single_thing_is_a_layer_where_the_generator_makes_sprites():
    prompt = Prompt.parse("a cat")
    assert planned(prompt, Settings(layers="auto"), alpha=True).layers == 1
    assert planned(prompt, Settings(layers="auto"), alpha=False) is None


WORDS = "a the two seven red small cat dogs with and , on in night stars of wearing @ left ( ) 3 | under underwater at".split()  # noqa: SIM905


@given(lists(sampled_from(WORDS), min_size=1, max_size=14).map(" ".join))
def test_any_row_of_words_has_a_plan_or_a_reason(words):
    try:
        found = plan(words)
    except BigsleepError:
        return
    assert all(thing.noun.strip() and thing.text.strip() and thing.count >= 1 for thing in found.things)
    assert len(found.parts) == found.layers and found.lines()


@given(text(alphabet=string.printable, min_size=1, max_size=60))
def test_any_text_has_a_plan_or_a_reason(words):
    try:
        prompt = Prompt.parse(words)
        found = planned(prompt, Settings(layers="auto"), alpha=True, names=NAMES[:50])
    except BigsleepError:
        return
    assert found is None or 1 <= found.layers <= MOST_LAYERS
