"""Rows: what a kernel reads of a stored tensor for one slot of the model's own.

A model says which slots of its tensors a step looks at; an engine stores them under its own names, several in one, and
in blocks. A row is one such slot as stored, without the block around it and without padding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from kvcalc.cache.dtypes import Dtype
from kvcalc.cache.tensor import CacheTensor

STATES_OF_A_BLOCK = "states of a block"
"""Dimension of a stored tensor whose slot is a block: the rows in it."""
_ROWS_OF_SLOT = (STATES_OF_A_BLOCK, "entries", "sliding_window")
ONCE = "a state"
"""Instead of a tensor's name: a state, read once in full."""


class Row(NamedTuple):
    """A stored tensor, the model's tensor whose slots its rows are, and bytes of one.

    of: None for a state, or where a step reads none of it (bytes 0). is_slot: whether a slot is one row.
    """

    stored: CacheTensor
    of: CacheTensor | None
    bytes: int
    is_slot: bool = True


def rows_of(
    own: Sequence[CacheTensor], stored: Sequence[CacheTensor], holds: Mapping[str, tuple[str, ...]], kv_dtype: Dtype
) -> Iterator[Row]:
    """The row of each stored tensor. holds: of those with names of the engine's own, the model's that they may hold."""
    by_name = {tensor.name: tensor for tensor in own}
    for tensor in stored:
        names = (tensor.name, *holds.get(tensor.name, ()))
        of = next((by_name[name] for name in names if name in by_name), None)
        if of is not None:
            rows = _rows_of_slot(tensor)
            yield Row(tensor, of, tensor.bytes_per_slot(kv_dtype) // rows, rows == 1)
        elif ONCE in names:
            yield Row(tensor, None, tensor.bytes_per_slot(kv_dtype))
        else:
            yield Row(tensor, None, 0)


def _rows_of_slot(tensor: CacheTensor) -> int:
    first = tensor.dims[0]
    return first.size if first.name in _ROWS_OF_SLOT else 1
