"""Commands as an agent's tools: each takes its command's options as typed arguments and gives the same answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from kvcalc.cli.commands import Command, command_named
from kvcalc.cli.options import COUNT, FLAG, TEXTS, Option
from kvcalc.errors import InvalidValueError, KvcalcError, UnknownNameError
from kvcalc.errors.foreign import visible
from kvcalc.report.sheet import Json
from kvcalc.units import shown

ANSWERED_BY = {
    "size": ("size",),
    "compare": ("compare", "methods"),
    "fit": ("fit", "choices", "replicas"),
    "check": ("check",),
    "diff": ("diff",),
    "deployments": ("deployments",),
    "explain": ("explain",),
    "decode": ("decode",),
    "traffic": ("traffic",),
    "transfer": ("transfer",),
    "weights": ("weights",),
}
"""Commands that are tools, each with the kinds of document it returns (`kvcalc schema KIND`)."""
_LEFT_OUT = frozenset(
    {
        *("preset", "model", "length"),  # model and context have one argument each
        *("format", "by_layer", "exact"),  # an answer always has both text and values
        *("verify", "on"),  # start processes, ask a cluster
        *("launch",),  # prints a command line in place of an answer
        *("baseline", "update_baseline", "max_growth", "out"),  # write files
    }
)
_NAMES = {"named": "model"}
"""Arguments whose name differs from their option's."""
_STREAM = "-"
_FILE_ARGUMENTS = ("log", "paths")


class Answered(NamedTuple):
    """A tool's result: text for people and the documents; or an error as text only."""

    words: str
    documents: tuple[Json, ...] = ()
    is_error: bool = False


def description(name: str) -> str:
    """What a tool does."""
    return f"{_command(name).help}\n\n{_command(name).epilog}"


def input_schema(name: str) -> dict[str, Any]:
    """JSON Schema of a tool's arguments."""
    options = _options(name)
    return {
        "type": "object",
        "properties": {argument: _rule(option) for argument, option in options.items()},
        "required": [argument for argument, option in options.items() if option.required],
        "additionalProperties": False,
    }


def output_schema(name: str) -> dict[str, Any]:
    """JSON Schema of a tool's documents."""
    from kvcalc.io.answer_schemas import answer_schema

    kinds = [answer_schema(kind) for kind in ANSWERED_BY[name]]
    items = kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
    return {
        "type": "object",
        "properties": {"answers": {"type": "array", "items": items}},
        "required": ["answers"],
    }


def call(name: str, arguments: Mapping[str, Any]) -> Answered:
    """Runs a tool. Errors read as on the command line."""
    from kvcalc.cli._output import taking

    try:
        given = _given(name, arguments)
        with taking() as documents:
            _command(name).run(**given)
    except KvcalcError as error:
        return Answered(f"{error}\nhelp: {visible(error.help)}" if error.help else str(error), is_error=True)
    except OSError as error:
        return Answered(f"{error.filename or name}: {error.strerror}", is_error=True)
    return Answered(
        "\n".join(map(_words, documents)),
        tuple(each for values in (d.to_dict() for d in documents) for each in _listed(values)),
    )


def _listed(values: Json) -> list[Json]:
    return values if isinstance(values, list) else [values]


def _words(document: Any) -> str:
    """A document as the command line prints it."""
    from io import StringIO

    from kvcalc.formats import write

    stream = StringIO()
    write(document, "table", stream)
    return stream.getvalue()


def _command(name: str) -> Command:
    """The command of a tool. Raises UnknownNameError."""
    if name not in ANSWERED_BY:
        raise UnknownNameError.among("tool", name, ANSWERED_BY)
    command = command_named(name)
    assert isinstance(command, Command)
    return command


def _options(name: str) -> dict[str, Option]:
    """A command's options that its tool takes, by argument name."""
    return {
        _NAMES.get(option.name, option.name): option for option in _command(name).takes if option.name not in _LEFT_OUT
    }


def _rule(option: Option) -> dict[str, Any]:
    """JSON Schema of one argument."""
    known = ", ".join(option.known()) if option.known and "{known}" in option.help else ""
    about = {"description": option.help.replace("{known}", known)}
    if option.kind == FLAG:
        return {"type": "boolean", "default": False, **about}
    if option.kind == COUNT:
        return {"type": "integer", "minimum": 1, **_default(option), **about}
    one = {"type": ["string", "integer"]}
    if option.kind == TEXTS:
        return {"anyOf": [one, {"type": "array", "items": one}], **about}
    return {**one, **_default(option), **about}


def _default(option: Option) -> dict[str, Any]:
    return {} if option.default is None else {"default": option.default}


def _given(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments for the command, with the defaults of all other options. Raises KvcalcError for a bad one."""
    options = _options(name)
    for argument in arguments:
        if argument not in options:
            raise UnknownNameError.among(f"argument of {name}", argument, options)
    missing = [argument for argument, option in options.items() if option.required and argument not in arguments]
    if missing:
        raise InvalidValueError(f"{missing[0]} is missing", where=name, help=f"give {', '.join(missing)}")
    unset = {option.name: _unset(option) for option in _command(name).takes}
    return unset | {
        options[argument].name: _value(argument, options[argument], value)
        for argument, value in arguments.items()
        if value is not None
    }


def _unset(option: Option) -> object:
    return {TEXTS: (), FLAG: False}.get(option.kind, option.default)


def _value(argument: str, option: Option, value: object) -> object:
    """A value as the command line would pass it. Raises InvalidValueError for another type."""
    if option.kind == FLAG and isinstance(value, bool):
        return value
    if option.kind == COUNT and isinstance(value, int) and not isinstance(value, bool):
        return value
    if option.kind == TEXTS and isinstance(value, list) and value:
        return tuple(_text(argument, each) for each in value)
    if option.kind in (COUNT, FLAG):
        wanted = "a whole number" if option.kind == COUNT else "true or false"
        raise InvalidValueError(f"{argument} must be {wanted}, not {shown(value)}", help="see the tool's schema")
    text = _text(argument, value)
    return (text,) if option.kind == TEXTS else text


def _text(argument: str, value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise InvalidValueError(f"{argument} must be a string, not {shown(value)}", help="see the tool's schema")
    if argument in _FILE_ARGUMENTS and value == _STREAM:
        what = f"{argument} cannot be -: standard input belongs to the client"
        raise InvalidValueError(what, help="give a path, or the text itself")
    return str(value)
