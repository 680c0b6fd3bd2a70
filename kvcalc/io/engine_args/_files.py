"""Files named on a command line: arguments, as in `vllm serve --config FILE`, and LMCache's sizes.

Only a file next to the input is opened: an absolute path is on the server.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kvcalc.errors import KvcalcError
from kvcalc.io.engine_args._lmcache import LMCACHE_FILE, LMCACHE_FLAGS, lmcache_variables
from kvcalc.io.engine_args._program import Program

_MOST_BYTES = 2**20


def words_of_file(
    words: Sequence[str], program: Program, folder: Path | None, files: Mapping[str, str]
) -> list[str] | None:
    """The words of the file named by the line; None if there is none, or it is not next to the input.

    files: contents by path, from a manifest or a script.
    """
    named = _named(words, program.config_flags)
    found = _mapping_of(files[named]) if named is not None and named in files else _mapping(named, folder)
    return None if found is None else list(_words(found, program))


def variables_of_lmcache(
    words: Sequence[str], variables: Mapping[str, str], folder: Path | None
) -> dict[str, str] | None:
    """LMCache's variables from its file, overridden by those set; None if no file is read.

    Source: LMCache, integration/vllm/utils.py (lmcache_get_or_create_config): variables override the file.
    """
    found = _mapping(variables.get(LMCACHE_FILE) or _named(words, LMCACHE_FLAGS), folder)
    return None if found is None else {**lmcache_variables(found.items()), **variables}


def words_beside(folder: Path | None, named: str) -> str | None:
    """The words of a file next to the one being read; None if it is missing."""
    from kvcalc.io.documents import read_text
    from kvcalc.io.files import is_file

    path = Path(named)
    if folder is None or path.is_absolute() or not is_file(folder / path):
        return None
    try:
        return read_text(folder / path, most=_MOST_BYTES)
    except KvcalcError:
        return None


def variables_of_files(named: Sequence[str], folder: Path | None) -> dict[str, str]:
    """Variables of files that a container is given (--env-file), the last one's where several set the same."""
    from kvcalc.io.deployments.reading.text import Text
    from kvcalc.io.deployments.reading.units import variables

    found: dict[str, str] = {}
    for name in named:
        words = words_beside(folder, name)
        found.update({} if words is None else {key: str(value) for key, value in variables(Text(words)).items()})
    return found


def _named(words: Sequence[str], flags: Collection[str]) -> str | None:
    """The name of the file: the value of one of the flags."""
    for index, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name in flags and (equals or index + 1 < len(words)):
            return value if equals else words[index + 1]
    return None


def _mapping(named: str | None, folder: Path | None) -> Mapping[str, Any] | None:
    """The contents of a file next to the input."""
    from kvcalc.io.documents import read_yaml

    if not named or folder is None or Path(named).is_absolute():
        return None
    path = folder / named
    try:
        found = read_yaml(path).data
    except KvcalcError:
        return None
    return found if isinstance(found, Mapping) and all(isinstance(key, str) for key in found) else None


def _mapping_of(text: str) -> Mapping[str, Any] | None:
    """The contents of a text, parsed like manifests."""
    from kvcalc.io.deployments.reading import yaml
    from kvcalc.io.deployments.reading.text import Text

    try:
        roots = yaml.documents(Text.of_file(text), "configuration")
    except KvcalcError:
        return None
    found = roots[0].plain() if len(roots) == 1 else None
    return found if isinstance(found, Mapping) else None


def _words(found: Mapping[str, Any], program: Program) -> Iterator[str]:
    """Keys as flags: a bare switch, a list with all its values, an object as JSON."""
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
