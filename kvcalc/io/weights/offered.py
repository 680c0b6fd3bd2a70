"""Weights of a model that are published in other formats than its own, as far as an engine loads them.

A repository whose size was read (presets/checkpoints.tsv) is exact; one that is known by name alone
(presets/repositories.tsv) is counted in its format, and an estimate. One repository stands for each format.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from kvcalc.engines.base.loading import GGUF
from kvcalc.errors import KvcalcError
from kvcalc.fleet.weights import Weights, rebuilt_as
from kvcalc.io.resolve.rule import core_of, format_of
from kvcalc.io.resolve.table import TAG, rows
from kvcalc.io.weights import find_weights
from kvcalc.io.weights.published import rows as sizes
from kvcalc.model.weight_formats import find_format

if TYPE_CHECKING:
    from kvcalc.engines import Engine
    from kvcalc.hardware.gpu import Gpu
    from kvcalc.model import Model
    from kvcalc.model.checkpoint import Checkpoint


_GGUF = "gguf"
"""What the table says of repositories that have a file for each of llama.cpp's formats."""


def offered(model: Model, engine: Engine, gpu: Gpu) -> Iterator[Weights]:
    """Weights of each format of which there is a repository, but for the model's own; none of a rebuilt model."""
    own = model.checkpoint
    if not own.preset or own.path or rebuilt_as(model):
        return
    for form, repository in _repositories(own).items():
        if form == own.format or not engine.loads(form, gpu.compute_capability):
            continue
        other = own._replace(repository=repository, format=form)
        try:
            yield find_weights(replace(model, checkpoint=other, weights_bytes=None, weights_source=""))
        except KvcalcError:
            continue


def _repositories(own: Checkpoint) -> dict[str, str]:
    """A repository for each format: one whose size was read before any other, else the first in the table."""
    core = core_of(own.repository).name
    found = {row.form: row.repository for row in sizes().values() if core_of(row.repository).name == core}
    for row in rows():
        if row.preset == own.preset and row.weights and row.context is None and not row.name.startswith(TAG):
            for form in GGUF if row.weights == _GGUF else (format_of(row.name, row.weights),):
                found.setdefault(form, row.name)
    return {form: repository for form, repository in found.items() if find_format(form) is not None}
