from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigsleep.errors import BigsleepError
from bigsleep.settings import Settings, parse_seconds


@pytest.mark.parametrize(
    ("options", "flag"),
    [
        (dict(steps=-1), "--steps"), (dict(steps=1.5), "--steps"), (dict(steps=True), "--steps"),
        (dict(seed=-1), "--seed"), (dict(lr=0), "--lr"), (dict(lr=float("nan")), "--lr"),
        (dict(lr=float("inf")), "--lr"), (dict(cutouts=0), "--cutouts"), (dict(image_size=300), "--image-size"),
        (dict(truncation=0), "--truncation"), (dict(truncation=1.01), "--truncation"), (dict(ema=1), "--ema"),
        (dict(time=-1), "--time"), (dict(classes="hardmax"), "--classes"), (dict(max_classes=0), "--max-classes"),
        (dict(steps=5, time=5), "--time"), (dict(cutout_min=0.9, cutout_max=0.5), "--cutout-min"),
    ],
)  # fmt: skip
def test_values_out_of_range_are_refused_and_the_option_is_named(options, flag):
    with pytest.raises(BigsleepError, match=flag) as caught:
        Settings.of(options)
    assert caught.value.usage


def test_an_unknown_option_is_refused_with_the_known_ones():
    with pytest.raises(BigsleepError, match=r"'stepz'.*steps"):
        Settings.of({"stepz": 3})


def test_what_the_user_left_open_is_filled_from_the_model_and_nothing_else():
    settings = Settings(lr=0.5).filled({"lr": 0.07, "steps": 60, "cutouts": 8})
    assert (settings.lr, settings.steps, settings.cutouts) == (0.5, 60, 8)


def test_a_time_budget_stands_instead_of_the_models_steps():
    assert Settings(time=90).filled({"steps": 60}).steps is None


def test_lr_alone_sets_both_step_sizes_of_a_model_that_has_one():
    one, two = {"lr": 0.07, "class_lr": 0.07}, {"lr": 0.05, "class_lr": 0.25}
    rates = [vars(Settings(**given).filled(preferred)) for given, preferred in [
        ({"lr": 0.1}, one), ({"lr": 0.1, "class_lr": 0.2}, one), ({"class_lr": 0.2}, one), ({"lr": 0.1}, two),
    ]]  # fmt: skip
    assert [(rate["lr"], rate["class_lr"]) for rate in rates] == [(0.1, 0.1), (0.1, 0.2), (0.07, 0.2), (0.1, 0.25)]


def test_every_option_has_help():
    assert all(item.metadata["help"].endswith(".") for item in fields(Settings))


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("3m", 180), ("1h30m", 5400), ("0.5m", 30)])
def test_durations_read_as_people_write_them(text, seconds):
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "3 minutes", "-3m", "m3", "1m1h"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError):
        parse_seconds(text)


@given(st.integers(0, 10), st.integers(0, 100), st.integers(0, 100))
def test_hours_minutes_and_seconds_add_up(hours, minutes, seconds):
    assert parse_seconds(f"{hours}h{minutes}m{seconds}s") == 3600 * hours + 60 * minutes + seconds
