"""The command: parse, call, print. torch is imported when a dream starts, not before."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import Field, fields
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

import click
from click_default_group import DefaultGroup

from bigsleep.errors import BigsleepError
from bigsleep.picture import Picture, check_target, slug_of
from bigsleep.prompt import Prompt
from bigsleep.settings import Settings

if TYPE_CHECKING:
    from bigsleep.dreamer import Dream, Models, Progress, Snapshot


class Group(DefaultGroup):
    """A group whose ``--help`` also shows the options of the command that runs by default."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_options(ctx, formatter)
        dream_command = self.commands["dream"]
        with click.Context(dream_command, info_name="dream", parent=ctx) as inner, formatter.section("Dreaming"):
            formatter.write_dl([row for param in dream_command.params if (row := param.get_help_record(inner))])


@click.group(cls=Group, default="dream", subcommand_metavar="PROMPT... [OPTIONS]")
@click.version_option(version("bigsleep"), message="%(prog)s %(version)s")
def cli() -> None:
    """Words in, a picture out: search BigGAN's pictures for the one that CLIP finds closest to the PROMPT.

    bigsleep "a beautiful house" prints the path of a PNG. "a|b" dreams of several phrases at once, "a:2" weighs one.
    """


def settings_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add an option to ``command`` for each of the ``Settings``. What is not given is not passed on."""
    for item in reversed(fields(Settings)):
        command = settings_option(item)(command)
    return command


def settings_option(item: Field[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    rules = item.metadata
    parse = rules["parse"]
    shown = rules["shown"] or (item.default if item.default not in (None, ()) else None)
    choices = "|".join(map(str, rules["choices"])) if rules["choices"] else None
    return click.option(
        "--" + item.name.replace("_", "-"),
        type=str if parse else rules["kind"],
        callback=(lambda _c, _p, value: parsed(parse, value)) if parse else None,
        multiple=rules["many"],
        default=None,
        metavar=choices or {int: "N", float: "X"}.get(rules["kind"], "TEXT") if not parse else "TIME",
        help=rules["help"] + (f"  [default: {shown}]" if shown is not None else ""),
    )


def parsed(parse: Callable[[str], Any], value: str | None) -> Any:
    try:
        return None if value is None else parse(value)
    except ValueError as error:
        raise click.BadParameter(f"{value!r}: {error}") from None


@cli.command("dream")
@click.argument("prompts", nargs=-1, required=True, metavar="PROMPT...")
@settings_options
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write exactly this file.")
@click.option(
    "--output-dir",
    type=click.Path(path_type=Path),
    default=Path("."),
    help="Folder for pictures named by their prompts.",
)
@click.option("--overwrite", is_flag=True, help="Replace a picture of the same name instead of numbering the new one.")
@click.option("--save-progress", is_flag=True, help="Keep every snapshot, as NAME.0050.png and so on.")
@click.option("-q", "--quiet", is_flag=True, help="Nothing on stderr but errors.")
@click.option("--debug", is_flag=True, help="Show a traceback for errors.")
def dream_command(
    prompts: tuple[str, ...],
    output: Path | None,
    output_dir: Path,
    overwrite: bool,
    save_progress: bool,
    quiet: bool,
    debug: bool,  # read by main, which sees the exceptions
    **options: Any,
) -> None:
    """Dream of each PROMPT and print the path of its picture."""
    settings = Settings.of({name: value for name, value in options.items() if value not in (None, ())})
    for prompt in prompts:
        Prompt.parse(prompt, settings.avoid)
    if output is not None and len(prompts) > 1:
        raise BigsleepError(f"-o names one file, but there are {len(prompts)} prompts: use --output-dir", usage=True)
    targets = [output or output_dir / f"{slug_of(prompt)}.png" for prompt in prompts]
    for target in targets:
        check_target(target)
    stop = Stop()
    show = Show(quiet)
    models: Models | None = None
    from bigsleep.dreamer import Dream, Models, read_prompt

    for prompt in prompts:
        read_prompt(prompt, settings)
    for prompt, target in zip(prompts, targets, strict=True):
        models = models or Models.load(settings, show.note, quiet)
        dreaming = Dream(prompt, settings, models=models, on_step=show.step)
        with stop.ends(dreaming):
            show.begin(dreaming)
            path = keep(dreaming, target, overwrite, save_progress, show)
            show.end()
            click.echo(path)
            sys.stdout.flush()
        stop.leave_if_asked()


def keep(dreaming: Dream, target: Path, overwrite: bool, save_progress: bool, show: Show) -> Path:
    """Run a dream, each snapshot into its file; the path that ends up holding the best one."""
    path = None
    for snapshot in dreaming:
        picture = dreaming.picture(snapshot)
        path = write(picture, path or target, overwrite or path is not None)
        if save_progress:
            write(picture, path.with_name(f"{path.stem}.{snapshot.step:04d}.png"), overwrite)
        show.snapshot(snapshot, path)
    assert path is not None and dreaming.best is not None
    return write(dreaming.picture(dreaming.best), path, overwrite=True)


def write(picture: Picture, path: Path, overwrite: bool) -> Path:
    try:
        if not overwrite:
            return picture.save_new(path)
        picture.save(path)
        return path
    except OSError as error:
        raise BigsleepError(f"{path} could not be written: {error.strerror or error}") from error


class Stop:
    """Ctrl-C and SIGTERM: end the dream in progress after its step; a second one, or one with no dream, ends at once."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self.dreaming: Dream | None = None
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self.handle)

    def ends(self, dreaming: Dream) -> Stop:
        self.dreaming = dreaming
        return self

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None:
        self.dreaming = None

    def handle(self, number: int, _frame: FrameType | None) -> None:
        if self.signal is not None:
            leave(128 + number)
        self.signal = number
        if self.dreaming is None:
            raise SystemExit(128 + number)  # unwinds, so that a download in progress takes its temporary file along
        self.dreaming.stop()

    def leave_if_asked(self) -> None:
        if self.signal is not None:
            leave(128 + self.signal)


