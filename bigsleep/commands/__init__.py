"""The command: parse, call, print. torch is imported when a dream starts, not before."""

from __future__ import annotations

import signal
import sys
from typing import NoReturn

import click
from click.shell_completion import CompletionItem
from click_default_group import DefaultGroup

from bigsleep.commands.batch import batch_command
from bigsleep.commands.dream import dream_command
from bigsleep.commands.films import morph_command, story_command
from bigsleep.commands.gallery import gallery_command
from bigsleep.commands.models import models_command
from bigsleep.commands.pictures import continue_command, info_command, redo_command, sheet_command
from bigsleep.commands.web import web_command
from bigsleep.errors import BigsleepError, out_of_memory
from bigsleep.streams import open_streams, speak_utf8
from bigsleep.terminal import leave, one_line


class Group(DefaultGroup):
    """A group whose ``--help`` also shows the options of the command that runs by default."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_options(ctx, formatter)
        dream_command = self.commands["dream"]
        with click.Context(dream_command, info_name="dream", parent=ctx) as inner, formatter.section("Dreaming"):
            formatter.write_dl([row for param in dream_command.params if (row := param.get_help_record(inner))])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Commands, and the options of the one that runs by default."""
        options = self.commands["dream"].shell_complete(ctx, incomplete) if incomplete.startswith("-") else []
        return super().shell_complete(ctx, incomplete) + options


@click.group(cls=Group, default="dream", subcommand_metavar="PROMPT... [OPTIONS]")
@click.version_option(package_name="bigsleep", message="%(prog)s %(version)s")
def cli() -> None:
    """Words in, a picture out: search BigGAN's pictures for the one that CLIP finds closest to the PROMPT.

    bigsleep "a beautiful house" prints the path of a PNG. "a|b" dreams of several phrases at once, "a:2" weighs one.
    """


cli.add_command(dream_command)
cli.add_command(batch_command)
cli.add_command(models_command)
for command in (info_command, redo_command, continue_command, sheet_command, morph_command, story_command):
    cli.add_command(command)
cli.add_command(gallery_command)
cli.add_command(web_command)


def main(args: list[str] | None = None, prog_name: str = "bigsleep") -> NoReturn:
    """Run the command and exit: 0 done, 1 the run failed, 2 wrong usage, 129 SIGHUP, 130 Ctrl-C, 143 SIGTERM.

    Without ``args``, as the process's own command: its streams are made reliable.
    """
    if args is None:
        speak_utf8()
        open_streams()
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
    except Exception as error:
        if not out_of_memory(error):
            raise
        fail(f"there is too little memory here ({error}): close other programs", 1, debug)


def fail(message: str, code: int, debug: bool) -> NoReturn:
    """Say in one line what is wrong, and exit; the exception in hand goes on where ``debug`` asks for it."""
    if debug:
        raise
    click.echo(f"bigsleep: {one_line(message)}", err=True)
    sys.exit(code)
