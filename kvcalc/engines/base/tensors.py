"""Steps shared by several engines."""

from __future__ import annotations

from collections.abc import Callable

from kvcalc.cache.slots.layers import once
from kvcalc.cache.tensor import CacheTensor
from kvcalc.engines.base import Allocation
from kvcalc.model import Model

CROSS = "cross_"
"""Prefix of tensor names with data from another sequence's tokens."""


def per_tensor(model: Model, allocated: Callable[[CacheTensor], CacheTensor]) -> Allocation:
    """Allocation with each tensor mapped by `allocated`."""
    return tuple(tuple(map(allocated, group.tensors)) for group in model.groups)


def with_encoder_tokens(tensor: CacheTensor, encoder_tokens: int | None) -> CacheTensor:
    """`tensor` with a slot for each of `encoder_tokens`, if it belongs to cross-attention and the number is given."""
    if encoder_tokens is None or not tensor.name.startswith(CROSS):
        return tensor
    return tensor._replace(slot_rule=once(encoder_tokens, words=f"{encoder_tokens:,} of the encoder"))
