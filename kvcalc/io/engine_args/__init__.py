"""The arguments that an engine is started with, read as its own settings, its layout of ranks, and its model.

    vllm serve deepseek-ai/DeepSeek-R1 --tensor-parallel-size 8 --kv-cache-dtype fp8 --max-model-len 128K

`read_commands` finds every engine that a text starts, `read_command` the one that a line or a list of words starts;
both give a `Command` with what decides the cache, what is ignored and why, and what cannot be read. One file for each
program holds what its flags mean, as `PROGRAM`: a table with one row a flag.

What stands in no row is refused where it is nearly the name of a flag that matters, or where its name speaks of memory;
else it is told: a number never follows in silence from an argument that was not understood. No word that could be a
secret is printed, whatever is wrong with it.

    _lexer, _shell       a text as the commands in it, with quotes, variables, conditions; nothing is run
    _launch, _containers through which other commands and containers a program is started
    _line                the words behind it, as its own parser divides them
    _rows, _program      the tables; `_own` and `_objects`: flags that are read in a way of their own
    _reading             what the rows make of the words: a Command
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from kvcalc.errors import InvalidValueError, UnknownNameError
from kvcalc.io.engine_args._command import Command, Refusal, Said, Weighed
from kvcalc.io.engine_args._launch import of_statement, program_words, started, starts_a_shell
from kvcalc.io.engine_args._lmcache import LMCACHE_FILE, LMCACHE_SIZES, lmcache_variables
from kvcalc.io.engine_args._program import Program, version_of
from kvcalc.io.engine_args._recognised import recognised
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
    "Program",
    "Refusal",
    "Said",
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
"""A line that begins with a flag goes on where the last one ended, as in a block of YAML."""
PROGRAMS = Registry("kvcalc.io.engine_args", "program whose arguments are read")


def program_of(name: str) -> Program:
    """Command line of a program. Raises UnknownNameError for one whose arguments are not read."""
    found: Program = PROGRAMS.module(name).PROGRAM
    return found


def read_commands(
    text: str,
    environment: Mapping[str, str] | None = None,
    *,
    folder: Path | None = None,
    files: Mapping[str, str] | None = None,
) -> tuple[Command, ...]:
    """Every engine that a text of a shell starts, in order, each with its line.

    environment: variables of whoever runs it. With one, `${A:-b}` is b where nothing sets A; a bare line has none.
    folder: where files are that its arguments name. files: contents of such by path, over those of the folder.
    Raises InvalidValueError for a text that cannot be divided.
    """
    found = [one for statement in statements(text, environment) for one in of_statement(statement)]
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
    """The engine that a line starts, or a list of words, in which nothing is expanded.

    engine: whose arguments these are where they stand alone; image: of the container that is started with them.
    Raises InvalidValueError where no engine is started, or several are; all else that is wrong is in `Command.refused`.
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
        f"{len(commands)} engines are started, and one is meant"
        if commands
        else "it begins with no command that is known here",
        field="args",
        help="give each an entry of its own" if commands else f"begin with {_beginnings()}",
    )


@lru_cache(maxsize=256)
def read_arguments(text: str | tuple[str, ...], engine: str | None = None, folder: Path | None = None) -> Command:
    """Arguments of a line, or of its words, which begins with the engine's own command unless `engine` names it.

    Raises InvalidValueError for what cannot be read, NotApplicableError for what is not modelled, by name.
    """
    command = read_command(text, engine=_engine_named(engine), folder=folder)
    if engine is not None and command.engine is not None and command.engine != engine.replace("-", "_"):
        raise InvalidValueError(
            f"these are arguments of {command.engine}, and the engine is {engine}",
            field="args",
            help="leave engine out, or write the arguments of that engine",
        )
    for refusal in command.refused:
        raise refusal.error()
    return command


def _engine_named(engine: str | None) -> str | None:
    """The program of an engine. Raises UnknownNameError for one whose arguments are not read."""
    if engine is None:
        return None
    name = engine.replace("-", "_")
    if name not in _names():
        raise UnknownNameError.among("engine whose arguments are read", engine, _names())
    return name


def _program_in(one: Started) -> tuple[str, Program, int] | None:
    """Whose command it is, and how many words that takes."""
    words = program_words(one.words) if one.words else []
    for start, name in _starts():
        if words[: len(start)] == start:
            return name, program_of(name), len(start)
    return None


@lru_cache
def _starts() -> list[tuple[list[str], str]]:
    """How commands begin, and the program of each: the longest first."""
    starts = [(command.split(), name) for name in _names() for command in program_of(name).commands]
    return sorted(starts, key=lambda start: -len(start[0]))


@lru_cache
def _names() -> list[str]:
    """Files of this folder, which name its programs."""
    return [name.replace("-", "_") for name in PROGRAMS.names()]


def _of_image(image: str | None) -> tuple[str, Program] | None:
    """The program whose own image it is."""
    if image is None:
        return None
    return next(((name, program_of(name)) for name in _names() if program_of(name).is_of(image)), None)


class _Whose(NamedTuple):
    """The program of some words, how many of them name it, its defaults when called so, and what is to be told."""

    name: str
    before: int = 0
    defaults: Mapping[str, object] | None = None
    told: tuple[Said, ...] = ()


def _whose(one: Started, engine: str | None) -> _Whose | None:
    """Whose words these are: a command's, those of the engine that is named, or those of a container's image."""
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
    return _Whose(*found, told=(Said("image", f"not {title}'s own; its arguments are those of {title}"),))


def _read(
    one: Started, folder: Path | None, engine: str | None = None, files: Mapping[str, str] | None = None
) -> Command | None:
    """A program as it is started; None where it is no engine that is known."""
    from kvcalc.io.engine_args._files import variables_of_lmcache, words_of_file
    from kvcalc.io.engine_args._reading import Reading

    whose = _whose(one, engine)
    if whose is None:
        return None
    name, program, own = whose.name, program_of(whose.name), _of_image(one.image)
    words = program_words(one.words)[whose.before :] if whose.before else list(one.words)
    version = version_of(one.image) if one.image and own is not None and own[0] == name else None
    before = one.skipped + len(one.words) - len(words)
    of_file = words_of_file(words, program, folder, {**(files or {}), **one.files})
    of_lmcache = variables_of_lmcache(words, one.variables, folder)
    reading = Reading(name, program, version, before=before, defaults=whose.defaults)
    reading.has_lmcache_file = of_lmcache is not None
    read = reading.read(words, one.variables if of_lmcache is None else of_lmcache, of_file)
    gpus = one.gpus if read.gpus is None else read.gpus
    through = (Said("the script in front", "what it adds to the arguments is not known"),) if one.through else ()
    told = (*through, *whose.told, *read.told)
    return read._replace(container=one.name, image=one.image, line=one.line, gpus=gpus, told=told)


def _beginnings() -> str:
    """How the commands begin that are read here."""
    first = [program_of(name).commands[0] for name in _names()]
    return f"{', '.join(first[:-1])} or {first[-1]}"
