"""The command line: each command is a thin file that loads, calls, renders, and returns an exit code.

Exit codes: 0 fine, 1 a plan does not fit, 2 bad input. Errors go to stderr as `where: what` and `help: what to try`;
nothing is on stdout then. Start-up is part of the product: only the command that runs is loaded, and it imports what
it needs when it runs.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from io import TextIOWrapper
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from kvcalc.errors import KvcalcError, UnknownNameError
from kvcalc.foreign import visible

OK, BAD_INPUT, INTERRUPTED = 0, 2, 130
COMMANDS = ("size", "compare", "fit", "check", "verify", "explain-log", "presets", "methods", "engines", "schema")
"""Files of this folder that are commands, in the order of help, with - for _; each has its Typer as `app`."""


class _Commands(TyperGroup):
    """Commands that are imported when they are asked for."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            raise UnknownNameError.among("command", cmd_name, COMMANDS, see="`kvcalc --help` describes them")
        command = typer.main.get_command(import_module(f"kvcalc.cli.{cmd_name.replace('-', '_')}").app)
        command.name = cmd_name
        return command


app = typer.Typer(
    name="kvcalc",
    cls=_Commands,
    help="How many bytes the KV cache of a language model takes: exact, explained, and checked in CI.",
    epilog="Example: kvcalc size --preset r1 --tokens 100000",
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help: it needs no rich, which would double the time it takes
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from kvcalc import __version__

        typer.echo(f"kvcalc {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line and returns its exit code; prints errors instead of raising them."""
    for stream in (sys.stdout, sys.stderr):
        # A name that the terminal's character set lacks is printed as an escape, not as a crash.
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = app(args=arguments, prog_name="kvcalc", standalone_mode=False)
        sys.stdout.flush()
    except KvcalcError as error:
        return _print_error(str(error), error.help, error.exit_code)
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our output went away; there is nobody to tell
        return OK
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except Exception as error:
        # Usage errors of the parsing library, whose class has moved from release to release; each can say itself.
        if not hasattr(error, "format_message"):
            raise
        return _print_usage_error(error)
    return code if isinstance(code, int) else OK


def run() -> NoReturn:
    """Entry point of the console script."""
    raise SystemExit(main())


def _print_error(what: str, help: str, code: int) -> int:
    print(what, file=sys.stderr)
    if help:
        print(f"help: {visible(help)}", file=sys.stderr)
    return code


def _print_usage_error(error: Any) -> int:
    command = error.ctx.command_path if error.ctx else "kvcalc"
    message = error.format_message()
    if message.startswith("Usage:"):  # no command was named: the message is the whole help
        return _print_error(message, "", BAD_INPUT)
    what = f"{command}: {message[:1].lower()}{message[1:].rstrip('.')}"
    return _print_error(visible(what), f"`{command} --help` shows how", BAD_INPUT)
