"""Bytes of one sequence as a function of its tokens, from which sizes, capacities and sweeps are read.

Tensors of the same slot rule are added up first, so a model of any depth is a handful of terms. Between kinks the sum
grows by the same bytes with each period of tokens, which is what lets `capacity` invert it without a search.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from math import lcm
from typing import TYPE_CHECKING, NamedTuple, Protocol

from kvcalc.dtypes import Dtype
from kvcalc.model import Model
from kvcalc.slots.rule import SlotRule
from kvcalc.tensors import CacheTensor

if TYPE_CHECKING:
    from kvcalc.slots.rule import Tokens


class Stores(Protocol):
    """What stores a model's tensors its own way, each sequence so many times."""

    @property
    def copies(self) -> int: ...  # noqa: D102

    def allocate(self, model: Model, kv_dtype: Dtype) -> tuple[tuple[CacheTensor, ...], ...]: ...  # noqa: D102


class Footprint(NamedTuple):
    """Bytes of one sequence as a function of its cached tokens: each slot rule with its bytes per slot, all layers."""

    terms: tuple[tuple[SlotRule, int], ...]

    @classmethod
    def of(cls, model: Model, engine: Stores, kv_dtype: Dtype) -> Footprint:
        """Footprint of `model` as `engine` stores it in `kv_dtype`."""
        return cls.of_tensors(model, engine.allocate(model, kv_dtype), kv_dtype, engine.copies)

    @classmethod
    def of_tensors(
        cls, model: Model, allocation: tuple[tuple[CacheTensor, ...], ...], kv_dtype: Dtype, copies: int = 1
    ) -> Footprint:
        """Footprint of the tensors that each group of `model` is stored as, `copies` times."""
        bytes_by_rule: dict[SlotRule, int] = {}
        for group, tensors in zip(model.groups, allocation, strict=True):
            for tensor in tensors:
                slot_bytes = copies * len(group.layers) * tensor.bytes_per_slot(kv_dtype)
                bytes_by_rule[tensor.slot_rule] = bytes_by_rule.get(tensor.slot_rule, 0) + slot_bytes
        return cls(tuple(bytes_by_rule.items()))

    def bytes(self, tokens: Tokens) -> Tokens:
        """Bytes of one sequence with `tokens` tokens, an int or an int64 array (which must not overflow)."""
        if not self.terms:
            return 0 * tokens
        first, *rest = (rule.slots(tokens) * slot_bytes for rule, slot_bytes in self.terms)
        for term in rest:
            first = first + term
        return first

    def most(self, tokens: int) -> int:
        """No fewer bytes than a sequence of up to `tokens` tokens ever took."""
        return sum(rule.most(tokens) * slot_bytes for rule, slot_bytes in self.terms)

    @property
    def period(self) -> int:
        """Tokens after which the growth repeats, between two kinks."""
        return lcm(*(rule.period for rule, _ in self.terms))

    def kinks(self) -> list[int]:
        """Token counts, ascending, after which the growth changes."""
        return sorted({kink for rule, _ in self.terms for kink in rule.kinks})

    def stretches(self) -> Iterator[tuple[int, int | None]]:
        """First token count and the one after the last of each stretch between kinks; the last stretch has no end."""
        borders = sorted({0, *self.kinks()})
        yield from pairwise(borders)
        yield borders[-1], None
