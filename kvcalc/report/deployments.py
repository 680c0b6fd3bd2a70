"""Deployments as written in files: what was read, and what is missing where. Nothing is sized."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Self

from kvcalc.errors import InvalidFileError, KvcalcError
from kvcalc.report.notebooks import frame_of, html_of, text_of
from kvcalc.report.sheet import Column, Json, Sheet, in_version
from kvcalc.report.versions import named
from kvcalc.units import plural

_HELP = "`kvcalc deployments PATH` shows everything that was read"
THE_FILE = "the file"
"""Subject of a note on a whole file."""


class Note(NamedTuple):
    """A note on a place in a file. where: FILE:LINE; about: its subject; why: a sentence.

    help: what to try next, unless the sentence says so.
    """

    where: str
    about: str
    why: str
    help: str = ""

    @classmethod
    def of(cls, error: KvcalcError, name: str = "") -> Self:
        """An error as a note. name: of the file, if the error does not have it."""
        where, _, about = error.where.partition(": ")
        return cls(where or name, about or THE_FILE, error.what, error.help)

    @property
    def sentence(self) -> str:
        """The reason, and what to try next."""
        return f"{self.why}; {self.help}" if self.help else self.why

    def error(self) -> KvcalcError:
        """The same as an exception."""
        where = self.where if self.about == THE_FILE else f"{self.where}: {self.about}"
        return InvalidFileError(self.why, where=where, help=self.help or _HELP)

    def to_dict(self) -> dict[str, Json]:
        """Plain values."""
        values: dict[str, Json] = {"where": self.where, "about": self.about, "why": self.why}
        return values | ({"help": self.help} if self.help else {})

    def __str__(self) -> str:
        return f"{self.where}: {self.about}: {self.why}"


class Deployed(NamedTuple):
    """An engine that a file starts.

    args: what decides the cache, by the engine's long flag names without leading dashes. gpus: of one replica across
    its nodes; gpu: name of a device; None if the file does not say. role: prefill or decode. version: from the
    image's tag. replicas_max: if it autoscales. where: FILE:LINE of its start.
    """

    name: str
    engine: str
    model: str | None
    args: Mapping[str, Json]
    gpus: int | None
    gpu: str | None
    replicas: int | None
    role: str | None
    where: str
    version: str = ""
    replicas_max: int | None = None

    def to_dict(self) -> dict[str, Json]:
        """Plain values."""
        values: dict[str, Json] = {**self._asdict(), "args": dict(self.args)}
        for name in ("version", "replicas_max"):
            if not values[name]:
                del values[name]
        return values


class DeploymentsReport(NamedTuple):
    """Everything read from the files. skipped: files in folders that have no deployment."""

    deployments: tuple[Deployed, ...]
    refused: tuple[Note, ...] = ()
    told: tuple[Note, ...] = ()
    skipped: tuple[Note, ...] = ()

    def to_dict(self) -> dict[str, Json]:
        """Plain values."""
        skipped = {"skipped": [note.to_dict() for note in self.skipped]} if self.skipped else {}
        return {
            **named("deployments"),
            "deployments": [deployment.to_dict() for deployment in self.deployments],
            "refused": [note.to_dict() for note in self.refused],
            "told": [note.to_dict() for note in self.told],
            **skipped,
        }

    def __str__(self) -> str:
        return text_of(self)

    def _repr_html_(self) -> str:
        return html_of(self)

    def to_frame(self) -> Any:
        """A data frame of what `--format csv` prints, in pandas, polars or pyarrow, whichever is there."""
        return frame_of(self)

    def sheets(self) -> tuple[Sheet, ...]:
        """One row for each deployment, and tables of what was refused, reported and skipped."""
        columns = (
            Column("deployment"),
            Column("engine"),
            Column("model"),
            Column("GPUs", "count"),
            Column("GPU"),
            Column("replicas", "count"),
            Column("role", wide=True),
            Column("arguments", wide=True),
            Column("where"),
        )
        rows = tuple(
            (
                each.name,
                in_version(each.engine, each.version),
                each.model or "?",
                each.gpus,
                each.gpu or "?",
                each.replicas,
                each.role,
                arguments_shown(each.args),
                each.where,
            )
            for each in self.deployments
        )
        title = f"Deployments: {plural(len(rows), 'engine')} found"
        sheets = [Sheet(title, columns, rows)]
        named = (("Refused", self.refused), ("Reported", self.told), ("Skipped", self.skipped))
        sheets.extend(notes_sheet(title, notes) for title, notes in named if notes)
        return tuple(sheets)


def arguments_shown(args: Mapping[str, Json]) -> str:
    """Arguments on one line: `max-model-len=8192, enable-prefix-caching`."""
    shown = []
    for name, value in args.items():
        if value is True:
            shown.append(name)
        elif isinstance(value, Mapping):
            shown.append(f"{name}={{...}}")
        else:
            shown.append(f"{name}={'false' if value is False else value}")
    return ", ".join(shown)


def notes_sheet(title: str, notes: tuple[Note, ...]) -> Sheet:
    """A table of notes."""
    columns = (Column("where"), Column("about"), Column("why"))
    return Sheet(f"{title}: {len(notes):,}", columns, tuple((each.where, each.about, each.sentence) for each in notes))
