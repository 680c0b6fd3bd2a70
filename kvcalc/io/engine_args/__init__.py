"""The arguments that an engine is started with, read as its own settings, its layout of ranks, and its model.

    vllm serve deepseek-ai/DeepSeek-R1 --tensor-parallel-size 8 --kv-cache-dtype fp8 --max-model-len 128K

One file for each engine holds what its flags mean, as `PROGRAM`.

What stands in none of these is refused where it is nearly the name of a flag that matters, or where its name speaks of
memory; else it is told: a number never follows in silence from an argument that was not understood.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from kvcalc.errors import InvalidValueError, UnknownNameError
from kvcalc.registry import Registry
from kvcalc.units import shown

PROGRAMS = Registry("kvcalc.io.engine_args", "engine whose arguments are read")
_VARIABLE = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
_CONTINUED = re.compile(r"(?:(?<=\s)|(?<=^))\\\s+|\\\r?\n")
"""A backslash at the end of a line, also of one that YAML folded."""
_PYTHON = re.compile(r"python(?:3(?:\.\d+)?)?")
_STARTERS = ("env", "exec", "nohup", "time")
"""Commands that start another one."""


class Flag(NamedTuple):
    """What a flag sets.

    to: `model`, `tokens` (of a context), a degree of the layout (tp, pp, dp, dcp), or the name of a setting, whose
    field says how the value is read; a switch stands alone. instead: values that stand for others.
    """

    to: str
    instead: Mapping[str, object] = {}


class Program(NamedTuple):
    """An engine's command line, as tables.

    commands: how it begins, as words. flags: what each flag sets, in each of its spellings without dashes. switches:
    flags that stand alone and change nothing of the cache. harmless: flags with values that change nothing either.
    several: of all these, those that take all words up to the next flag. refused: flags that change what the cache
    takes in a way that is not modelled, and why. environment: variables before the command that set something.
    defaults: settings of whoever starts it this way. refused_with_replicas: of the harmless flags those that are not
    where there are several replicas, and why. takes_model: whether the model stands among the arguments without a flag.
    """

    commands: tuple[str, ...]
    flags: Mapping[str, Flag]
    switches: frozenset[str]
    harmless: frozenset[str]
    refused: Mapping[str, str]
    several: frozenset[str] = frozenset()
    environment: Mapping[str, Flag] = {}
    defaults: Mapping[str, object] = {}
    refused_with_replicas: Mapping[str, str] = {}
    takes_model: bool = False


def program_of(name: str) -> Program:
    """Command line of an engine. Raises UnknownNameError for one whose arguments are not read."""
    found: Program = PROGRAMS.module(name).PROGRAM
    return found


def names(text: str) -> frozenset[str]:
    """Names of flags, separated by blanks."""
    return frozenset(text.split())


class Arguments(NamedTuple):
    """A command line, read. tokens: that it says of the context; unknown: what nobody knows, and sounds harmless."""

    engine: str
    model: str | None
    settings: Mapping[str, Any]
    layout: Mapping[str, int]
    tokens: int | None
    unknown: tuple[str, ...]


@lru_cache(maxsize=256)
def read_arguments(text: str, engine: str | None = None) -> Arguments:
    """Arguments of a command line, which begins with the engine's own command unless `engine` names it.

    Raises InvalidValueError for what cannot be read, NotApplicableError for what is not modelled, by name.
    """
    try:
        words = shlex.split(_CONTINUED.sub(" ", text), comments=False)
    except ValueError as error:
        raise InvalidValueError(
            f"the arguments cannot be split into words: {error}", field="args", help="close the quotes"
        ) from None
    variables, words = _variables(words)
    name, words = _engine(words, engine)

    from kvcalc.io.engine_args._reader import Reader

    return Reader(name, program_of(name)).read(variables, words)


def _variables(words: list[str]) -> tuple[dict[str, str], list[str]]:
    """Variables in front of a command, and the rest."""
    found: dict[str, str] = {}
    for index, word in enumerate(words):
        if word in _STARTERS:
            continue
        match = _VARIABLE.fullmatch(word)
        if match is None or word.startswith("-"):
            return found, words[index:]
        found[match[1]] = match[2]
    return found, []


def _engine(words: list[str], engine: str | None) -> tuple[str, list[str]]:
    """Whose command it is, and what follows it."""
    names = [name.replace("-", "_") for name in PROGRAMS.names()]
    engine = engine and engine.replace("-", "_")
    for name in names:
        for command in program_of(name).commands:
            start = command.split()
            if [*_base(words[:1]), *words[1 : len(start)]] == start:
                if engine not in (None, name):
                    raise InvalidValueError(
                        f"these are arguments of {name}, and the engine is {engine}",
                        field="args",
                        help="leave engine out, or write the arguments of that engine",
                    )
                return name, words[len(start) :]
    known = [command for name in names for command in program_of(name).commands]
    if engine is None or (words and not words[0].startswith("-")):
        raise InvalidValueError(
            f"the arguments begin with {shown(' '.join(words[:2]))}, which is no command that is known here",
            field="args",
            help=f"begin with {', '.join(known[:-1])} or {known[-1]}",
        )
    if engine not in names:
        raise UnknownNameError.among("engine whose arguments are read", engine, names)
    return engine, words


def _base(words: list[str]) -> list[str]:
    """The program without its folder, and Python whatever its version."""
    names = [word.rsplit("/", 1)[-1] for word in words]
    return ["python" if _PYTHON.fullmatch(name) else name for name in names]
