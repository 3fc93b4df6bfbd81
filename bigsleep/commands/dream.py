"""``bigsleep PROMPT...``: a picture of each prompt, shown as it comes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from bigsleep.batch import Job, jobs_of
from bigsleep.commands.options import (
    ListOptions,
    expand_option,
    film_option,
    given,
    length_options,
    list_options,
    settings_options,
)
from bigsleep.disk import sweep
from bigsleep.errors import BigsleepError
from bigsleep.film import check_film, frames_in, write_film
from bigsleep.keep import Files
from bigsleep.lists import decoded, expanded, read_list
from bigsleep.picture import check_image, check_target
from bigsleep.plan import plan_of
from bigsleep.prompt import Prompt, parse_phrase
from bigsleep.settings import Settings
from bigsleep.terminal import Show, Stop, run

if TYPE_CHECKING:
    from bigsleep.dreamer import Dream


@click.command("dream")
@click.argument("prompts", nargs=-1, required=True, metavar="PROMPT...")
@settings_options
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write exactly this file.")
@list_options
@expand_option
@click.option("--overwrite", is_flag=True, help="Replace a picture of the same name instead of numbering the new one.")
@click.option("--save-progress", is_flag=True, help="Keep every snapshot, as NAME.0050.png and so on.")
@click.option(
    "--plan", "plan_only", is_flag=True, help="Print what the words are taken to say of the picture, and stop."
)
@film_option("Film the dream's growth")
@length_options
def dream_command(
    prompts: tuple[str, ...],
    output: Path | None,
    common: ListOptions,
    expand: bool,
    overwrite: bool,
    save_progress: bool,
    plan_only: bool,
    video: Path | None,
    seconds: float,
    fps: int,
    **options: Any,
) -> None:
    """Dream of each PROMPT and print the path of its picture. "-" reads prompts from stdin, one a line."""
    settings = Settings.of(given(options))
    if prompts == ("-",):
        lines = decoded(read_list("-"), "stdin").split("\n")
        prompts = tuple(line.strip() for line in lines if line.strip()) or ("",)
    if expand:
        prompts = tuple(each for prompt in prompts for each in expanded(prompt))
    jobs = jobs_of(prompts, settings, common.variations)
    for prompt in prompts:
        Prompt.parse(prompt, settings.avoid)
    if plan_only:
        tell_plans(prompts, settings)
        return
    if output is not None and len(jobs) > 1:
        raise BigsleepError(f"-o names one file, but there are {len(jobs)} pictures: use --output-dir", usage=True)
    filming = Filming(video, seconds, fps, len(jobs))
    files = Files(output, common.output_dir, common.name, overwrite, save_progress, alone=len(jobs) == 1)
    for job in jobs:
        check_target(files.target(job, seed=0, model=settings.model))
    check_images(settings)
    sweep(output.parent if output else common.output_dir)
    stop, show = Stop(), common.show(len(jobs))
    from bigsleep.dreamer import read_prompt

    for prompt in prompts:
        read_prompt(prompt, settings)
    started = filming.watching(show.start)
    runner = common.runner(show, started, snapshots=True)
    runner.models(settings)
    run(jobs, runner, common.keeper(files), stop, show, common.say(), common.debug)
    filming.write(show)


def tell_plans(prompts: tuple[str, ...], settings: Settings) -> None:
    """Print what each prompt is taken to ask for: a line a thing, then how they stand."""
    from bigsleep.models.catalogue import drawn_names

    names = drawn_names("emoji" if settings.model == "auto" else settings.model)
    for prompt in prompts:
        plan = plan_of(Prompt.parse(prompt, settings.avoid), names)
        click.echo("\n".join([f"{prompt}", *(f"  {line}" for line in plan.lines())]))


class Filming:
    """Films the growth of the one dream that is asked for with ``--video``."""

    def __init__(self, path: Path | None, seconds: float, fps: int, dreams: int) -> None:
        self.path, self.fps, self.dreaming = path, fps, cast("Dream | None", None)
        if path is not None:
            if dreams > 1:
                raise BigsleepError(f"--video names one film, but there are {dreams} pictures: film one", usage=True)
            check_film(path)
            self.count = frames_in(seconds, fps, path)

    def watching(self, start: Callable[[Job, Dream], None]) -> Callable[[Job, Dream], None]:
        """``start`` with the dream told to remember what it shows."""

        def started(job: Job, dreaming: Dream) -> None:
            start(job, dreaming)
            if self.path is not None:
                self.dreaming, dreaming.trails = dreaming, {}

        return started

    def write(self, show: Show) -> None:
        """Write the film of the dream, now over."""
        if self.path is not None and self.dreaming is not None:
            write_film(self.dreaming.growth(self.count), self.path, self.fps)
            show.note(f"its growth is in {self.path}")


def check_images(settings: Settings) -> None:
    """Raise :class:`BigsleepError` unless there are images where ``settings`` say, before any model is waited for."""
    if settings.start is not None:
        check_image(settings.start)
    for text in settings.image_prompt:
        check_image(parse_phrase(text, text).text)
