"""An engine's start arguments, parsed into its settings, layout and model.

    vllm serve deepseek-ai/DeepSeek-R1 --tensor-parallel-size 8 --kv-cache-dtype fp8 --max-model-len 128K

`read_commands` finds every engine that a text starts, `read_command` the one that a line or a list of words starts;
both give a `Command` with what decides the cache, what is ignored and why, and what cannot be read. One file per
program has the meaning of its flags, as `PROGRAM`: a table with one row per flag.

Unknown arguments are refused if they resemble a flag that matters, or if their name suggests memory; otherwise they are
reported: a number never follows in silence from an argument that was not understood. No word that could be a secret is
printed, whatever is wrong with it.

    _lexer, _shell       splits a text into commands, with quotes, variables, conditions; nothing is run
    _launch, _containers wrappers and containers that start a program
    _line                its arguments, as split by its own parser
    _rows, _program      the tables; `_own` and `_objects`: flags with special parsing
    _reading             applies the rows to the words: a Command
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

from kvcalc.errors import InvalidValueError, UnknownNameError
from kvcalc.io.engine_args._command import Command, Refusal, Said, Weighed
from kvcalc.io.engine_args._launch import of_statement, program_words, started, starts_a_shell
from kvcalc.io.engine_args._lmcache import LMCACHE_FILE, LMCACHE_SIZES, lmcache_variables
from kvcalc.io.engine_args._program import Program, version_of
from kvcalc.io.engine_args._recognised import recognised
from kvcalc.io.engine_args._rows import Degree, Flag, Names, Sets
from kvcalc.io.engine_args._secrets import HIDDEN, could_be_secret, is_credential, without_secrets
from kvcalc.io.engine_args._served import has_draft, served_model
from kvcalc.io.engine_args._shell import UNKNOWN, statements
from kvcalc.io.engine_args._started import Started
from kvcalc.registry import Registry

__all__ = [
    "HIDDEN",
    "LMCACHE_FILE",
    "LMCACHE_SIZES",
    "PROGRAMS",
    "UNKNOWN",
    "Command",
    "Degree",
    "Flag",
    "Names",
    "Program",
    "Refusal",
    "Said",
    "Sets",
    "Weighed",
    "could_be_secret",
    "has_draft",
    "is_credential",
    "lmcache_variables",
    "program_of",
    "read_arguments",
    "read_command",
    "read_commands",
    "served_model",
    "version_of",
    "without_secrets",
]

_NEXT_FLAG = re.compile(r"[ \t]*\r?\n\s*(?=-)")
"""A line that begins with a flag continues the previous one, as in a YAML block."""
_NOT_BESIDE = "the file is not there, and what it sets is unknown"
PROGRAMS = Registry("kvcalc.io.engine_args", "supported program")


def program_of(name: str) -> Program:
    """Command line of a program. Raises UnknownNameError if its arguments are not supported."""
    found: Program = PROGRAMS.module(name).PROGRAM
    return found


def read_commands(
    text: str,
    environment: Mapping[str, str] | None = None,
    *,
    folder: Path | None = None,
    files: Mapping[str, str] | None = None,
) -> tuple[Command, ...]:
    """Every engine that a shell text starts, in order, each with its line.

    environment: variables of the caller. With one, `${A:-b}` is b if A is unset; a bare line has none.
    folder: of files named in its arguments. files: contents by path, overriding the folder. Raises InvalidValueError
    for a text that cannot be split.
    """
    from kvcalc.io.engine_args._files import words_beside

    sourced = partial(words_beside, folder)
    found = [one for statement in statements(text, environment, sourced) for one in of_statement(statement)]
    return tuple(command for one in found if (command := _read(one, folder, files=files)) is not None)


def read_command(
    words: str | Sequence[str],
    environment: Mapping[str, str] | None = None,
    *,
    engine: str | None = None,
    image: str | None = None,
    folder: Path | None = None,
    files: Mapping[str, str] | None = None,
) -> Command:
    """The engine that a line starts, or a list of words, without expansion.

    engine: whose arguments these are, if they stand alone; image: of the container started with them. Raises
    InvalidValueError if no engine or several are started; all other mistakes are in `Command.refused`.
    """
    if isinstance(words, str):
        line = _NEXT_FLAG.sub(" ", words)
        found = [one for each in statements(line, environment) for one in of_statement(each)]
    else:
        found = started(words, environment)
    alone = engine is not None or image is not None
    if alone and (not found or _program_in(found[0]) is None):
        given = tuple(words) if not isinstance(words, str) else found[0].words if found else ()
        variables = found[0].variables if found else environment or {}
        found = [Started(given, variables, is_command=False)]
    found = [one._replace(image=one.image or image) for one in found]
    commands = [command for one in found if (command := _read(one, folder, engine, files)) is not None]
    if len(commands) == 1:
        return commands[0]
    raise InvalidValueError(
        f"{len(commands)} engines are started, but expected one"
        if commands
        else "it does not begin with a known command",
        field="args",
        help="give each its own entry" if commands else f"begin with {_beginnings()}",
    )


@lru_cache(maxsize=256)
def read_arguments(text: str | tuple[str, ...], engine: str | None = None, folder: Path | None = None) -> Command:
    """Arguments of a line, or of its words, starting with the engine's own command unless `engine` names it.

    Raises InvalidValueError for what cannot be read, NotApplicableError for what is not modelled, by name.
    """
    command = read_command(text, engine=_engine_named(engine), folder=folder)
    if engine is not None and command.engine is not None and command.engine != engine.replace("-", "_"):
        raise InvalidValueError(
            f"these are arguments of {command.engine}, but the engine is {engine}",
            field="args",
            help="remove engine, or write the arguments of that engine",
        )
    for refusal in command.refused:
        raise refusal.error()
    return command


def _engine_named(engine: str | None) -> str | None:
    """The program of an engine. Raises UnknownNameError if its arguments are not supported."""
    if engine is None:
        return None
    name = engine.replace("-", "_")
    if name not in _names():
        raise UnknownNameError.among("engine with supported arguments", engine, _names())
    return name


def _program_in(one: Started) -> tuple[str, Program, int] | None:
    """The program of a command, and the number of its words."""
    words = program_words(one.words) if one.words else []
    for start, name in _starts():
        if words[: len(start)] == start:
            return name, program_of(name), len(start)
    return None


@lru_cache
def _starts() -> list[tuple[list[str], str]]:
    """Beginnings of commands with their programs, longest first."""
    starts = [(command.split(), name) for name in _names() for command in program_of(name).commands]
    return sorted(starts, key=lambda start: -len(start[0]))


@lru_cache
def _names() -> list[str]:
    """Names of the programs: the files in this folder."""
    return [name.replace("-", "_") for name in PROGRAMS.names()]


def _of_image(image: str | None) -> tuple[str, Program] | None:
    """The program of an image."""
    if image is None:
        return None
    return next(((name, program_of(name)) for name in _names() if program_of(name).is_of(image)), None)


class _Whose(NamedTuple):
    """The program of some words, how many of them name it, its defaults for this call, and notes."""

    name: str
    before: int = 0
    defaults: Mapping[str, object] | None = None
    told: tuple[Said, ...] = ()


def _whose(one: Started, engine: str | None) -> _Whose | None:
    """The program of words: a command's, the named engine's, or a container image's."""
    named = _program_in(one)
    if named is not None:
        name, program, length = named
        return _Whose(name, length, program.defaults_of.get(" ".join(program_words(one.words)[:length])))
    if engine is not None:
        return _Whose(engine)
    if one.image is None or starts_a_shell(one.words):
        return None
    own = _of_image(one.image)
    if own is not None and own[1].starts:
        return _Whose(own[0])
    found = recognised(one.words, one.image, one.variables, {each: program_of(each) for each in _names()})
    if found is None:
        return None
    title = program_of(found[0]).title
    return _Whose(*found, told=(Said("image", f"not {title}'s own image, but its arguments are those of {title}"),))


