"""``bigsleep batch``: a prompt list, here or on Ray, that goes on where it stopped."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bigsleep.batch import models_key
from bigsleep.commands.options import DreamCommand, ListOptions, expand_option, given, list_options, settings_options
from bigsleep.errors import BigsleepError
from bigsleep.keep import Keeper
from bigsleep.lists import read_jobs, read_list, shard_of
from bigsleep.picture import check_target, name_of
from bigsleep.settings import Settings
from bigsleep.terminal import Stop, run

if TYPE_CHECKING:
    from bigsleep.gallery import Gallery


@click.command("batch", cls=DreamCommand)
@click.argument("file", metavar="FILE|-", required=False)
@settings_options
@list_options
@expand_option
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
@click.option("--gallery", is_flag=True, help="Keep a page of the folder's pictures up to date, as index.html in it.")
def batch_command(
    file: str | None,
    common: ListOptions,
    expand: bool,
    force: bool,
    shard: tuple[int, int] | None,
    address: str | None,
    cpus_per_worker: int,
    gallery: bool,
    **options: Any,
) -> None:
    """Dream of each prompt of a list, and go on where it stopped when told so again.

    FILE has a prompt a line, or is CSV or JSON Lines with a "prompt" and any options, by name, for each row.
    """
    if file is None:
        taken = f", before --ray, which took {address} for its address" if address else ""
        raise BigsleepError(f"no list to dream of: give a FILE, or - for stdin{taken}", usage=True)
    if gallery and common.no_recipe:
        raise BigsleepError("--gallery shows what recipes say: leave out --no-recipe", usage=True)
    settings = Settings.of(given(options))
    name_of(common.name, 1, 1, "a house", 0, settings.model)
    jobs = read_jobs(read_list(file), "stdin" if file == "-" else file, given(options), common.variations, expand)
    if shard:
        jobs = shard_of(jobs, *shard)
    folder = common.output_dir
    make_folder(folder)
    stop, say = Stop(), common.say()
    from bigsleep.gallery import Gallery
    from bigsleep.manifest import Manifest

    page = Gallery(folder, folder / "index.html") if gallery else None
    with Manifest(folder, shard, common.name) as manifest, kept_up(manifest, page) as kept:
        if force:
            manifest.forget(jobs)
        for record in manifest.adopt(jobs):
            say(record, folder / record["path"])
        left = [job for job in jobs if job.key not in manifest.done]
        show = common.show(len(jobs), len(jobs) - len(left))
        show.note(f"{len(jobs)} pictures to make" + (f", {len(jobs) - len(left)} done before" if show.before else ""))
        keeper = common.keeper(kept)
        shared = settings if any(models_key(job.settings) == models_key(settings) for job in left) else None
        if not left:
            return
        if address is None:
            local = common.runner(show)
            if shared:
                local.models(shared)
            run(left, local, keeper, stop, show, say, common.debug)
            return
        from bigsleep.cluster import Cluster

        with Cluster(address, shared, common.parallel, cpus_per_worker, show.note) as cluster:
            run(left, cluster, keeper, stop, show, say, common.debug)


def kept_up(manifest: Keeper, page: Gallery | None) -> AbstractContextManager[Keeper]:
    from bigsleep.gallery import KeptUp

    return nullcontext(manifest) if page is None else KeptUp(manifest, page)


def parse_shard(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise click.BadParameter(f"{text!r}: write it like 3/8, the third of eight")
    return int(number), int(count)


def make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BigsleepError(f"the folder {folder} cannot be made: {error.strerror}", usage=True) from None
    check_target(folder / "picture.png")