def leave(code: int) -> NoReturn:
    """Exit without waiting for what torch may be doing in other threads."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(code)


class Show:
    """Progress on stderr: a bar where it is a terminal, a line per snapshot where not, nothing when quiet."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self.terminal = sys.stderr.isatty()
        self.bar: Any = None
        self.last: Progress | None = None

    def note(self, line: str) -> None:
        if not self.quiet:
            click.echo(f"bigsleep: {line}", err=True)

    def begin(self, dreaming: Dream) -> None:
        settings = dreaming.settings
        self.last = None
        self.note(f"{dreaming.prompt.text!r} with {settings.model}, {settings.clip}, seed {settings.seed}")
        if self.terminal and not self.quiet:
            from tqdm import tqdm

            shape = "{percentage:3.0f}%|{bar}| {desc} [{elapsed}<{remaining}{postfix}]"
            self.bar = tqdm(total=1.0, bar_format=shape, file=sys.stderr, mininterval=0, miniters=0, leave=True)
        self.total = "" if settings.steps is None else f"/{settings.steps}"

    def step(self, progress: Progress) -> None:
        self.last = progress
        if self.bar is not None:
            score = "" if progress.score is None else f" score {progress.score:.3f}"
            rate = f"{progress.step / progress.seconds:.2f} steps/s"
            self.bar.set_description_str(f"step {progress.step}{self.total}{score}", refresh=False)
            self.bar.set_postfix_str(rate, refresh=False)
            self.bar.update(progress.share - self.bar.n)

    def snapshot(self, snapshot: Snapshot, path: Path) -> None:
        if self.quiet or self.terminal:
            return
        left = f", {self.last.seconds_left:.0f} s left" if self.last and self.last.share < 1 else ""
        click.echo(f"step {snapshot.step}{self.total} score {snapshot.score:.3f}{left} {path}", err=True)

    def end(self) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None


def main(args: list[str] | None = None, prog_name: str = "bigsleep") -> NoReturn:
    """Run the command and exit: 0 done, 1 the run failed, 2 wrong usage, 130 Ctrl-C, 143 SIGTERM."""
    arguments = sys.argv[1:] if args is None else args
    debug = "--debug" in arguments
    try:
        code = cli.main(args=arguments, prog_name=prog_name, standalone_mode=False)
        sys.stdout.flush()
        sys.exit(code if isinstance(code, int) else 0)
    except BigsleepError as error:
        fail(str(error), 2 if error.usage else 1, debug)
    except click.exceptions.NoArgsIsHelpError:
        fail('say what to dream of, as in bigsleep "a beautiful house"; bigsleep --help lists the options', 2, debug)
    except click.ClickException as error:
        fail(error.format_message(), error.exit_code, debug)
    except (KeyboardInterrupt, click.Abort):
        leave(128 + signal.SIGINT)
    except BrokenPipeError:
        # The reader of our stdout has gone: its pictures are saved, and there is nobody to tell.
        leave(0)


def fail(message: str, code: int, debug: bool) -> NoReturn:
    """Say in one line what is wrong, and exit; the exception in hand goes on where ``debug`` asks for it."""
    if debug:
        raise
    click.echo(f"bigsleep: {' '.join(message.split())}", err=True)
    sys.exit(code)
