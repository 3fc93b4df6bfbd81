"""``bigsleep models``: which models there are, and their files fetched, checked and removed."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import click

from bigsleep.commands.options import model_names, offline_option
from bigsleep.errors import BigsleepError


def names_argument(required: bool = True) -> Any:
    return click.argument("names", nargs=-1, required=required, metavar="NAME...", shell_complete=model_names)


quiet_option = click.option("-q", "--quiet", is_flag=True, help="Nothing on stderr but errors.")
debug_option = click.option("--debug", is_flag=True, expose_value=False, help="Show a traceback for errors.")


@click.group("models", invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON for each model.")
@debug_option
@click.pass_context
def models_command(context: click.Context, as_json: bool) -> None:
    """List the models, with size, licence, state and place; or fetch, verify, remove or find their files.

    They lie in BIGSLEEP_CACHE, else in the platform's cache folder, or where another program has left them.
    BIGSLEEP_MIRROR names an address or a folder that has NAME/FILE, and is tried first. With BIGSLEEP_OFFLINE=1 the
    network is not used.
    """
    if context.invoked_subcommand is not None:
        return
    from bigsleep.models.shelf import names, standing

    rows = [standing(name) for name in names()]
    if as_json:
        for row in rows:
            click.echo(json.dumps(asdict(row), ensure_ascii=False))
        return
    head = ("NAME", "KIND", "SIZE", "LICENCE", "STATE", "WHERE, OR FROM WHERE")
    table = [
        (row.name, row.kind, f"{row.size / 1e6:,.0f} MB", row.licence, row.state, row.path or row.origin or "")
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(head, *table, strict=True)]
    for line in (head, *table):
        cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
        cells[2] = line[2].rjust(widths[2])
        click.echo("  ".join(cells).rstrip())


@models_command.command("download")
@names_argument(required=False)
@click.option("--all", "everything", is_flag=True, help="All models.")
@offline_option
@quiet_option
@debug_option
def download_command(names: tuple[str, ...], everything: bool, quiet: bool) -> None:
    """Fetch models, and print where they lie.

    What is here already is not fetched again. A download that was interrupted goes on where it stopped. Where no address can be reached, the error says which
    file to put where by hand.
    """
    from bigsleep.models.published import PUBLISHED
    from bigsleep.models.shelf import check_name, path_of
    from bigsleep.models.weights import WeightsMissing, find

    if not names and not everything:
        total = sum(model.size for model in PUBLISHED.values()) / 1e9
        raise BigsleepError(f"name the models to download, or give --all for {total:.0f} GB", usage=True)
    wanted = list(dict.fromkeys((*names, *(PUBLISHED if everything else ()))))
    for name in wanted:
        check_name(name)
    failed = 0
    for name in wanted:
        try:
            click.echo(find(PUBLISHED[name], quiet) if name in PUBLISHED else path_of(name))
        except WeightsMissing as error:
            if len(wanted) == 1:
                raise
            failed += 1
            click.echo(f"bigsleep: {error}", err=True)
    if failed:
        raise BigsleepError(f"{failed} of {len(wanted)} models could not be fetched")


@models_command.command("verify")
@names_argument(required=False)
@debug_option
def verify_command(names: tuple[str, ...]) -> None:
    """Hash files again, and print how each stands.

    Without a NAME those of all models that are here. A damaged file in our cache is set aside, not deleted; the model is fetched again when it is needed.
    """
    from bigsleep.models.shelf import check_name, standing, verify
    from bigsleep.models.shelf import names as all_names

    for name in names:
        check_name(name)
    lost = 0
    for name in names or all_names():
        damaged = verify(name)
        lost += len(damaged)
        for path in damaged:
            click.echo(f"{name}\tdamaged\t{path}")
        row = standing(name)
        if row.path is not None and not damaged:
            click.echo(f"{name}\t{row.state}\t{row.path}")
        elif names and not damaged:
            raise BigsleepError(f"{name} is {row.state}: bigsleep models download {name} fetches it")
    if lost:
        raise BigsleepError(f"{lost} files are damaged")


@models_command.command("remove")
@names_argument()
@debug_option
def remove_command(names: tuple[str, ...]) -> None:
    """Delete files from our cache, and print which.

    Those that other programs have left behind stay.
    """
    from bigsleep.models.shelf import published, remove

    for name in names:
        published(name)
    for name in names:
        for path in remove(name):
            click.echo(path)


@models_command.command("path")
@click.argument("name", metavar="NAME", shell_complete=model_names)
@debug_option
def path_command(name: str) -> None:
    """Print where a model's file lies."""
    from bigsleep.models.shelf import path_of

    click.echo(path_of(name))
