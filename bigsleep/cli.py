"""The command: parse, call, print. torch is imported when a dream starts, not before."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import Field, fields, replace
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import click
from click_default_group import DefaultGroup

from bigsleep.batch import Job, Local, Outcome, decoded, jobs_of, models_key, read_jobs, reason, shard_of
from bigsleep.errors import BigsleepError
from bigsleep.picture import check_target, name_of, save, save_new
from bigsleep.prompt import Prompt
from bigsleep.settings import OPTIONS, Settings, flag_of

if TYPE_CHECKING:
    from bigsleep.dreamer import Dream, Progress


class Group(DefaultGroup):
    """A group whose ``--help`` also shows the options of the command that runs by default."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_options(ctx, formatter)
        dream_command = self.commands["dream"]
        with click.Context(dream_command, info_name="dream", parent=ctx) as inner, formatter.section("Dreaming"):
            formatter.write_dl([row for param in dream_command.params if (row := param.get_help_record(inner))])


class Batch(click.Command):
    """A command whose ``--help`` leaves the options of a dream to ``bigsleep --help``."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [
            row for param in self.get_params(ctx) if param.name not in OPTIONS and (row := param.get_help_record(ctx))
        ]
        with formatter.section("Options"):
            formatter.write_dl(rows)
        formatter.write_paragraph()
        formatter.write_text("All options of a dream are taken too: bigsleep --help lists them.")


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
    rules, flag = item.metadata, flag_of(item.name)
    if rules["kind"] is bool:
        return click.option(flag, is_flag=True, default=None, help=rules["help"])
    parse = rules["parse"]
    shown = rules["shown"] or (item.default if item.default not in (None, ()) else None)
    choices = "|".join(map(str, rules["choices"])) if rules["choices"] else None
    return click.option(
        flag,
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


def list_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of where pictures go and what is said of them."""
    options = [
        click.option("--output-dir", type=click.Path(path_type=Path), default=Path("."), help="Folder for pictures."),
        click.option("--name", default="{slug}", metavar="TEMPLATE",
                     help="File names, of {index}, {variation}, {slug}, {seed} and {model}.  [default: {slug}]"),
        click.option("--variations", type=click.IntRange(1, 1_000_000), default=1, metavar="K",
                     help="Pictures of each prompt, each with a seed of its own."),
        click.option("--parallel", type=click.IntRange(1, 4096), default=1, metavar="N",
                     help="Dreams that share each step of the models; faster, and more memory."),
        click.option("--json", "as_json", is_flag=True, help="Print a line of JSON for each picture, not its path."),
        click.option("-0", "--null", is_flag=True, help="End what is printed with NUL, for xargs -0."),
        click.option("-q", "--quiet", is_flag=True, help="Nothing on stderr but errors."),
        click.option("--debug", is_flag=True, help="Show a traceback for errors."),
    ]  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


def given(options: dict[str, Any]) -> dict[str, Any]:
    """The settings among ``options`` that the user gave."""
    return {name: value for name, value in options.items() if value not in (None, ())}


@cli.command("dream")
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
    stop, show = Stop(), Show(quiet, len(jobs))
    from bigsleep.dreamer import read_prompt

    for prompt in prompts:
        read_prompt(prompt, settings)
    runner = Local(parallel, snapshots=True, on_start=show.start, on_step=show.step, note=show.note, quiet=quiet)
    runner.models(settings)
    run(jobs, runner, files, stop, show, Say(as_json, null), debug)


@cli.command("batch", cls=Batch)
@click.argument("file", metavar="FILE|-", required=False)
@settings_options
@list_options
@click.option("--force", is_flag=True, help="Delete the list's pictures and records in the folder, and start over.")
@click.option(
    "--shard",
    metavar="N/M",
    callback=lambda _c, _p, text: parse_shard(text),
    help="Only every M-th prompt, from the N-th on.",
)
@click.option("--ray", "address", is_flag=False, flag_value="", metavar="[ADDRESS]",
              help="Dream on a Ray cluster; without an address, on all GPUs or CPUs of this machine.")  # fmt: skip
