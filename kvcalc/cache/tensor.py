"""The one idea: an attention kind does not return bytes, it returns named tensors with named dimensions.

A `CacheTensor` is what one layer caches for one sequence: the dimensions of one slot, the format of its elements, and a
rule by which slots grow with the cached tokens::

    k           (num_kv_heads 8, head_dim 128)   every token        llama-3-70b, one layer
    k           (num_kv_heads 16, head_dim 128)  last 1,024 tokens  gemma-3-27b, a sliding layer
    c_kv        (kv_lora_rank 512)               every token        deepseek-r1

Bytes, the printed formula, what an engine allocates and how many tokens fit all read this one value.
"""

from math import prod
from typing import Literal, NamedTuple

from kvcalc.cache.dtypes import BF16, Dtype
from kvcalc.cache.slots.rule import SlotRule


class Dim(NamedTuple):
    """One named dimension of a slot, such as num_kv_heads 8. The name determines how parallelism may split it."""

    name: str
    size: int

    def __str__(self) -> str:
        return f"{self.name} {self.size:,}"


Rounding = Literal["even", "floor", "ceil"]
"""Heads that ranks do not divide: refused, or each rank holds the floor, or the ceiling."""


class CacheTensor(NamedTuple):
    """A named tensor that one layer caches for one sequence.

    name: the field's own, such as k, v, c_kv.
    dims: dimensions of one slot.
    slot_rule: slots for t cached tokens.
    dtype: fixed format, or None for the workload's kv_dtype.
    quantizable: whether a quantised kv_dtype applies to it; a state stays in the model's dtype.
    storage_rule: slots of the underlying memory, if an engine keeps more than it uses.
    """

    name: str
    dims: tuple[Dim, ...]
    slot_rule: SlotRule
    dtype: Dtype | None = None
    quantizable: bool = True
    storage_rule: SlotRule | None = None

    @property
    def elements_per_slot(self) -> int:
        """Product of the dimensions."""
        return prod(dim.size for dim in self.dims)

    def stored_as(self, kv_dtype: Dtype) -> Dtype:
        """Format of this tensor in a cache of `kv_dtype`: bf16 for a state that would be quantised with K and V."""
        if self.dtype is not None:
            return self.dtype
        return kv_dtype if self.quantizable or kv_dtype.is_computed_in else BF16

    def bytes_per_slot(self, kv_dtype: Dtype) -> int:
        """Bytes of one slot, of one layer and sequence."""
        return self.stored_as(kv_dtype).bytes_of(self.elements_per_slot)
