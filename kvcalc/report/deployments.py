"""Deployments as files hold them: what was read, what is missing and where, and nothing sized."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from kvcalc.report.sheet import Column, Json, Sheet, in_version
from kvcalc.units import plural


class Note(NamedTuple):
    """What is said of a place. where: FILE:LINE; about: what it is about, in a word; why: a sentence."""

    where: str
    about: str
    why: str

    def data(self) -> dict[str, Json]:
        """Plain values."""
        return self._asdict()

    def __str__(self) -> str:
        return f"{self.where}: {self.about}: {self.why}"


class Deployed(NamedTuple):
    """An engine that a file starts.

    args: what decides the cache, by the engine's own long flag names without dashes in front. gpus: of one replica over
    all its nodes; gpu: name of a device; None where the file does not say. role: prefill or decode. version: as the
    image's tag says. replicas_max: where it scales. where: FILE:LINE of what starts it.
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

    def data(self) -> dict[str, Json]:
        """Plain values."""
        values: dict[str, Json] = {**self._asdict(), "args": dict(self.args)}
        for name in ("version", "replicas_max"):
            if not values[name]:
                del values[name]
        return values


class DeploymentsReport(NamedTuple):
    """What was read of all files. skipped: files of a folder that hold no deployment."""

    deployments: tuple[Deployed, ...]
    refused: tuple[Note, ...] = ()
    told: tuple[Note, ...] = ()
    skipped: tuple[Note, ...] = ()

    def data(self) -> dict[str, Json]:
        """Plain values."""
        skipped = {"skipped": [note.data() for note in self.skipped]} if self.skipped else {}
        return {
            "deployments": [deployment.data() for deployment in self.deployments],
            "refused": [note.data() for note in self.refused],
            "told": [note.data() for note in self.told],
            **skipped,
        }

    def sheets(self) -> tuple[Sheet, ...]:
        """A row for each deployment, and tables of what was refused, reported and skipped."""
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
        sheets.extend(_notes(title, notes) for title, notes in named if notes)
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


def _notes(title: str, notes: tuple[Note, ...]) -> Sheet:
    columns = (Column("where"), Column("about"), Column("why"))
    return Sheet(f"{title}: {len(notes):,}", columns, tuple((each.where, each.about, each.why) for each in notes))