@click.option(
    "--cpus-per-worker",
    type=click.IntRange(1),
    default=1,
    metavar="N",
    help="CPUs of a Ray worker without GPU.  [default: 1]",
)
def batch_command(
    file: str | None,
    output_dir: Path,
    name: str,
    variations: int,
    parallel: int,
    as_json: bool,
    null: bool,
    quiet: bool,
    debug: bool,
    force: bool,
    shard: tuple[int, int] | None,
    address: str | None,
    cpus_per_worker: int,
    **options: Any,
) -> None:
    """Dream of each prompt of a list, and go on where it stopped when told so again.

    FILE has a prompt a line, or is CSV or JSON Lines with a "prompt" and any options, by name, for each row.
    """
    if file is None:
        taken = f", before --ray, which took {address} for its address" if address else ""
        raise BigsleepError(f"no list to dream of: give a FILE, or - for stdin{taken}", usage=True)
    settings = Settings.of(given(options))
    name_of(name, 1, 1, "a house", 0, settings.model)
    jobs = read_jobs(read_list(file), "stdin" if file == "-" else file, given(options), variations)
    if shard:
        jobs = shard_of(jobs, *shard)
    make_folder(output_dir)
    stop, say = Stop(), Say(as_json, null)
    from bigsleep.manifest import Manifest

    with Manifest(output_dir, shard, name) as manifest:
        if force:
            manifest.forget(jobs)
        for record in manifest.adopt(jobs):
            say(record, output_dir / record["path"])
        left = [job for job in jobs if job.key not in manifest.done]
        show = Show(quiet, len(jobs), len(jobs) - len(left))
        show.note(f"{len(jobs)} pictures to make" + (f", {len(jobs) - len(left)} done before" if show.before else ""))
        common = settings if any(models_key(job.settings) == models_key(settings) for job in left) else None
        if not left:
            return
        if address is None:
            local = Local(parallel, on_step=show.step, note=show.note, quiet=quiet)
            if common:
                local.models(common)
            run(left, local, manifest, stop, show, say, debug)
            return
        from bigsleep.cluster import Cluster

        with Cluster(address, common, parallel, cpus_per_worker, show.note) as cluster:
            run(left, cluster, manifest, stop, show, say, debug)


