"""Bytes of one sequence as a function of its tokens, from which sizes, capacities and sweeps are read.

It is an expression as slot rules are, their sum by bytes, so it knows its kinks, its growth and its inverse as they do.
Tensors of the same slot rule are added up first: a model of any depth is a handful of terms.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Self

from kvcalc.dtypes import Dtype
from kvcalc.engines import Engine
from kvcalc.model import Model
from kvcalc.slots.algebra import Expression
from kvcalc.slots.primitives import TOKENS, Sum

if TYPE_CHECKING:
    from kvcalc.slots.algebra import Tokens


class Footprint(Sum):
    """Bytes of one sequence as a function of its cached tokens: each slot rule by its bytes per slot, all layers."""

    __slots__ = ()

    @classmethod
    def of(cls, model: Model, engine: Engine, kv_dtype: Dtype) -> Self:
        """Footprint of `model` as `engine` stores it in `kv_dtype`."""
        return cls.summed(
            (engine.copies * len(group.layers) * tensor.bytes_per_slot(kv_dtype), tensor.slot_rule)
            for group, tensors in zip(model.groups, engine.allocate(model, kv_dtype), strict=True)
            for tensor in tensors
        )

    @classmethod
    def summed(cls, terms: Iterable[tuple[int, Expression]]) -> Self:
        """Bytes per slot of each rule, those of equal rules as one."""
        bytes_by_rule: dict[Expression, int] = {}
        for slot_bytes, rule in terms:
            bytes_by_rule[rule] = bytes_by_rule.get(rule, 0) + slot_bytes
        return cls(*((slot_bytes, rule) for rule, slot_bytes in bytes_by_rule.items() or [(TOKENS, 0)]))

    def bytes(self, tokens: Tokens) -> Tokens:
        """Bytes of one sequence with `tokens` tokens, an int or an int64 array (which must not overflow)."""
        return self.slots(tokens)
