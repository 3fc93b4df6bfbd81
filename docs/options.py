"""Writes docs/options.md from the commands and the settings themselves: python -m docs.options"""

from __future__ import annotations

from dataclasses import Field, fields
from pathlib import Path
from typing import Any

import click

from bigsleep.commands import cli
from bigsleep.commands.options import DreamCommand
from bigsleep.models.catalogue import GENERATORS
from bigsleep.settings import Settings, flag_of

PAGE = Path(__file__).with_suffix(".md")
HEAD = """# Options

This page is written by `python -m docs.options`; a test fails where it and the commands differ. `bigsleep --help` says the same.

## Of a dream

They hold for `bigsleep`, `batch`, `redo`, `continue`, `story` and `web`, as columns of a list, and as arguments in Python
(`dream("a cat", save_every=5)`). Where two defaults are given, the first is for `--model emoji`, the second for BigGAN.

| option | values | default | what it does |
|---|---|---|---|
"""


def values(rules: Any) -> str:
    """What an option takes."""
    if rules["kind"] is bool:
        return ""
    if rules["choices"]:
        return ", ".join(map(str, rules["choices"]))
    if rules["parse"]:
        return "a time: 90s, 3m, 1h30m"
    if rules["kind"] is str:
        return "text"
    low = f"{rules['least']}" if rules["above"] is None else f"more than {rules['above']}"
    most = {None: "", 2**63 - 1: " to 2^63 - 1"}.get(rules["most"], f" to {rules['most']}")
    return low + most if rules["most"] is not None or rules["above"] is not None else f"{low} or more"


def default(item: Field[Any]) -> str:
    """What an option is where it is not given: what the models prefer, if they do."""
    preferred = [GENERATORS[name].preferences.get(item.name) for name in ("emoji", "biggan-deep-512")]
    if item.metadata["shown"] == "the model's":
        return " / ".join(dict.fromkeys("by the device" if one is None else str(one) for one in preferred))
    return item.metadata["shown"] or ("" if item.default in (None, (), False) else str(item.default))


def row(item: Field[Any]) -> str:
    told = (f"`{flag_of(item.name)}`", values(item.metadata), default(item), item.metadata["help"])
    return "| " + " | ".join(text.replace("|", "\\|") for text in told) + " |\n"


def named(command: click.Command, name: str) -> list[tuple[str, click.Command]]:
    """A command and those under it."""
    under = command.commands if isinstance(command, click.Group) and command is not cli else {}
    return [(name, command), *((f"{name} {word}", one) for word, one in sorted(under.items()))]


def help_of(name: str, command: click.Command) -> str:
    """What ``NAME --help`` says but for the options of a dream."""
    context = click.Context(command, info_name=name, terminal_width=100, max_content_width=100)
    formatter = context.make_formatter()
    command.format_usage(context, formatter)
    command.format_help_text(context, formatter)
    shown = DreamCommand.format_options.__get__(command) if command.name == "dream" else command.format_options
    shown(context, formatter)
    return formatter.getvalue().rstrip()


def page() -> str:
    """The page as the commands would have it now."""
    parts = [HEAD, *map(row, fields(Settings))]
    for word, command in cli.commands.items():
        for name, one in named(command, "bigsleep" if word == "dream" else f"bigsleep {word}"):
            parts.append(f"\n## {name}\n\n```text\n{help_of(name, one)}\n```\n")
    return "".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page())
