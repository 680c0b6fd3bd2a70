"""Sources of a model's files: a folder on this disk, or a hub repository at one commit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

from kvcalc.errors import InvalidFileError
from kvcalc.errors.foreign import listed
from kvcalc.io.documents import read_text
from kvcalc.io.files import exists, is_file, is_folder

CONFIG, ADAPTER = "config.json", "adapter_config.json"
FOLDER_FILES = (CONFIG, "params.json", ADAPTER)
"""Config files of a folder, in order of preference: transformers, Mistral, adapter."""
ORIGINAL = "original"
"""Folder with the original files in Meta's repositories."""
PIPELINE = "model_index.json"


class Source(Protocol):
    """Files of one model, by their names."""

    is_remote: ClassVar[bool]
    """Whether its contents are untrusted, and must not reference files on this disk."""

    @property
    def name(self) -> str:
        """The name of its model."""
        ...

    def has(self, file: str) -> bool:
        """Whether it has a file of that name."""
        ...

    def place(self, file: str) -> str:
        """Name of a file for messages."""
        ...

    def text(self, file: str) -> str:
        """Text of a file. Raises KvcalcError if it cannot be read."""
        ...


@dataclass(frozen=True)
class Folder:
    """A folder on this disk."""

    is_remote: ClassVar[bool] = False
    name: str
    path: Path

    def has(self, file: str) -> bool:
        """Whether it has a file of that name."""
        return exists(self.path / file)

    def place(self, file: str) -> str:
        """The file's path."""
        return str(self.path / file)

    def text(self, file: str) -> str:
        """Text of a file. Raises InvalidFileError."""
        return read_text(self.path / file)


def readable(folder: Path) -> Path | None:
    """The file or folder to read for a model's folder; None if there is none or it is ambiguous.

    The folder itself if it has one of FOLDER_FILES; Meta's original folder without a config.json; the snapshot of a
    repository in the hub's cache; the only GGUF file, or the first part of a split one.
    """
    if not is_folder(folder):
        return None
    if any(exists(folder / name) for name in FOLDER_FILES):
        return folder
    original = folder / ORIGINAL / "params.json"
    if is_file(original):
        return original
    if (snapshot := _snapshot(folder)) is not None:
        return readable(snapshot)
    ggufs = gguf_files(folder)
    return ggufs[0] if len(ggufs) == 1 else None


def gguf_files(folder: Path) -> list[Path]:
    """GGUF files of models in a folder; of split ones the first part."""
    found = sorted(path for path in folder.glob("*.gguf") if "mmproj" not in path.name.lower())
    return [path for path in found if "-of-" not in path.stem or "-00001-of-" in path.stem]


def _snapshot(folder: Path) -> Path | None:
    """The snapshot of main in a repository's folder of the hub's cache, or its only one."""
    snapshots, main = folder / "snapshots", folder / "refs" / "main"
    if is_file(main):
        return snapshots / read_text(main).strip().replace("/", "")
    found = [path for path in snapshots.iterdir() if is_folder(path)] if is_folder(snapshots) else []
    return found[0] if len(found) == 1 else None


def is_pipeline(folder: Path) -> bool:
    """Whether a folder is a diffusers pipeline, whose parts have their own folders."""
    return is_file(folder / PIPELINE)


def nothing_in(place: str, has_pipeline: bool, ggufs: Sequence[str]) -> InvalidFileError:
    """The error for a folder or a repository without a readable model."""
    if has_pipeline:
        return InvalidFileError(
            "is a diffusers pipeline, not a language model",
            where=place,
            help="name one of its folders if it is a language model: text_encoder",
        )
    several = f"{len(ggufs)} GGUF files" if ggufs else "no GGUF file"
    return InvalidFileError(
        f"has no {', '.join(FOLDER_FILES)} and {several}",
        where=place,
        help=f"name one of them: {listed(ggufs)}" if ggufs else "name the folder or the repository of a language model",
    )
