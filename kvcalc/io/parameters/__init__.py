"""Tensors of a model from its config.json by arithmetic: which there are, with their shapes, to the parameter.

`classes.py` describes the classes of transformers, one row each. A config that its row does not understand completely
is not counted: a model type without a row, a class that has another task, towers, or a field that no row knows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod

from kvcalc.errors import KvcalcError, NotApplicableError
from kvcalc.io.families._config import Config
from kvcalc.io.parameters._facts import Facts
from kvcalc.io.parameters._layers import Block
from kvcalc.io.parameters.classes import CLASSES, Class
from kvcalc.model.checkpoint import Inventory, WeightTensor
from kvcalc.units import shown

_TIED = "tie_word_embeddings"
_EMBEDDING = "embed_tokens.weight"
_EXPERTS = "experts"


def tensors_of(config: Config, num_layers: int) -> Inventory | str:
    """Tensors of a config's class with so many layers; in words why, if they are not counted."""
    try:
        return _counted(config, num_layers)
    except KvcalcError as error:
        return error.what


def _counted(config: Config, num_layers: int) -> Inventory:
    row = CLASSES.get(config.model_type)
    if row is None:
        raise _unknown(f"no tensors of model_type {shown(config.model_type)} are known")
    if config.path or config.values is not config.top.values:
        raise _unknown(f"{shown(config.top.value('model_type'))} has towers besides its text model")
    named = config.texts("architectures")
    if named and row.name.lower() not in map(str.lower, named):
        raise _unknown(f"architectures names {shown(named[0])}, not {row.name}")
    facts = Facts(config, row.fields, row.ignored)
    if facts.size("layers") != num_layers:
        raise _unknown(f"num_hidden_layers is not {num_layers:,}")
    if row.divides and facts.size("q") != facts.size("hidden"):
        raise _unknown("head_dim is not hidden_size / num_attention_heads")
    tensors = tuple(_tensors(row, facts, num_layers))
    if unread := facts.unread():
        raise _unknown(f"a {row.name} has no {unread}")
    picked = facts.picked() if any(tensor.part == _EXPERTS for tensor in tensors) else 0
    left_out = ", ".join(f"{field} {value:,}" for field, value in facts.left_out())
    by_default = f" with its defaults {left_out}" if left_out else ""
    return Inventory(tensors, f"{row.name}{by_default}, counted from its config", picked)


def _tensors(row: Class, facts: Facts, num_layers: int) -> Iterator[WeightTensor]:
    every = tuple(range(num_layers))
    sparse = row.sparse_layers(facts, num_layers)
    yield WeightTensor("embedding", _EMBEDDING, _shape("vocab x hidden", facts))
    for blocks, layers in (
        (row.blocks, every),
        (row.dense, tuple(layer for layer in every if layer not in sparse)),
        (row.sparse, tuple(sorted(sparse))),
    ):
        if layers:
            yield from _of_blocks(blocks, facts, layers)
    yield from _of_blocks((row.last_norm,), facts)
    shares = _EMBEDDING if facts.holds(_TIED) else ""
    yield WeightTensor("head", "lm_head.weight", _shape("vocab x hidden", facts), shares=shares)
    if row.head_bias and facts.holds(row.head_bias):
        yield WeightTensor("head", "lm_head.bias", _shape("vocab", facts))


def _of_blocks(blocks: Sequence[Block], facts: Facts, layers: tuple[int, ...] = ()) -> Iterator[WeightTensor]:
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


def _unknown(why: str) -> NotApplicableError:
    return NotApplicableError(why, help="pass the size with --weights")
