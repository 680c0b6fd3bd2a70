"""Files of arguments that a command line names, as `vllm serve --config FILE`: their words in its place."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kvcalc.errors import KvcalcError
from kvcalc.io.engine_args._program import Program


def words_of_file(
    words: Sequence[str], program: Program, folder: Path | None, files: Mapping[str, str]
) -> list[str] | None:
    """The words of the file that the line names; None where it names none, or the file is not beside what is read.

    files: contents by path, as a manifest or a script has them. Else only a file beside what is read is opened:
    an absolute path is one of the server.
    """
    named = _named(words, program)
    if named is None:
        return None
    if named in files:
        found = _mapping_of(files[named])
        return None if found is None else list(_words(found, program))
    if folder is None or Path(named).is_absolute():
        return None
    found = _mapping(folder / named)
    return None if found is None else list(_words(found, program))


def _named(words: Sequence[str], program: Program) -> str | None:
    """The name of the file: what follows --config, or is its value."""
    for index, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name in program.config_flags and (equals or index + 1 < len(words)):
            return value if equals else words[index + 1]
    return None


def _mapping(path: Path) -> Mapping[str, Any] | None:
    from kvcalc.io.documents import read_yaml

    try:
        found = read_yaml(path).data
    except KvcalcError:
        return None
    return found if isinstance(found, Mapping) and all(isinstance(key, str) for key in found) else None


def _mapping_of(text: str) -> Mapping[str, Any] | None:
    """What a text holds, read as manifests are."""
    from kvcalc.io.deployments.reading import yaml
    from kvcalc.io.deployments.reading.text import Text

    try:
        roots = yaml.documents(Text.of_file(text), "configuration")
    except KvcalcError:
        return None
    found = roots[0].plain() if len(roots) == 1 else None
    return found if isinstance(found, Mapping) else None


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
