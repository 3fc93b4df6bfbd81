"""The benchmark of recipes: its figures, its table and its plot."""

import json
import xml.etree.ElementTree as ElementTree

import pytest
import torch

from benchmarks.recipes import RANDOM, SCENES, Seen, bootstrap, keep, row
from bigsleep import Settings


def seen(mean):
    likeness = mean + torch.linspace(-0.1, 0.1, 21)
    return Seen(torch.zeros(21, 3, 4, 4), likeness, torch.ones(21), torch.zeros(21), likeness, 1.5)


def test_an_interval_holds_the_mean_and_narrows_with_more_prompts():
    few, many = (bootstrap(torch.linspace(0, 1, count)) for count in (10, 1000))
    for mean, low, high in (few, many):
        assert low < mean < high and mean == pytest.approx(0.5, abs=1e-3)
    assert many[2] - many[1] < 0.2 * (few[2] - few[1])


def test_differences_are_of_the_same_prompts():
    found = row("more", seen(0.4), seen(0.3))
    assert found["difference"] == [pytest.approx(0.1, abs=1e-4)] * 3, "all differ alike, so there is no doubt"
    assert found["likeness"][1] < 0.4 < found["likeness"][2] and found["right"] == [0, 0, 0]


def test_figures_are_kept_beside_those_there_are_in_a_table_and_a_plot(tmp_path):
    keep(tmp_path, "random", {"prompts": 21, "rows": [row("first", seen(0.3), seen(0.3))]})
    far = {"default": {"prompts": ["a"], "steps": {step: {"likeness": [step / 1000] * 3} for step in (20, 400)}}}
    keep(tmp_path, "collapse", far)
    assert json.loads((tmp_path / "recipes.json").read_text()).keys() == {"random", "collapse"}
    assert (tmp_path / "recipes.md").read_text().splitlines()[-1].startswith("| first | 0.300 (")
    plot = ElementTree.parse(tmp_path / "recipes.svg").getroot()
    assert [len(plot.findall("{*}" + kind)) for kind in ("circle", "polyline")] == [1, 1]


def test_every_variant_is_made_of_valid_options():
    for options in (*SCENES.values(), *RANDOM.values()):
        Settings.of({"model": "emoji", **options})
