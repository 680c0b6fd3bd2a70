"""Weights of a model that are published in other formats than its own, as far as an engine loads them.

A repository whose size was read (presets/checkpoints.tsv) is exact; one that is known by name alone
(presets/repositories.tsv) is counted in its format, and an estimate. One repository stands for each format.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from kvcalc.errors import KvcalcError
from kvcalc.fleet.weights import Weights, rebuilt_as
from kvcalc.io.weights import find_weights
from kvcalc.io.weights.repositories import repositories_of

if TYPE_CHECKING:
    from kvcalc.engines import Engine
    from kvcalc.hardware.gpu import Gpu
    from kvcalc.model import Model


def offered(model: Model, engine: Engine, gpu: Gpu) -> Iterator[Weights]:
    """Weights of each format of which there is a repository, but for the model's own; none of a rebuilt model."""
    own = model.checkpoint
    if not own.preset or own.path or rebuilt_as(model):
        return
    for form, repository in repositories_of(own).items():
        if form == own.format or not engine.loads(form, gpu.compute_capability):
            continue
        other = own._replace(repository=repository, format=form)
        try:
            yield find_weights(replace(model, checkpoint=other, weights_bytes=None, weights_source=""))
        except KvcalcError:
            continue
