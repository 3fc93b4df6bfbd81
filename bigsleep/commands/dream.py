"""``bigsleep PROMPT...``: a picture of each prompt, shown as it comes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bigsleep.batch import Local, jobs_of
from bigsleep.commands.options import given, list_options, settings_options
from bigsleep.errors import BigsleepError
from bigsleep.keep import Bare, Files
from bigsleep.lists import decoded, read_list
from bigsleep.picture import check_image, check_target
from bigsleep.prompt import Prompt, parse_phrase
from bigsleep.settings import Settings
from bigsleep.terminal import Say, Show, Stop, run


@click.command("dream")
@click.argument("prompts", nargs=-1, required=True, metavar="PROMPT...")
@settings_options
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write exactly this file.")
@list_options
@click.option("--overwrite", is_flag=True, help="Replace a picture of the same name instead of numbering the new one.")
@click.option("--save-progress", is_flag=True, help="Keep every snapshot, as NAME.0050.png and so on.")
def dream_command(
    prompts: tuple[str, ...],
    output: Path | None,
    output_dir: Path,
    name: str,
    variations: int,
    parallel: int,
    no_recipe: bool,
    as_json: bool,
    null: bool,
    quiet: bool,
    debug: bool,
    overwrite: bool,
    save_progress: bool,
    **options: Any,
) -> None:
    """Dream of each PROMPT and print the path of its picture. "-" reads prompts from stdin, one a line."""
    settings = Settings.of(given(options))
    if prompts == ("-",):
        lines = decoded(read_list("-"), "stdin").split("\n")
        prompts = tuple(line.strip() for line in lines if line.strip()) or ("",)
    jobs = jobs_of(prompts, settings, variations)
    for prompt in prompts:
        Prompt.parse(prompt, settings.avoid)
    if output is not None and len(jobs) > 1:
        raise BigsleepError(f"-o names one file, but there are {len(jobs)} pictures: use --output-dir", usage=True)
    files = Files(output, output_dir, name, overwrite, save_progress, alone=len(jobs) == 1)
    for job in jobs:
        check_target(files.target(job, seed=0, model=settings.model))
    check_images(settings)
    stop, show = Stop(), Show(quiet, len(jobs))
    from bigsleep.dreamer import read_prompt

    for prompt in prompts:
        read_prompt(prompt, settings)
    runner = Local(parallel, snapshots=True, on_start=show.start, on_step=show.step, note=show.note, quiet=quiet)
    runner.models(settings)
    run(jobs, runner, Bare(files) if no_recipe else files, stop, show, Say(as_json, null), debug)


def check_images(settings: Settings) -> None:
    """Raise :class:`BigsleepError` unless there are images where ``settings`` say, before any model is waited for."""
    if settings.start is not None:
        check_image(settings.start)
    for text in settings.image_prompt:
        check_image(parse_phrase(text, text).text)
