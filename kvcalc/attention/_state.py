"""Base of the recurrent kinds: states of a fixed size, one slot for a sequence of any length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from kvcalc.attention._facts import Facts
from kvcalc.cache.slots.layers import once
from kvcalc.cache.tensor import CacheTensor, Dim

CONV_COLUMNS = "conv_columns"
"""Dimension of a convolution state: the kernel - 1 inputs that the next token's convolution still reads."""


@dataclass(frozen=True, kw_only=True)
class StateCache(Facts):
    """A part that keeps a state and no tokens."""

    state_dtype: Annotated[
        str, "format of the recurrent state; models compute it in fp32 unless their config names another"
    ] = "fp32"

    def recurrent(self, name: str, *dims: Dim) -> CacheTensor:
        """A recurrent state, in its own format."""
        return CacheTensor(name, dims, once(), self.dtype_of("state_dtype"), quantizable=False)


def conv_state(name: str, channels: Dim, conv_kernel: int) -> CacheTensor:
    """The last kernel - 1 inputs of a causal convolution, in the model's dtype."""
    return CacheTensor(name, (channels, Dim(CONV_COLUMNS, conv_kernel - 1)), once(), quantizable=False)
