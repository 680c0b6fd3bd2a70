"""Repositories with the weights of a preset, one per format."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvcalc.engines.base.loading import GGUF
from kvcalc.io.resolve.rule import core_of, format_of
from kvcalc.io.resolve.table import TAG, Row, rows
from kvcalc.io.weights.published import rows as sizes
from kvcalc.model.weight_formats import find_format

if TYPE_CHECKING:
    from kvcalc.model.checkpoint import Checkpoint

_GGUF = "gguf"
"""Mark of repositories with a file for each of llama.cpp's formats."""


def repositories_of(own: Checkpoint) -> dict[str, str]:
    """A repository for each format, preferring one with a known size.

    Only of the model itself, not of distils and other releases with the same cache. Empty if no preset has the tensors.
    """
    if not own.preset:
        return {}
    core = core_of(own.repository).name
    found = {row.form: row.repository for row in sizes().values() if core_of(row.repository).name == core}
    for row in rows():
        if row.preset != own.preset or not _is_other_format(row) or core_of(row.name).name != core:
            continue
        for form in GGUF if row.weights == _GGUF else (format_of(row.name, row.weights),):
            found.setdefault(form, row.name)
    return {form: repository for form, repository in found.items() if find_format(form) is not None}


def _is_other_format(row: Row) -> bool:
    return bool(row.weights) and row.context is None and not row.name.startswith(TAG)
