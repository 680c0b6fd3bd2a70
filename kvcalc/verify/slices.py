"""The largest part of a model's cache that fits a memory: fewer layers first, then fewer tokens."""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate, takewhile

from kvcalc.engines import Engine
from kvcalc.engines.base.footprint import Footprint
from kvcalc.errors import InvalidValueError
from kvcalc.model import LayerGroup, Model
from kvcalc.units import both_units
from kvcalc.workload import Workload


def first_layers(model: Model, layers: int) -> Model:
    """The model cut off after so many layers."""
    kept = [(group, tuple(layer for layer in group.layers if layer < layers)) for group in model.groups]
    groups = tuple(replace(group, layers=left) for group, left in kept if left)
    return replace(model, groups=groups, draft_groups=())


def largest_slice(model: Model, workload: Workload, memory_bytes: int) -> tuple[Model, Workload]:
    """The first layers of `model` whose caches fit memory_bytes, with fewer tokens where not even one layer fits.

    Raises InvalidValueError where not even one token of one layer does.
    """
    engine = Engine.of("ideal")
    bytes_of_group = {
        group.name: Footprint.of(_alone(group), engine, workload.kv_dtype).bytes(workload.tokens) * workload.sequences
        for group in model.groups
    }
    grown = accumulate(bytes_of_group[name] for name in model.layer_names)
    layers = sum(1 for _ in takewhile(lambda total: total <= memory_bytes, grown))
    if layers == model.num_layers:
        return model, workload
    part = first_layers(model, max(1, layers))
    if layers:
        return part, workload
    footprint = Footprint.of(part, engine, workload.kv_dtype)
    tokens = footprint.max_tokens(memory_bytes // workload.sequences) or 0
    if tokens < 1:
        raise InvalidValueError(
            f"not one token of one layer fits {both_units(memory_bytes)}", help="give fewer sequences, or --device meta"
        )
    return part, Workload(min(tokens, workload.tokens), workload.sequences, workload.kv_dtype)


def _alone(group: LayerGroup) -> Model:
    """A model of one layer of the group."""
    return Model(group.name, (replace(group, layers=(0,)),))
