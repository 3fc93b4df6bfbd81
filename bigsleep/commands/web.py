"""``bigsleep web``: a page that dreams, on this machine."""

from __future__ import annotations

import ipaddress
import socket
from pathlib import Path
from typing import Any

import click

from bigsleep.commands.options import DreamCommand, given, offline_option, settings_options
from bigsleep.errors import BigsleepError
from bigsleep.picture import check_target
from bigsleep.settings import Settings


@click.command("web", cls=DreamCommand)
@settings_options
@click.option(
    "--output-dir",
    type=click.Path(path_type=Path),
    default=Path("."),
    help="Folder for pictures; its history is shown.",
)
@click.option(
    "--host",
    default="127.0.0.1",
    help="Address to listen on; any but this machine's own asks for --password.  [default: 127.0.0.1]",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=7860,
    metavar="N",
    help="Port; 0 takes a free one.  [default: 7860]",
)
@click.option(
    "--password",
    envvar="BIGSLEEP_PASSWORD",
    help="Let in only who knows it, whatever their name; also $BIGSLEEP_PASSWORD.",
)
@offline_option
@click.option("--debug", is_flag=True, help="Show a traceback for errors.")
def web_command(output_dir: Path, host: str, port: int, password: str | None, debug: bool, **options: Any) -> None:
    """Dream in a page, and print its address. Options of a dream are what the page begins with."""
    defaults = given(options)
    Settings.of(defaults)
    check_target(output_dir / "picture.png")
    if not is_loopback(host) and not password:
        raise BigsleepError(
            f"--host {host} lets others in: give --password too, or leave both out for this machine alone", usage=True
        )
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError:
        raise BigsleepError("the page needs more than is installed: pip install 'bigsleep[web]'", usage=True) from None
    listening = listen(host, port)
    from bigsleep.door import Server
    from bigsleep.web import application

    names = ["127.0.0.1", "localhost", "[::1]", host]
    server = Server(application(output_dir, defaults, ["*"] if password else names, password))
    shown = f"[{host}]" if ":" in host else host
    click.echo(f"http://{shown}:{listening.getsockname()[1]}/")
    server.run(sockets=[listening])


def is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens, or a :class:`BigsleepError` where none can."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        raise BigsleepError(
            f"cannot listen on {host}:{port} ({error.strerror}): choose another with --host or --port", usage=True
        ) from None
