"""Sizes of published checkpoints: presets/checkpoints.tsv, one row each with repository, bytes, format and source."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from kvcalc.fleet.weights import Weights
from kvcalc.hardware import presets_folder

FILE = "checkpoints.tsv"


class Published(NamedTuple):
    """A repository with a known size. bytes: of all tensors. form: of its weights. source: of the size."""

    repository: str
    bytes: int
    form: str
    source: str


@cache
def rows() -> dict[str, Published]:
    """Every row, by its repository in lower case."""
    lines = (presets_folder() / FILE).read_text("utf-8").splitlines()
    cells = (line.split("\t") for line in lines if line and not line.startswith("#"))
    found = (Published(repository, int(size), form, source) for repository, size, form, source in cells)
    return {row.repository.lower(): row for row in found}


def published_size(repository: str) -> Published | None:
    """Row of a repository, ignoring case."""
    return rows().get(repository.lower()) if repository else None


def of_row(row: Published) -> Weights:
    """Weights of a published size."""
    source = f"as published ({row.repository}; {row.source})"
    return Weights(row.bytes, source, form=row.form, repository=row.repository)