def _read(
    one: Started, folder: Path | None, engine: str | None = None, files: Mapping[str, str] | None = None
) -> Command | None:
    """A program with its arguments; None if it is not a known engine."""
    from kvcalc.io.engine_args._files import variables_of_files, variables_of_lmcache, words_beside, words_of_file
    from kvcalc.io.engine_args._reading import Reading

    whose = _whose(one, engine)
    if whose is None:
        return None
    name, program, own = whose.name, program_of(whose.name), _of_image(one.image)
    words = program_words(one.words)[whose.before :] if whose.before else list(one.words)
    version = version_of(one.image) if one.image and own is not None and own[0] == name else None
    before = one.skipped + len(one.words) - len(words)
    of_file = words_of_file(words, program, folder, {**(files or {}), **one.files})
    variables = {**variables_of_files(one.variable_files, folder), **one.variables}
    of_lmcache = variables_of_lmcache(words, variables, folder)
    reading = Reading(name, program, version, before=before, defaults=whose.defaults)
    reading.has_lmcache_file = of_lmcache is not None
    read = reading.read(words, variables if of_lmcache is None else of_lmcache, of_file)
    gpus = one.gpus if read.gpus is None else read.gpus
    lost = [name for name in one.variable_files if words_beside(folder, name) is None]
    if lost and program.by_variables:
        read = read._replace(refused=(*read.refused, Refusal("--env-file", _NOT_BESIDE, "pass --env VARIABLE=VALUE")))
    through = (Said("the wrapper script", "arguments added by it are unknown"),) if one.through else ()
    told = (*through, *whose.told, *read.told)
    return read._replace(container=one.name, image=one.image, line=one.line, gpus=gpus, told=told)


def _beginnings() -> str:
    """Beginnings of the supported commands."""
    first = [program_of(name).commands[0] for name in _names()]
    return f"{', '.join(first[:-1])} or {first[-1]}"
