"""Options that commands share: those of a dream, read off the ``Settings``, and those of where pictures go."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import Field, dataclass, fields
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from bigsleep.batch import Job, Local
from bigsleep.keep import Bare, Keeper
from bigsleep.settings import OPTIONS, Settings, flag_of
from bigsleep.terminal import Say, Show, showing

if TYPE_CHECKING:
    from bigsleep.dreamer import Dream


class DreamCommand(click.Command):
    """A command whose ``--help`` leaves the options of a dream to ``bigsleep --help``."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [
            row for param in self.get_params(ctx) if param.name not in OPTIONS and (row := param.get_help_record(ctx))
        ]
        with formatter.section("Options"):
            formatter.write_dl(rows)
        formatter.write_paragraph()
        formatter.write_text("All options of a dream are taken too: bigsleep --help lists them.")


def settings_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add an option to ``command`` for each of the ``Settings``. What is not given is not passed on."""
    for item in reversed(fields(Settings)):
        command = settings_option(item)(command)
    return command


def settings_option(item: Field[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    rules, flag = item.metadata, flag_of(item.name)
    if rules["kind"] is bool:
        return click.option(flag, is_flag=True, default=None, help=rules["help"])
    parse = rules["parse"]
    shown = rules["shown"] or (item.default if item.default not in (None, ()) else None)
    choices = "|".join(map(str, rules["choices"])) if rules["choices"] else None
    callback = None
    if parse or rules["joined"]:
        callback = partial(read_option, parse or joined)
    return click.option(
        flag,
        type=str if parse else rules["kind"],
        callback=callback,
        multiple=rules["many"] or rules["joined"],
        default=None,
        metavar=choices or {int: "N", float: "X"}.get(rules["kind"], "TEXT") if not parse else "TIME",
        help=rules["help"] + (f"  [default: {shown}]" if shown is not None else ""),
        shell_complete=model_names if item.name in ("model", "clip") else partial(fitting, rules["choices"] or ()),
    )


def model_names(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """What a shell offers for ``--model``, ``--clip`` and where models are named: names, else files."""
    from bigsleep.models.catalogue import BUILT_IN, GENERATORS
    from bigsleep.models.published import PERCEPTORS

    names = {"model": ["auto", *GENERATORS], "clip": [*BUILT_IN, *PERCEPTORS]}
    found = fitting(names.get(parameter.name or "", [*GENERATORS, *PERCEPTORS]), context, parameter, incomplete)
    return found or [CompletionItem(incomplete, type="file")]


def fitting(
    choices: Sequence[object], _context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Those of ``choices`` that begin like what was typed."""
    return [CompletionItem(str(choice)) for choice in choices if str(choice).startswith(incomplete)]


def forbid_network(_context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value:
        os.environ["BIGSLEEP_OFFLINE"] = "1"  # where the weights look, and what processes of ours inherit


offline_option = click.option(
    "--offline", is_flag=True, expose_value=False, callback=forbid_network,
    help="Do without the network: models are those that are here.",
)  # fmt: skip


def joined(values: tuple[str, ...]) -> str | None:
    return "|".join(values) or None


def read_option(parse: Callable[[Any], Any], _context: click.Context, _parameter: click.Parameter, value: Any) -> Any:
    try:
        return None if value is None else parse(value)
    except ValueError as error:
        raise click.BadParameter(f"{value!r}: {error}") from None


expand_option = click.option("--expand", is_flag=True, help="Make a picture of each choice in {red,green,blue}.")

progress_option = click.option(
    "--progress", type=click.Choice(["text", "json"]), default="text",
    help="What is said on stderr: text for people, or an event of JSON a line.  [default: text]",
)  # fmt: skip
preview_option = click.option("--preview", is_flag=True, help="Show pictures in the terminal as they come.")


@dataclass(frozen=True)
class ListOptions:
    """Where pictures go, how many are made at once, and what is said of them: what :func:`list_options` asks for."""

    output_dir: Path
    name: str
    variations: int
    parallel: int
    no_recipe: bool
    as_json: bool
    null: bool
    progress: str
    preview: bool
    quiet: bool
    debug: bool

    def say(self) -> Say:
        return Say(self.as_json, self.null)

    def show(self, total: int, before: int = 0) -> Show:
        return showing(self.progress, self.quiet, total, before, self.preview)

    def runner(self, show: Show, start: Callable[[Job, Dream], None] | None = None, snapshots: bool = False) -> Local:
        """What dreams here, and tells ``show``; ``start`` is told of dreams that begin, where that is another."""
        return Local(
            self.parallel,
            snapshots=snapshots,
            on_start=start or show.start,
            on_step=show.step,
            note=show.note,
            quiet=self.quiet,
        )

    def keeper(self, files: Keeper) -> Keeper:
        return Bare(files) if self.no_recipe else files


def list_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of :class:`ListOptions`, which ``command`` takes as one, ``common``."""

    @wraps(command)
    def with_common(**options: Any) -> None:
        common = ListOptions(**{item.name: options.pop(item.name) for item in fields(ListOptions)})
        command(common=common, **options)

    options = [
        click.option("--output-dir", type=click.Path(path_type=Path), default=Path("."), help="Folder for pictures."),
        click.option("--name", default="{slug}", metavar="TEMPLATE",
                     help="File names, of {index}, {variation}, {slug}, {seed}, {model} and {date}.  [default: {slug}]"),
        click.option("--variations", type=click.IntRange(1, 1_000_000), default=1, metavar="K",
                     help="Pictures of each prompt, each with a seed of its own."),
        click.option("--parallel", type=click.IntRange(1, 4096), default=1, metavar="N",
                     help="Dreams that share each step of the models; faster, and more memory."),
        click.option("--no-recipe", is_flag=True, help="Write bare PNGs, which nothing can be made again or go on from."),
        click.option("--json", "as_json", is_flag=True, help="Print a line of JSON for each picture, not its path."),
        click.option("-0", "--null", is_flag=True, help="End what is printed with NUL, for xargs -0."),
        offline_option,
        progress_option,
        preview_option,
        click.option("-q", "--quiet", is_flag=True, help="Nothing on stderr but errors."),
        click.option("--debug", is_flag=True, help="Show a traceback for errors."),
    ]  # fmt: skip
    taking: Callable[..., None] = with_common
    for option in reversed(options):
        taking = option(taking)
    return taking


def given(options: dict[str, Any]) -> dict[str, Any]:
    """The settings among ``options`` that the user gave."""
    return {name: value for name, value in options.items() if value not in (None, ())}


def film_option(text: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The option of a film's name, with what is filmed."""
    return click.option(
        "--video", type=click.Path(path_type=Path), metavar="FILE", help=f"{text}, to FILE.mp4, .webm, .gif or .webp."
    )


def length_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of how long a film is."""
    seconds = click.option(
        "--seconds",
        type=click.FloatRange(0, 3600, min_open=True),
        default=6.0,
        help="Length of the film.  [default: 6]",
    )
    fps = click.option("--fps", type=click.IntRange(1, 120), default=25, help="Frames a second.  [default: 25]")
    return seconds(fps(command))
