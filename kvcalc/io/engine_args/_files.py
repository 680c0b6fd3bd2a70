"""Files of arguments that a command line names, as `vllm serve --config FILE`: their words in its place."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kvcalc.errors import KvcalcError
from kvcalc.io.engine_args._program import Program


def with_files(words: Sequence[str], program: Program, folder: Path | None) -> tuple[list[str], int]:
    """The words, with those of a file where the line names one, and how many of them stand before those of the line.

    The last of a repeated flag counts: the line wins over the file, or the file over the line. Only a file beside what
    is read is opened: an absolute path is one of the server.
    """
    rest, named = _without(list(words), program)
    if named is None or folder is None or Path(named).is_absolute():
        return list(words), 0
    found = _mapping(folder / named)
    if found is None:
        return list(words), 0
    of_file = list(_words(found, program))
    return ([*rest, *of_file], 0) if program.file_wins else ([*of_file, *rest], len(of_file))


def _without(words: list[str], program: Program) -> tuple[list[str], str | None]:
    """The words without --config FILE, and the name of the file."""
    if not program.config_flags:
        return words, None
    for index, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name in program.config_flags and (equals or index + 1 < len(words)):
            return words[:index] + words[index + (1 if equals else 2) :], value if equals else words[index + 1]
    return words, None


def _mapping(path: Path) -> Mapping[str, Any] | None:
    from kvcalc.io.documents import read_yaml

    try:
        found = read_yaml(path).data
    except KvcalcError:
        return None
    return found if isinstance(found, Mapping) and all(isinstance(key, str) for key in found) else None


def _words(found: Mapping[str, Any], program: Program) -> Iterator[str]:
    """Keys as flags: a switch alone, a list with all its values, an object as JSON."""
    for key, value in found.items():
        name = key.replace("_", "-")
        if name == "model" and program.takes_model:
            yield str(value)
        elif isinstance(value, bool):
            yield f"--{name}" if value else f"--no-{name}"
        elif isinstance(value, Mapping):
            yield from (f"--{name}", json.dumps(value))
        elif isinstance(value, list):
            yield from (f"--{name}", *map(str, value))
        elif value is not None:
            yield f"--{name}={value}"
