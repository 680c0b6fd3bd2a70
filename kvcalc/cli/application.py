"""The typer application, made from the rows of `options.py`: help, completion, and usage errors."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from inspect import Parameter, Signature
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from kvcalc.cli.commands import NAMES, Command, command_named
from kvcalc.cli.options import COUNT, FLAG, TEXTS, Option
from kvcalc.cli.spellings import others
from kvcalc.errors import InvalidValueError, KvcalcError, UnknownNameError
from kvcalc.units import shown

_OF_COMMANDS = "COMMAND [ARGS]"
_CONTEXT = {"help_option_names": ["-h", "--help"]}


def run_line(line: Sequence[str]) -> int:
    """Runs a command line. Raises KvcalcError if it cannot be parsed."""
    try:
        code = _whole()(args=line, prog_name="kvcalc", standalone_mode=False)
    except Exception as error:
        # Usage errors of the parsing library; the class moved between releases, but each formats its own message.
        if not hasattr(error, "format_message"):
            raise
        message = error.format_message()
        if not message.startswith("Usage:"):
            raise _usage_error(error, message) from None
        print(message, file=sys.stderr)  # no command given: the message is the complete help
        return KvcalcError.exit_code
    return code if isinstance(code, int) else 0


class _Group(TyperGroup):
    """Commands, each described by the first sentence of its help."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        command = super().get_command(ctx, cmd_name)
        if command is not None:
            command.short_help = _first_sentence(command.help or "")
        return command


class _Commands(_Group):
    """Commands, imported on demand."""

    def list_commands(self, ctx: object) -> list[str]:  # noqa: ARG002
        return list(NAMES)

    def get_command(self, ctx: object, cmd_name: str) -> Any:  # noqa: ARG002
        if cmd_name not in NAMES:
            raise UnknownNameError.among("command", cmd_name, NAMES, see="`kvcalc --help` describes them")
        command = typer.main.get_command(_app_of(cmd_name))
        command.name, command.short_help = cmd_name, _first_sentence(command.help or "")
        return command

    def format_commands(self, ctx: object, formatter: Any) -> None:  # noqa: ARG002  # does not build the application
        with formatter.section("Commands"):
            formatter.write_dl([(name, _first_sentence(command_named(name).help)) for name in NAMES])


def _first_sentence(text: str) -> str:
    return f"{text.partition('. ')[0].partition(chr(10))[0].rstrip('.')}."


class _Command(TyperCommand):
    """A command whose help names arguments as their rows do; what typer adds varies between releases."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        arguments = [each for each in self.get_params(ctx) if each.param_type_name == "argument"]
        return ["[OPTIONS]", *(f"{{{each.metavar}}}" if each.required else str(each.metavar) for each in arguments)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        records: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
        for each in self.get_params(ctx):
            name, about = each.get_help_record(ctx) or ("", "")
            if each.param_type_name == "argument":
                records["Arguments"].append((str(each.metavar), about))
            else:
                records["Options"].append((name, about))
        for title in filter(records.get, records):
            with formatter.section(title):
                formatter.write_dl(records[title])


def _whole() -> typer.Typer:
    app = typer.Typer(
        cls=_Commands,
        subcommand_metavar=_OF_COMMANDS,
        help="How many bytes the KV cache of a language model takes: exact, explained, and checked in CI.",
        epilog="Example: kvcalc size --preset r1 --tokens 100000",
        no_args_is_help=True,
        rich_markup_mode=None,  # plain help without rich, which would double its run time
        pretty_exceptions_enable=False,
        context_settings=_CONTEXT,
    )
    app.callback()(_root)
    return app


def _version(wanted: bool) -> None:
    if wanted:
        from kvcalc import __version__

        print(f"kvcalc {__version__}")
        raise typer.Exit


def _root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    pass


def _app_of(name: str) -> typer.Typer:
    """The application of one command, or of a group with its help above them."""
    command = command_named(name)
    alone = isinstance(command, Command)
    app = typer.Typer(
        cls=_Group,
        subcommand_metavar=_OF_COMMANDS,
        help=None if alone else command.help,
        no_args_is_help=not alone,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings=_CONTEXT,
    )
    if isinstance(command, Command):
        _add(app, name, name, command)
    else:
        for below, each in command.commands.items():
            _add(app, below, f"{name} {below}", each)
    return app


def _add(app: typer.Typer, name: str, path: str, command: Command) -> None:
    """Adds a command, whose signature is made of its rows."""

    def call(**given: object) -> int:
        return command.run(**{option.name: _value(path, option, given[option.name]) for option in command.takes})

    vars(call)["__signature__"] = Signature([_parameter(option) for option in command.takes])
    app.command(name, cls=_Command, help=command.help, epilog=command.epilog)(call)


def _parameter(option: Option) -> Parameter:
    """A row as a typer option. It keeps every value, even if only one is expected, so that none is dropped silently."""
    kind: object = list[str] if option.flags or option.kind == TEXTS else str
    default: object = ... if option.required else None if option.default is None else [str(option.default)]
    if option.kind == FLAG:
        kind, default = bool, False
    if option.flags:
        info = typer.Option(
            default, *option.flags, metavar=option.metavar, help=_help(option), autocompletion=_offered(option)
        )
    else:
        info = typer.Argument(default, metavar=option.metavar, help=_help(option), autocompletion=_offered(option))
    return Parameter(option.name, Parameter.KEYWORD_ONLY, default=info, annotation=kind)


def _help(option: Option) -> str:
    """An option's meaning, known names and aliases."""
    known = ", ".join(option.known()) if option.known and "{known}" in option.help else ""
    about, also = option.help.replace("{known}", known), others(option.flags)
    return f"{about} Also {', '.join(also)}." if also else about


def _offered(option: Option) -> Callable[[str], list[str]] | None:
    """Completions for a partial value."""
    if option.known is None:
        return None

    def offered(incomplete: str) -> list[str]:
        return option.offered(incomplete)

    return offered


def _value(path: str, option: Option, given: object) -> object:
    """The value passed to `run` for an option. Raises InvalidValueError if a single-value option has two."""
    if option.kind == FLAG or isinstance(given, str):
        return given
    texts = tuple(map(str, given)) if isinstance(given, list | tuple) else ()
    if option.kind == TEXTS:
        return texts
    if len(texts) > 1:
        raise InvalidValueError(
            f"option {_flags(option)} is given twice: {shown(texts[0])} and {shown(texts[1])}",
            where=f"kvcalc {path}",
            help=f"give it once; see `kvcalc {path} --help`",
        )
    if not texts:
        return None
    return _count(option, texts[0]) if option.kind == COUNT else texts[0]


def _flags(option: Option) -> str:
    return " / ".join(f"'{flag}'" for flag in option.flags)


def _count(option: Option, text: str) -> int:
    """Parses a whole number. Raises InvalidValueError."""
    try:
        return int(text)
    except ValueError:
        flag = option.flags[0]
        what = f"must be a whole number, not {shown(text)}"
        raise InvalidValueError(what, where=flag, help=f"for example {flag} 8") from None


def _usage_error(error: Any, message: str) -> KvcalcError:
    command = error.ctx.command_path if error.ctx else "kvcalc"
    what = f"{message[:1].lower()}{message[1:].rstrip('.')}"
    return KvcalcError(what, where=command, help=f"see `{command} --help`")
