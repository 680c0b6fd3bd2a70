"""Tensors of a row, with the sizes of a config."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import prod

from kvcalc.errors import NotApplicableError
from kvcalc.io.parameters._facts import Facts
from kvcalc.io.parameters._layers import Block
from kvcalc.io.parameters.classes import Class, kinds_of
from kvcalc.io.parameters.towers import Towered
from kvcalc.model.checkpoint import WeightTensor
from kvcalc.units import shown

_EMBEDDING = "embed_tokens.weight"


def not_counted(why: str) -> NotApplicableError:
    """The error of a config whose tensors are not counted."""
    return NotApplicableError(why, help="pass the size with --weights")


def text_tensors(row: Class, facts: Facts, num_layers: int, *, tied: bool) -> Iterator[WeightTensor]:
    """Tensors of a text model. tied: whether logits share the embedding."""
    if facts.size("layers") != num_layers:
        raise not_counted(f"num_hidden_layers is not {num_layers:,}")
    if row.divides and facts.size("q") != facts.size("hidden"):
        raise not_counted("head_dim is not hidden_size / num_attention_heads")
    every = tuple(range(num_layers))
    kinds = kinds_of(facts, num_layers) if row.mixers else []
    sparse = row.sparse_layers(facts, num_layers)
    yield WeightTensor("embedding", _EMBEDDING, _shape("vocab x hidden", facts))
    for blocks, layers in (
        *((row.mixers[kind], _where(kinds, kind)) for kind in dict.fromkeys(kinds)),
        (row.blocks, every),
        (row.dense, tuple(layer for layer in every if layer not in sparse)),
        (row.sparse, tuple(sorted(sparse))),
    ):
        if layers:
            yield from _of_blocks(blocks, facts, layers)
    yield from _of_blocks((row.last_norm,), facts)
    yield WeightTensor("head", "lm_head.weight", _shape("vocab x hidden", facts), shares=_EMBEDDING if tied else "")
    if row.head_bias and facts.holds(row.head_bias):
        yield WeightTensor("head", "lm_head.bias", _shape("vocab", facts))


def _where(kinds: list[str], kind: str) -> tuple[int, ...]:
    return tuple(layer for layer, own in enumerate(kinds) if own == kind)


def tower_tensors(row: Towered, tower: Facts, own: Facts) -> Iterator[WeightTensor]:
    """Tensors of a tower and its projector, by facts of its section and of the whole config."""
    if row.refused and tower.holds(row.refused):
        raise not_counted(f"{row.refused} is not false")
    for field, default in row.own_defaults.items():
        if type(own.value(field)) is not type(default):
            raise not_counted(f"{field} is {shown(own.value(field))}")
    field, listed = row.listed
    entries = tower.value(field) if field else []
    if not isinstance(entries, list):
        raise not_counted(f"{field} is {shown(entries)}")
    for texts, facts, layers in (
        (row.tower, tower, 0),
        (row.layers, tower, tower.size("layers")),
        (listed, tower, len(entries)),
        (row.projector, own, 0),
    ):
        if texts is not listed or entries:
            yield from _of_blocks((Block("vision", texts),), facts, tuple(range(layers)))


def _of_blocks(blocks: Iterable[Block], facts: Facts, layers: tuple[int, ...] = ()) -> Iterator[WeightTensor]:
    for block in blocks:
        for text in block.tensors:
            tensor, _, conditions = text.partition(" if ")
            if all(map(facts.holds, conditions.split(" and "))):
                name, _, shape = tensor.partition(": ")
                yield WeightTensor(block.part, name, _shape(shape, facts), layers, block.dtype)


def _shape(text: str, facts: Facts) -> tuple[int, ...]:
    return tuple(prod(_factor(factor, facts) for factor in side.split("*")) for side in text.split(" x "))


def _factor(text: str, facts: Facts) -> int:
    return int(text) if text.isdecimal() else facts.size(text)
