"""Where a model's files stand: a folder on this disk, or a repository of a hub at one commit."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Protocol

from kvcalc.io.documents import read_text
from kvcalc.io.files import is_file


class Source(Protocol):
    """Files of one model, by their names. name: what the model is called."""

    @property
    def name(self) -> str:
        """What its model is called."""
        ...

    def has(self, file: str) -> bool:
        """Whether there is a file of that name."""
        ...

    def place(self, file: str) -> str:
        """What messages call a file."""
        ...

    def text(self, file: str) -> str:
        """Text of a file. Raises KvcalcError where it cannot be read."""
        ...


class Folder(NamedTuple):
    """A folder on this disk."""

    name: str
    path: Path

    def has(self, file: str) -> bool:
        """Whether there is a file of that name."""
        return is_file(self.path / file)

    def place(self, file: str) -> str:
        """The file's path."""
        return str(self.path / file)

    def text(self, file: str) -> str:
        """Text of a file. Raises InvalidFileError."""
        return read_text(self.path / file)
