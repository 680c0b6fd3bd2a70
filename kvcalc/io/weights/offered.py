"""Weights of a model published in other formats than its own, if an engine loads them.

A repository whose size was read (presets/checkpoints.tsv) is exact; one known only by name (presets/repositories.tsv)
is counted in its format, an estimate. Of formats of equal size only the first is offered; `--weights-dtype` selects
any.
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

_ALIKE_PERCENT = 10
"""Difference up to which two formats count as equal."""


def offered(model: Model, engine: Engine, gpu: Gpu) -> Iterator[Weights]:
    """Weights in each format with a repository, except the model's own; none for a rebuilt model."""
    own = model.checkpoint
    if not own.preset or own.path or rebuilt_as(model):
        return
    forms = repositories_of(own)
    loaded = [form for form in engine.LOADS if form in forms and engine.loads(form, gpu.compute_capability)]
    found = [_published(model, form, forms[form]) for form in loaded if form != own.format]
    kept: list[int] = []
    for weights in sorted(filter(None, found), key=lambda weights: weights.estimate):
        if all(abs(weights.bytes - other) * 100 > other * _ALIKE_PERCENT for other in kept):
            kept.append(weights.bytes)
            yield weights


def _published(model: Model, form: str, repository: str) -> Weights | None:
    """The weights of a repository; None if their size is unknown."""
    other = model.checkpoint._replace(repository=repository, format=form)
    try:
        return find_weights(replace(model, checkpoint=other, weights_bytes=None, weights_source=""))
    except KvcalcError:
        return None
