"""Films: from picture to picture, and of a story told in words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from bigsleep.batch import Local, Outcome, jobs_of
from bigsleep.commands.dream import check_images
from bigsleep.commands.options import (
    DreamCommand,
    given,
    length_options,
    preview_option,
    progress_option,
    settings_options,
)
from bigsleep.errors import BigsleepError
from bigsleep.film import check_film, frames_in, write_film
from bigsleep.lists import content_lines, decoded, read_list
from bigsleep.picture import Picture
from bigsleep.prompt import Prompt
from bigsleep.settings import Settings
from bigsleep.terminal import Say, Show, Stop, run, showing

FILM = click.Path(path_type=Path)


@click.command("morph")
@click.argument("pictures", nargs=-1, required=True, metavar="PICTURE...", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=FILM, required=True, help="The film: .mp4, .webm, .gif or .webp.")
@length_options
@click.option("--loop", is_flag=True, help="Go back to the first picture in the end.")
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON, not the film's path.")
@click.option("-0", "--null", is_flag=True, help="End what is printed with NUL, for xargs -0.")
@click.option("-q", "--quiet", is_flag=True, help="Nothing on stderr but errors.")
@click.option("--debug", is_flag=True, help="Show a traceback for errors.")
def morph_command(
    pictures: tuple[Path, ...],
    output: Path,
    seconds: float,
    fps: int,
    loop: bool,
    as_json: bool,
    null: bool,
    quiet: bool,
    debug: bool,
) -> None:
    """Film the way from the first PICTURE by way of the others to the last one."""
    check_film(output)
    say, count = Say(as_json, null), frames_in(seconds, fps, output)
    from bigsleep.loading import Models
    from bigsleep.morph import Path as Way
    from bigsleep.morph import alike

    settings, states = alike([Picture.open(path) for path in pictures], [str(path) for path in pictures])
    try:
        models = Models.load(settings, quiet=quiet)
    except BigsleepError as error:
        raise BigsleepError(f"{error}: the pictures are of {settings.model}", usage=True) from error
    write_film(filmed(Way(states, settings, models, loop).images(count), count, quiet), output, fps)
    say({"frames": count, "seconds": count / fps, "pictures": [str(path) for path in pictures]}, output)


def filmed(images: Any, count: int, quiet: bool) -> Any:
    """``images`` as they come, their number on a terminal."""
    import sys

    from tqdm import tqdm

    return tqdm(images, total=count, desc="frames", disable=quiet or not sys.stderr.isatty(), leave=False)


@click.command("story", cls=DreamCommand)
@click.argument("file", metavar="FILE|-")
@click.option("-o", "--output", type=FILM, required=True, help="The film: .mp4, .webm, .gif or .webp.")
@click.option(
    "--window", type=click.IntRange(1, 60), metavar="N", help="Take the whole text as one sentence, N words at a time."
)
@length_options
@settings_options
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON, not the film's path.")
@click.option("-0", "--null", is_flag=True, help="End what is printed with NUL, for xargs -0.")
@progress_option
@preview_option
@click.option("-q", "--quiet", is_flag=True, help="Nothing on stderr but errors.")
@click.option("--debug", is_flag=True, help="Show a traceback for errors.")
def story_command(
    file: str,
    output: Path,
    window: int | None,
    seconds: float,
    fps: int,
    as_json: bool,
    null: bool,
    progress: str,
    preview: bool,
    quiet: bool,
    debug: bool,
    **options: Any,
) -> None:
    """Film a story: a dream for each line of FILE, each begun where the last one ended."""
    check_film(output)
    settings, say, count = Settings.of(given(options)), Say(as_json, null), frames_in(seconds, fps, output)
    text = decoded(read_list(file), "stdin" if file == "-" else file)
    prompts = windows(text.split(), window) if window else [line for _, line in content_lines(text)]
    if len(prompts) < 2:
        raise BigsleepError(f"{file} holds {len(prompts)} prompts: a story needs two at least, a line each", usage=True)
    for prompt in prompts:
        Prompt.parse(prompt, settings.avoid)
    check_images(settings)
    stop, show = Stop(), showing(progress, quiet, len(prompts), preview=preview)
    from bigsleep.dreamer import read_prompt
    from bigsleep.morph import Path as Way
    from bigsleep.morph import alike
    from bigsleep.origin import Origin, shown_of

    for prompt in prompts:
        read_prompt(prompt, settings)
    runner, told = Local(on_start=show.start, on_step=show.step, note=show.note, quiet=quiet), Told(show)
    models = runner.models(settings)
    for job in jobs_of(prompts, settings, 1):
        if told.pictures:
            # All the latents would hold the dream at what the last line was of: classes are the words' own.
            job = replace(job, origin=Origin(carried=shown_of(told.pictures[-1].latents)))
        run([job], runner, told, stop, show, say, debug)
    found, states = alike(told.pictures, prompts)
    write_film(filmed(Way(states, found, models).images(count), count, quiet or progress == "json"), output, fps)
    say({"frames": count, "seconds": count / fps, "prompts": prompts}, output)


class Told:
    """Keeps the pictures of a story, and no files; ``show`` is told of each."""

    def __init__(self, show: Show) -> None:
        self.pictures: list[Picture] = []
        self.show = show

    def keep(self, outcome: Outcome) -> None:
        if outcome.last:
            self.show.dreamt(outcome)
            self.pictures.append(Picture.read(outcome.png, outcome.job.prompt))

    def add_failure(self, outcome: Outcome) -> None:
        assert outcome.error is not None
        raise outcome.error


def windows(words: list[str], length: int) -> list[str]:
    """The words ``length`` at a time, each window half a length on from the last.

    >>> windows("a b c d e".split(), 3)
    ['a b c', 'c d e']
    """
    step = max(1, (length + 1) // 2)
    last = max(0, len(words) - length)
    return [" ".join(words[begin : begin + length]) for begin in [*range(0, last, step), last] if words]
