import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bigsleep.dreamer import read_prompt
from bigsleep.errors import BigsleepError
from bigsleep.prompt import Phrase, Prompt
from bigsleep.settings import Settings

words = st.text(st.characters(blacklist_characters="|:\0", blacklist_categories=["Cs"]), min_size=1).filter(str.strip)


def phrases(text: str, *avoid: str) -> list[tuple[str, float]]:
    return [(phrase.text, phrase.weight) for phrase in Prompt.parse(text, avoid).phrases]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a house", [("a house", 1)]),
        ("a house|a garden", [("a house", 1), ("a garden", 1)]),
        ("a house:2 | a garden:0.5", [("a house", 2), ("a garden", 0.5)]),
        ("a house | fog:-1", [("a house", 1), ("fog", -1)]),
        ("a painting: sunset", [("a painting: sunset", 1)]),
        ("a clock at 12:30", [("a clock at 12:30", 1)]),
        ("title: a house:3", [("title: a house", 3)]),
    ],
)
def test_bars_separate_phrases_and_a_number_after_a_colon_weighs_one(text, expected):
    assert phrases(text) == expected


def test_what_to_avoid_weighs_below_zero():
    assert phrases("a house", "fog", "rain:2") == [("a house", 1), ("fog", -1), ("rain", -2)]


def test_several_phrases_to_avoid_may_be_given_at_once():
    assert phrases("a house", "blur|zoom:0.5") == [("a house", 1), ("blur", -1), ("zoom", -0.5)]
    with pytest.raises(BigsleepError, match=r"empty phrase in 'blur\|'"):
        phrases("a house", "blur|")


@pytest.mark.parametrize("text", ["", "  ", "|", "a||b", "a|", ":2", "a:0", "a:-1", "a\0b", "b:99999"])
def test_a_prompt_with_nothing_to_dream_of_is_refused_in_one_line(text):
    with pytest.raises(BigsleepError) as caught:
        Prompt.parse(text)
    assert caught.value.usage and "\n" not in str(caught.value)


@given(st.lists(words, min_size=1, max_size=5))
def test_any_words_without_bars_or_colons_come_back_as_they_are(parts):
    assert Prompt.parse("|".join(parts)).phrases == tuple(Phrase(part.strip()) for part in parts)


@given(words.filter(lambda text: not text.strip()[-1].isdecimal()), st.integers(1, 1000))
def test_a_weight_is_taken_off_its_phrase(text, weight):
    assert phrases(f"{text}:{weight}") == [(text.strip(), weight)]


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=[]), max_size=60) | st.text("|:-0123456789. aé\0\ud800", max_size=30))
@example("a" * 10_000)
@example("&" + "amp;" * 2_000)
@example(":" * 10_000 + "1")
@example("1" * 5_000 + ":" + "1" * 5_000)
@example("\u202e\u0627\u0644\u0628\u064a\u062a 👩‍👩‍👧\n\t\x1b[2J")
def test_any_text_is_read_or_refused_in_words(text):
    try:
        prompt = read_prompt(text, Settings())
    except BigsleepError as error:
        assert error.usage and str(error)
    else:
        assert prompt.text == text and all(phrase.text for phrase in prompt.phrases)
