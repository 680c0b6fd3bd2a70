"""Vectors: measured allocations of engines, as questions and answers to check any estimator.

A file `vectors/ENGINE.jsonl` has one vector per line; `vectors/schema.json` describes it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kvcalc.errors import UnknownNameError
from kvcalc.io.documents import read_text

REFUSED = "refused"
"""Key of an answer without numbers: true for an engine that would not start, the reason for an estimator."""


_MOST_BYTES = 16 * 2**20


class Vector(NamedTuple):
    """A vector. question: as in the schema; answer: measured values, by name; how: they were measured."""

    id: str
    engine: str
    version: str
    question: Mapping[str, Any]
    answer: Mapping[str, Any]
    how: str

    @property
    def asked(self) -> str:
        """The question in a line of JSON, with its id, the engine and the version."""
        head = {"id": self.id, "engine": self.engine, "version": self.version}
        return json.dumps({**head, **self.question}, separators=(",", ":"))


def vectors_folder() -> Path:
    """Folder of the shipped vectors: next to the package in a checkout, inside it in a wheel."""
    package = Path(__file__).resolve().parents[2]
    inside = package / "vectors"
    return inside if inside.is_dir() else package.parent / "vectors"


def engine_names() -> list[str]:
    """Engines that were measured."""
    return sorted(path.stem for path in vectors_folder().glob("*.jsonl"))


def read_vectors(engines: Sequence[str] = ()) -> list[Vector]:
    """Vectors of these engines; by default of all. Raises UnknownNameError."""
    known = engine_names()
    for engine in engines:
        if engine not in known:
            raise UnknownNameError.among("engine with vectors", engine, known)
    lines = (
        line
        for engine in known
        if not engines or engine in engines
        for line in read_text(vectors_folder() / f"{engine}.jsonl", most=_MOST_BYTES).splitlines()
    )
    return [Vector(**json.loads(line)) for line in lines]
