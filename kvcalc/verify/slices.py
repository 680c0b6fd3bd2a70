"""The largest part of a model's cache that fits a memory: fewer layers first, then fewer tokens."""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate, takewhile

from kvcalc.engines import Engine
from kvcalc.engines.base.footprint import Footprint
from kvcalc.errors import InvalidValueError
from kvcalc.model import LayerGroup, Model
from kvcalc.question import Question
from kvcalc.units import both_units


def first_layers(model: Model, layers: int) -> Model:
    """The model's first layers, this many."""
    kept = [(group, tuple(layer for layer in group.layers if layer < layers)) for group in model.groups]
    groups = tuple(replace(group, layers=left) for group, left in kept if left)
    return replace(model, groups=groups, draft_groups=())


def largest_slice(question: Question, memory_bytes: int) -> Question:
    """The first layers whose caches fit memory_bytes, with fewer tokens if not even one layer fits.

    Raises InvalidValueError if not even one token of one layer does.
    """
    engine, model, tokens = Engine.of("ideal"), question.model, question.tokens
    bytes_of_group = {
        group.name: Footprint.of(_alone(group), engine, question.kv_dtype).bytes(tokens) * question.sequences
        for group in model.groups
    }
    grown = accumulate(bytes_of_group[name] for name in model.layer_names)
    layers = sum(1 for _ in takewhile(lambda total: total <= memory_bytes, grown))
    if layers == model.num_layers:
        return question
    part = first_layers(model, max(1, layers))
    if layers:
        return question.of_model(part)
    footprint = Footprint.of(part, engine, question.kv_dtype)
    fitting = footprint.max_tokens(memory_bytes // question.sequences) or 0
    if fitting < 1:
        raise InvalidValueError(
            f"not even one token of one layer fits in {both_units(memory_bytes)}",
            help="use fewer sequences, or --device meta",
        )
    return question.of_model(part).at(min(fitting, tokens))


def _alone(group: LayerGroup) -> Model:
    """A model of one layer of the group."""
    return Model(group.name, (replace(group, layers=(0,)),))