def parse_shard(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise click.BadParameter(f"{text!r}: write it like 3/8, the third of eight")
    return int(number), int(count)


def read_list(file: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise BigsleepError(f"the list {file} cannot be read: {error.strerror}", usage=True) from None


def make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BigsleepError(f"the folder {folder} cannot be made: {error.strerror}", usage=True) from None
    check_target(folder / "picture.png")


class Runner(Protocol):
    """What turns jobs into outcomes, here or elsewhere."""

    def outcomes(self, jobs: list[Job]) -> Iterator[Outcome]: ...

    def stop(self) -> None: ...


class Keeper(Protocol):
    """What puts outcomes where they belong."""

    def keep(self, outcome: Outcome) -> Path | None: ...

    def add_failure(self, outcome: Outcome) -> None: ...


def run(jobs: list[Job], runner: Runner, keeper: Keeper, stop: Stop, show: Show, say: Say, debug: bool) -> None:
    """Run ``jobs``, keep what comes and print where it is; a :class:`BigsleepError` at the end if some have failed."""
    with stop.ends(runner.stop), show:
        for outcome in runner.outcomes(jobs):
            try:
                if outcome.error is not None:
                    raise outcome.error
                path = keeper.keep(outcome)
            except Exception as error:
                keeper.add_failure(replace(outcome, error=error))
                if outcome.last:
                    show.failed(outcome.job, error, debug)
                continue
            if path is not None:
                show.saved(outcome, path)
                if outcome.last:
                    with show.paused():
                        say(outcome.record(str(path)), path)
    stop.leave_if_asked()
    if show.lost:
        raise BigsleepError(f"{show.lost} of {show.total} pictures could not be made")


class Say:
    """Results on stdout: a path or a record for each picture, out at once."""

    def __init__(self, as_json: bool, null: bool) -> None:
        self.as_json, self.end = as_json, "\0" if null else "\n"
        self.stream = sys.stdout

    def __call__(self, record: dict[str, Any], path: Path) -> None:
        text = json.dumps(record | {"path": str(path)}, ensure_ascii=False) if self.as_json else str(path)
        try:
            self.stream.write(text + self.end)
            self.stream.flush()
        except BrokenPipeError:
            # The reader has gone: the work is saved, there is nobody to tell, and nothing to flush at the end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())
            raise SystemExit(0) from None


class Files:
    """The files of dreams that are shown as they go: each snapshot replaces the one before."""

    def __init__(
        self, output: Path | None, folder: Path, template: str, overwrite: bool, save_progress: bool, alone: bool
    ) -> None:
        self.output, self.folder, self.template = output, folder, template
        self.put = put_over if overwrite else save_new
        self.save_progress, self.alone = save_progress, alone
        self.written: dict[str, tuple[Path, Path]] = {}  # by job: the name that was wanted and the one that was free

    def target(self, job: Job, seed: int, model: str) -> Path:
        return self.output or self.folder / name_of(self.template, job.index, job.variation, job.prompt, seed, model)

    def keep(self, outcome: Outcome) -> Path:
        """Write a snapshot to its job's file; where that is. A name with the seed changes with the best seed."""
        settings = outcome.recipe["settings"]
        wanted = self.target(outcome.job, settings["seed"], settings["model"])
        before, path = self.written.get(outcome.job.key, (None, None))
        if path is not None and before == wanted:
            save(outcome.png, path)
        else:
            old, path = path, self.put(outcome.png, wanted)
            if old is not None:
                old.unlink(missing_ok=True)
        self.written[outcome.job.key] = wanted, path
        if self.save_progress and not outcome.last:
            self.put(outcome.png, path.with_name(f"{path.stem}.{outcome.recipe['step']:04d}.png"))
        return path

    def add_failure(self, outcome: Outcome) -> None:
        """There is no record to keep; a failure with no others to go on with is raised."""
        if self.alone and outcome.error is not None:
            raise outcome.error


def put_over(png: bytes, path: Path) -> Path:
    save(png, path)
    return path


class Stop:
    """Ctrl-C and SIGTERM: end the dreams in progress after their step; a second one, or one with none, ends at once."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self.halt: Callable[[], None] | None = None
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self.handle)

    def ends(self, halt: Callable[[], None]) -> Stop:
        self.halt = halt
        return self

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None:
        self.halt = None

    def handle(self, number: int, _frame: FrameType | None) -> None:
        if self.signal is not None:
            leave(128 + number)
        self.signal = number
        if self.halt is None:
            raise SystemExit(128 + number)  # unwinds, so that a download in progress takes its temporary file along
        self.halt()

    def leave_if_asked(self) -> None:
        if self.signal is not None:
            raise SystemExit(128 + self.signal)


def leave(code: int) -> NoReturn:
    """Exit without waiting for what torch may be doing in other threads."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(code)


class Show:
    """Progress on stderr: a bar where it is a terminal, a line per snapshot or picture where not, nothing when quiet."""

    def __init__(self, quiet: bool, total: int, before: int = 0) -> None:
        self.quiet, self.total, self.before = quiet, total, before
        self.terminal = sys.stderr.isatty()
        self.bar: Any = None
        self.ended = 0  # in this run
        self.lost = 0
        self.running: dict[str, Progress] = {}
        self.began = time.monotonic()

    def note(self, line: str) -> None:
        if not self.quiet:
            with self.paused():
                click.echo(f"bigsleep: {line}", err=True)

    def __enter__(self) -> None:
        self.began = time.monotonic()
        if self.terminal and not self.quiet and self.total > self.before:
            from tqdm import tqdm

            shape = "{percentage:3.0f}%|{bar}| {desc} [{elapsed}<{remaining}{postfix}]"
            self.bar = tqdm(
                total=self.total, initial=self.before, bar_format=shape, file=sys.stderr, miniters=0, mininterval=0
            )

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    def paused(self) -> contextlib.AbstractContextManager[None]:
        """The bar out of the way of what is printed meanwhile."""
        return contextlib.nullcontext() if self.bar is None else self.bar.external_write_mode()

    def start(self, job: Job, dreaming: Dream) -> None:
        if self.total == 1:
            settings = dreaming.settings
            self.of = "" if settings.steps is None else f"/{settings.steps}"
            self.note(f"{dreaming.prompt.text!r} with {settings.model}, {settings.clip}, seed {settings.seed}")

    def step(self, job: Job, progress: Progress) -> None:
        self.running[job.key] = progress
        if self.bar is None:
            return
        if self.total == 1:
            score = "" if progress.score is None else f" score {progress.score:.3f}"
            self.bar.set_description_str(f"step {progress.step}{self.of}{score}", refresh=False)
            self.bar.set_postfix_str(f"{progress.step / progress.seconds:.2f} steps/s", refresh=False)
        self.draw()

    def draw(self) -> None:
        if self.bar is None:
            return
        if self.total > 1:
            failed = f", {self.lost} failed" if self.lost else ""
            self.bar.set_description_str(f"{self.before + self.ended}/{self.total}{failed}", refresh=False)
        self.bar.update(self.before + self.made() - self.bar.n)

    def made(self) -> float:
        """Pictures of this run, those under way by their share."""
        return self.ended + sum(progress.share for progress in self.running.values())

    def end(self, job: Job) -> None:
        self.running.pop(job.key, None)
        self.ended += 1
        self.draw()

    def saved(self, outcome: Outcome, path: Path) -> None:
        progress = self.running.get(outcome.job.key)
        if outcome.last and self.total > 1:
            self.end(outcome.job)
        if self.quiet or self.terminal or outcome.last != (self.total > 1):
            return
        score = f"score {outcome.recipe['score']:.3f}"
        if self.total == 1:
            left = f", {progress.seconds_left:.0f} s left" if progress and outcome.share < 1 else ""
            click.echo(f"step {outcome.recipe['step']}{self.of} {score}{left} {path}", err=True)
        else:
            seconds = (time.monotonic() - self.began) * (self.total - self.before - self.ended) / self.made()
            left = f", {timedelta(seconds=round(seconds))} left" if seconds else ""
            click.echo(f"{self.before + self.ended}/{self.total} {score}{left} {path}", err=True)

    def failed(self, job: Job, error: Exception, debug: bool) -> None:
        self.lost += 1
        self.end(job)
        with self.paused():
            if debug:
                traceback.print_exception(error)
            click.echo(f"bigsleep: {job.prompt[:60]!r}: {' '.join(reason(error).split())}", err=True)


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


def fail(message: str, code: int, debug: bool) -> NoReturn:
    """Say in one line what is wrong, and exit; the exception in hand goes on where ``debug`` asks for it."""
    if debug:
        raise
    click.echo(f"bigsleep: {' '.join(message.split())}", err=True)
    sys.exit(code)
