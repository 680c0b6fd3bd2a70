"""Bytes of one sequence as a function of its tokens: the source of sizes, capacities and sweeps.

It is an expression like slot rules, their sum weighted by bytes, so it knows its kinks, its growth and its inverse.
Tensors with the same slot rule are combined first: a model of any depth has a handful of terms.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Self

from kvcalc.cache.dtypes import Dtype
from kvcalc.cache.slots.algebra import Expression
from kvcalc.cache.slots.primitives import TOKENS, Sum
from kvcalc.cache.tensor import CacheTensor
from kvcalc.model import Model

if TYPE_CHECKING:
    from kvcalc.cache.slots.algebra import Tokens
    from kvcalc.engines.base import Engine


class Footprint(Sum):
    """Bytes of one sequence as a function of its cached tokens: each slot rule times its bytes per slot, all layers."""

    __slots__ = ()

    @classmethod
    def of(cls, model: Model, engine: Engine, kv_dtype: Dtype) -> Self:
        """Footprint of `model` as stored by `engine` in `kv_dtype`."""
        return cls.of_tensors(model, engine.allocate(model, kv_dtype), kv_dtype, engine.copies)

    @classmethod
    def of_tensors(
        cls, model: Model, allocation: tuple[tuple[CacheTensor, ...], ...], kv_dtype: Dtype, copies: int = 1
    ) -> Self:
        """Footprint of the stored tensors of each group of `model`, times `copies`."""
        return cls.summed(
            (copies * len(group.layers) * tensor.bytes_per_slot(kv_dtype), tensor.slot_rule)
            for group, tensors in zip(model.groups, allocation, strict=True)
            for tensor in tensors
        )

    @classmethod
    def summed(cls, terms: Iterable[tuple[int, Expression]]) -> Self:
        """Bytes per slot of each rule, with equal rules combined."""
        bytes_by_rule: dict[Expression, int] = {}
        for slot_bytes, rule in terms:
            bytes_by_rule[rule] = bytes_by_rule.get(rule, 0) + slot_bytes
        return cls(*((slot_bytes, rule) for rule, slot_bytes in bytes_by_rule.items() or [(TOKENS, 0)]))

    def bytes(self, tokens: Tokens) -> Tokens:
        """Bytes of one sequence with `tokens` tokens, an int or an int64 array (which must not overflow)."""
        return self.slots(tokens)

    def max_tokens(self, budget_bytes: int) -> int | None:
        """Most tokens t such that no sequence of up to t tokens exceeds budget_bytes; None if none ever does.

        0 if not even one token fits. By division to a period and bisection within it, without floats.
        """
        too_many = self.first_above(budget_bytes)
        return None if too_many is None else max(0, too_many - 1)

    def max_sequences(self, tokens: int, budget_bytes: int) -> int | None:
        """Most sequences of `tokens` tokens each that fit budget_bytes together; None if they take no memory."""
        bytes_each = self.bytes(tokens)
        return max(0, budget_bytes) // bytes_each if bytes_each else None
