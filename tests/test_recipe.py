"""The line that makes a picture again: whatever the words are, the shell and the command read them as they were."""

from __future__ import annotations

import shlex

import pytest

from bigsleep.commands import cli
from bigsleep.recipe import command_of
from bigsleep.settings import Settings

SETTINGS = Settings(steps=3, seed=1, avoid=("-night", "rain"), model="emoji", clip="ViT-B/32|RN50", compile=True)


@pytest.mark.parametrize(
    "prompt",
    [
        "a cat",
        "cat",
        *cli.commands,
        " info",
        "-x",
        "--help",
        "-",
        "-- a cat",
        'it\'s $HOME `x` "y"',
        "a\nb",
        "a cat|a dog:2",
    ],
)
def test_the_command_of_a_recipe_asks_for_the_same_words_and_settings(prompt, monkeypatch):
    asked = {}
    monkeypatch.setattr(cli.commands["dream"], "callback", lambda **options: asked.update(options))
    line = command_of({"prompt": prompt}, SETTINGS)
    cli.main(shlex.split(line)[1:], standalone_mode=False)
    assert [words.strip() for words in asked["prompts"]] == [prompt.strip()] and asked["prompts"] != ("-",)
    given = {name: value for name, value in asked.items() if name in SETTINGS.__dict__ and value not in (None, ())}
    assert Settings.of(given) == SETTINGS
