"""What can be done with pictures that are there: look into them, make them again, go on from them, see them together."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bigsleep.batch import Job, Local, Reading, job_of, read_dream
from bigsleep.commands.options import DreamCommand, given, list_options, settings_options
from bigsleep.disk import save, save_new
from bigsleep.errors import BigsleepError
from bigsleep.keep import Files
from bigsleep.picture import Picture, check_target, read_insides
from bigsleep.recipe import checked_recipe, command_of, described, differences, settings_of
from bigsleep.settings import Settings
from bigsleep.terminal import Say, Show, Stop, run

if TYPE_CHECKING:
    from bigsleep.dreamer import Dream


@click.command("info")
@click.argument("pictures", nargs=-1, required=True, metavar="PICTURE...", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON for each picture.")
@click.option("--debug", is_flag=True, help="Show a traceback for errors.")
def info_command(pictures: tuple[Path, ...], as_json: bool, debug: bool) -> None:
    """Show what each PICTURE says of how it was made, and the commands that make it again or go on from it."""
    refused = []
    for path in pictures:
        try:
            recipe, state = read_insides(path)
            checked_recipe(recipe, path)
            settings = settings_of(recipe, path)
        except BigsleepError as error:
            refused.append(error)
            click.echo(f"bigsleep: {error}", err=True)
            continue
        if as_json:
            told = {"path": str(path), **recipe, "command": command_of(recipe, settings), "state": len(state)}
            click.echo(json.dumps(told, ensure_ascii=False))
        else:
            click.echo(described(path, recipe, settings, state))
    if refused:
        raise SystemExit(2)


@click.command("redo", cls=DreamCommand)
@click.argument("pictures", nargs=-1, required=True, metavar="PICTURE...", type=click.Path(path_type=Path))
@settings_options
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write exactly this file.")
@list_options
@click.option("--overwrite", is_flag=True, help="Replace a picture of the same name instead of numbering the new one.")
def redo_command(pictures: tuple[Path, ...], **options: Any) -> None:
    """Make each PICTURE again, the same bytes on the same machine and version; options go before its own."""
    from bigsleep.origin import again

    dream_on(pictures, again, None, options)


@click.command("continue", cls=DreamCommand)
@click.argument("pictures", nargs=-1, required=True, metavar="PICTURE...", type=click.Path(path_type=Path))
@click.option("--prompt", help="Other words to go on with.")
@settings_options
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write exactly this file.")
@list_options
@click.option("--overwrite", is_flag=True, help="Replace a picture of the same name instead of numbering the new one.")
@click.option("--save-progress", is_flag=True, help="Keep every snapshot, as NAME.0050.png and so on.")
def continue_command(pictures: tuple[Path, ...], prompt: str | None, **options: Any) -> None:
    """Go on from each PICTURE: a dream that was broken off to its end, a finished one for as many steps again.

    With other words or options, a new dream begins with what the picture shows.
    """
    from bigsleep.origin import onward

    dream_on(pictures, onward, prompt, options)


def dream_on(
    pictures: tuple[Path, ...],
    reading: Reading,
    prompt: str | None,
    options: dict[str, Any],
) -> None:
    """Dream from each of ``pictures`` as ``reading`` says, with the ``options`` of the command before its own."""
    common, output = options.pop("common"), options.pop("output")
    overwrite, save_progress = options.pop("overwrite"), options.pop("save_progress", False)
    asked = given(options)
    Settings.of(asked)
    jobs: list[Job] = []
    seen: Counter[str] = Counter()
    for index, path in enumerate(pictures, 1):
        settings, origin, words = read_dream(path, reading, asked, prompt, common.variations > 1)
        made = [job_of(index, variation, words, settings, seen) for variation in range(1, common.variations + 1)]
        jobs += [replace(job, origin=origin) for job in made]
    if output is not None and len(jobs) > 1:
        raise BigsleepError(f"-o names one file, but there are {len(jobs)} pictures: use --output-dir", usage=True)
    files = Files(output, common.output_dir, common.name, overwrite, save_progress, alone=len(jobs) == 1)
    for job in jobs:
        check_target(files.target(job, seed=0, model=job.settings.model))
    stop, show = Stop(), common.show(len(jobs))

    def start(job: Job, dreaming: Dream) -> None:
        show.start(job, dreaming)
        tell_differences(job, dreaming, show)

    runner = common.runner(show, start, snapshots=True)
    for job in jobs:
        load_models(job, runner)
    run(jobs, runner, common.keeper(files), stop, show, common.say(), common.debug)


def load_models(job: Job, runner: Local) -> None:
    """Have the models that a picture's recipe names, or say that they are not here."""
    try:
        runner.models(job.settings)
    except BigsleepError as error:
        raise BigsleepError(f"{error}: the picture's recipe asks for {job.settings.model}", usage=True) from error


def tell_differences(job: Job, dreaming: Dream, show: Show) -> None:
    """One line where the bytes may come out otherwise than they were."""
    from bigsleep.recipe import circumstances

    assert job.origin is not None
    if job.origin.until is not None or job.origin.going is not None:
        if any(not size for _, size, _ in job.origin.recipe.get("company", ())):
            show.note("it was dreamt beside dreams of other shapes: the picture may differ in the last digits")
        differ = differences(job.origin.recipe, circumstances() | {"weights": dreaming.models.weights})
        if differ:
            show.note(f"{job.origin.recipe['prompt'][:60]!r} was made by {differ}: the picture may differ")


@click.command("sheet")
@click.argument("pictures", nargs=-1, required=True, metavar="PICTURE...", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Write this file.")
@click.option("--columns", type=click.IntRange(1, 100), help="Pictures in a row.  [default: about as many as rows]")
@click.option("--size", type=click.IntRange(32, 1024), default=256, help="Side of each picture.  [default: 256]")
@click.option("--overwrite", is_flag=True, help="Replace a file of the same name instead of numbering the new one.")
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON, not the sheet's path.")
@click.option("-0", "--null", is_flag=True, help="End what is printed with NUL, for xargs -0.")
@click.option("--debug", is_flag=True, help="Show a traceback for errors.")
def sheet_command(
    pictures: tuple[Path, ...],
    output: Path,
    columns: int | None,
    size: int,
    overwrite: bool,
    as_json: bool,
    null: bool,
    debug: bool,
) -> None:
    """Show PICTUREs together on one sheet, with names, seeds and scores under them."""
    from bigsleep.sheet import contact_sheet

    check_target(output)
    data = Picture(contact_sheet(pictures, columns, size)).png(bare=True)
    if overwrite:
        save(data, output)
    else:
        output = save_new(data, output)
    Say(as_json, null)({"pictures": [str(path) for path in pictures]}, output)
