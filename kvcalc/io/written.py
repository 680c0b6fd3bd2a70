"""Fields as written, so that a change of numbers can be traced to a field of a file."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from json import dumps
from pathlib import Path

from kvcalc.errors import KvcalcError
from kvcalc.io.documents import Document, Keys, parse_json, parse_yaml, path_text, read_text
from kvcalc.io.engine_args import Command
from kvcalc.io.files import exists, is_folder
from kvcalc.io.resolve import TEXT_SUFFIXES, resolve
from kvcalc.io.sources import FOLDER_FILES
from kvcalc.report.check import Written

_MOST = 60
"""Longest value kept as written, in characters."""
_MOST_FIELDS = 2_000


def in_short(value: object) -> str:
    """A value as written, on one line; long ones are cut, with a mark that distinguishes them."""
    text = value if isinstance(value, str) else dumps(value, default=str)
    if len(text) <= _MOST:
        return text
    mark = sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{text[: _MOST // 2]}... ({len(text):,} characters, {mark})"


def written_of(command: Command) -> dict[str, object]:
    """What decides the cache in a command: engine, model, and flags in normal form."""
    said = {"engine": command.engine, "version": command.version, "model": command.model, **command.args}
    return {name: value for name, value in said.items() if value is not None}


def facts_of(name: str, folder: Path, of: str) -> tuple[Written, ...]:
    """Fields of the file that a model is read from, if it is a text of one's own. of: the field that names it."""
    if not name or not exists(folder / name):
        return ()
    try:
        path = _text_file(name, folder)
        if path is None:
            return ()
        document = (parse_json if path.suffix == ".json" else parse_yaml)(read_text(path), os.path.normpath(path))
    except KvcalcError:
        return ()
    leaves = list(_leaves(document.data, ()))[:_MOST_FIELDS]
    return tuple(_fact(keys, value, document, of) for keys, value in leaves)


def _text_file(name: str, folder: Path) -> Path | None:
    """The text that a name is read from; None for a preset's, which is not one's own, and a GGUF file."""
    path = resolve(name, folder).path
    if path is not None and path.suffix not in TEXT_SUFFIXES and is_folder(path):
        path = next((path / file for file in FOLDER_FILES if exists(path / file)), None)
    return path if path is not None and path.suffix in TEXT_SUFFIXES else None


def _fact(keys: Keys, value: object, document: Document, of: str) -> Written:
    return Written(path_text(keys), in_short(value), document.name, document.lines.get(keys, 0), of)


def _leaves(value: object, keys: Keys) -> Iterator[tuple[Keys, object]]:
    """All values that are not mappings, by path; a list is one value."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, (*keys, str(key)))
    elif not isinstance(value, Sequence) or isinstance(value, str) or value:
        yield keys, value
