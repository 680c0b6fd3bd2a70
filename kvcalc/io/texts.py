"""Texts that may hold deployments: files that are named, and those of folders that are.

Whatever reads deployments takes these, wherever they lie: on this disk, or in a git revision (`io/sides.py`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from kvcalc.errors import InvalidFileError, KvcalcError
from kvcalc.io.documents import read_text
from kvcalc.io.files import is_folder

SUFFIXES = (".yaml", ".yml", ".json")
"""Of files that are looked at in a folder."""
_NEVER = frozenset({"node_modules", "__pycache__"})
_MOST_FILES = 100_000


class Text(NamedTuple):
    """A file's text. file: what findings call it; name: what errors do, where that is not the same.

    folder: what its own relative paths start from. asked: whether it was named itself, and not found in a folder.
    """

    file: str
    text: str
    folder: Path
    asked: bool
    name: str


def text_of(path: Path, file: str | None = None, *, asked: bool = True, name: str | None = None) -> Text:
    """Text of a file, under the names it is given. Raises InvalidFileError where it cannot be read."""
    file = str(path) if file is None else file
    try:
        return Text(file, read_text(path), path.parent, asked, name or file)
    except KvcalcError as error:
        if name is not None:
            error.where = name
        raise


def texts_of(paths: Iterable[Path]) -> Iterator[Text]:
    """Texts of files, and of all files in folders that may hold deployments, in order."""
    for path in paths:
        if is_folder(path):
            yield from found_texts((inner, str(inner), str(inner)) for inner in files_below(path))
        else:
            yield text_of(path)


def found_texts(files: Iterable[tuple[Path, str, str]]) -> Iterator[Text]:
    """Texts of files that were found, by path, file and name; what is no text, or too large, holds no deployments."""
    for path, file, name in files:
        try:
            yield text_of(path, file, asked=False, name=name)
        except InvalidFileError:
            yield Text(file, "", path.parent, False, name)


def may_be_read(path: str) -> bool:
    """Whether a file of a folder is looked at, by its name and those of the folders that hold it."""
    *folders, name = path.split("/")
    return name.endswith(SUFFIXES) and not any(part.startswith(".") or part in _NEVER for part in (*folders, name))


def files_below(folder: Path) -> list[Path]:
    """Files of a folder that are looked at, sorted; what links to folders is not followed.

    Raises InvalidFileError where there are more than anybody means.
    """
    found: list[Path] = []
    for top, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in _NEVER)
        found.extend(Path(top, name) for name in sorted(names) if may_be_read(name))
        if len(found) > _MOST_FILES:
            raise InvalidFileError(
                f"holds more than {_MOST_FILES:,} files that may be plans", where=str(folder), help="name one below it"
            )
    return sorted(found)
