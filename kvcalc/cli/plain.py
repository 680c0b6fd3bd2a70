"""Parses plain command lines without typer, whose import takes longer than sizing a model.

A plain command line is a known command with known options, each in full and with its value. Everything else (mistakes,
help, completion) is left to `application.py`, which reads the same rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kvcalc.cli.commands import NAMES, Command, command_named
from kvcalc.cli.options import COUNT, FLAG, TEXTS, Option

_MOST_DIGITS = 9


class _NotPlainError(Exception):
    """The command line is not plain."""


def read(line: Sequence[str]) -> tuple[Command, dict[str, object]] | None:
    """The command of a plain line and the arguments of its `run`; None if the line is not plain."""
    try:
        command, words = _command(line)
        given = _texts(command.takes, words)
        return command, {option.name: _value(option, given[option.name]) for option in command.takes}
    except _NotPlainError:
        return None


def _command(line: Sequence[str]) -> tuple[Command, Sequence[str]]:
    """The command that the line begins with, and the words after its name."""
    if not line or line[0] not in NAMES:
        raise _NotPlainError
    command, words = command_named(line[0]), line[1:]
    if isinstance(command, Command):
        return command, words
    if not words or words[0] not in command.commands:
        raise _NotPlainError
    return command.commands[words[0]], words[1:]


def _texts(options: Sequence[Option], words: Sequence[str]) -> dict[str, list[str]]:
    """All values of each option, by its name, in order."""
    by_flag = {flag: option for option in options for flag in option.flags}
    given: dict[str, list[str]] = {option.name: [] for option in options}
    arguments = []
    rest = iter(words)
    for word in rest:
        if not word.startswith("-"):
            arguments.append(word)
            continue
        flag, equals, value = word.partition("=")
        option = by_flag.get(flag)
        if option is None or (equals and (option.kind == FLAG or not flag.startswith("--"))):
            raise _NotPlainError
        given[option.name].append(value if equals else "" if option.kind == FLAG else _next(rest))
    return given | _arguments(options, arguments)


def _next(rest: Iterator[str]) -> str:
    """The word after an option, which is its value unless it looks like another option."""
    value = next(rest, "-")
    if value.startswith("-"):
        raise _NotPlainError
    return value


def _arguments(options: Sequence[Option], words: list[str]) -> dict[str, list[str]]:
    """Positional words, assigned to the arguments from left to right; one after a list keeps its own."""
    given = {}
    arguments = [option for option in options if not option.flags]
    for place, option in enumerate(arguments, 1):
        taken = max(0, len(words) - len(arguments[place:])) if option.kind == TEXTS else 1
        given[option.name], words = words[:taken], words[taken:]
    if words:
        raise _NotPlainError
    return given


def _value(option: Option, texts: list[str]) -> object:
    """The value passed to `run` for an option."""
    if (option.required and not texts) or (option.kind != TEXTS and len(texts) > 1):
        raise _NotPlainError
    if option.kind == TEXTS:
        return tuple(texts)
    if option.kind == FLAG:
        return bool(texts)
    return (_count(texts[0]) if option.kind == COUNT else texts[0]) if texts else option.default


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS):
        raise _NotPlainError
    return int(text)
