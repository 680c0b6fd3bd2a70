"""The one idea: an attention kind does not return bytes, it returns named tensors with named dimensions.

A `CacheTensor` is what one layer keeps for one sequence: the dimensions of one slot, the format of its elements, and
a rule by which slots grow with the cached tokens::

    k           (num_kv_heads 8, head_dim 128)   every token        llama-3-70b, one layer
    k           (num_kv_heads 16, head_dim 128)  last 1,024 tokens  gemma-3-27b, a sliding layer
    c_kv        (kv_lora_rank 512)               every token        deepseek-r1

Bytes, the printed formula, what an engine allocates and how many tokens fit all read this one value.

Slot rules are a small closed algebra over the number of cached tokens t. Each is exact, never falls as t grows, and
is linear in t between its kinks, so every total is piecewise linear and has an exact inverse. Each takes one int or a
numpy array of them, without this module importing numpy.
"""

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

from kvcalc.dtypes import Dtype

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


Tokens = TypeVar("Tokens", int, "NDArray[np.int64]")
"""Token counts: one int, or an int64 array of them."""


class SlotRule(Protocol):
    """How many slots hold t cached tokens."""

    def slots(self, tokens: Tokens) -> Tokens:
        """Slots of one sequence with `tokens` tokens cached."""
        ...

    @property
    def kinks(self) -> tuple[int, ...]:
        """Token counts, ascending, after which the growth per token changes."""
        ...


@dataclass(frozen=True)
class EveryToken:
    """t slots: full attention."""

    def slots(self, tokens: Tokens) -> Tokens:
        """The tokens themselves."""
        return tokens

    @property
    def kinks(self) -> tuple[int, ...]:
        """None: each token adds a slot."""
        return ()

    def __str__(self) -> str:
        return "every token"


@dataclass(frozen=True)
class LastTokens:
    """min(t, window) slots: sliding-window attention, a ring buffer of `window` tokens."""

    window: int

    def slots(self, tokens: Tokens) -> Tokens:
        """min(t, window)."""
        return _at_most(tokens, self.window)

    @property
    def kinks(self) -> tuple[int, ...]:
        """The window, from which on a new token takes the slot of the oldest."""
        return (self.window,)

    def __str__(self) -> str:
        return f"last {self.window:,}"


@dataclass(frozen=True)
class CurrentChunk:
    """min(t, chunk) slots: chunked attention, which looks back to the start of its own chunk.

    Right after a border only a few slots hold tokens that are still seen, but every sequence that got past the first
    border needed the whole chunk, and the buffer for it stays.
    """

    chunk: int

    def slots(self, tokens: Tokens) -> Tokens:
        """min(t, chunk)."""
        return _at_most(tokens, self.chunk)

    @property
    def kinks(self) -> tuple[int, ...]:
        """The chunk, after which its slots are used again."""
        return (self.chunk,)

    def __str__(self) -> str:
        return f"chunk of {self.chunk:,}"


class Dim(NamedTuple):
    """One named dimension of a slot, such as num_kv_heads 8. The name says how parallelism may split it."""

    name: str
    size: int

    def __str__(self) -> str:
        return f"{self.name} {self.size:,}"


class CacheTensor(NamedTuple):
    """What one layer caches for one sequence under one name.

    name: the field's own, such as k, v, c_kv.
    dims: dimensions of one slot.
    slot_rule: how many slots t cached tokens take.
    dtype: fixed format, or None for the workload's kv_dtype.
    """

    name: str
    dims: tuple[Dim, ...]
    slot_rule: SlotRule
    dtype: Dtype | None = None

    @property
    def elements_per_slot(self) -> int:
        """Product of the dimensions."""
        return prod(dim.size for dim in self.dims)

    def stored_as(self, kv_dtype: Dtype) -> Dtype:
        """Format of this tensor in a cache of `kv_dtype`."""
        return self.dtype or kv_dtype

    def bytes_per_slot(self, kv_dtype: Dtype) -> int:
        """Bytes of one slot, of one layer and sequence."""
        return self.stored_as(kv_dtype).bytes_of(self.elements_per_slot)


def _at_most(tokens: Tokens, limit: int) -> Tokens:
    return min(tokens, limit) if isinstance(tokens, int) else tokens.clip(max=limit)
