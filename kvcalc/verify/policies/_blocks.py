"""Blocks of slots that heads take from a pool one by one, and the table that says which ones each head has."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import pad

_NONE = -1
"""Entry of the table where a head has no block."""


class HeadBlocks:
    """Slots of keys and values for each of h heads of B sequences, in blocks of `size`.

    key, value: the pool, (blocks, size, D). table: block numbers, int32 (B, h, entries). each: blocks that a head has;
    all have as many.
    """

    def __init__(self, like_key: Tensor, like_value: Tensor, size: int) -> None:
        self.size = size
        self.key, self.value = (rows.new_zeros(0, size, rows.shape[-1]) for rows in (like_key, like_value))
        self.table = torch.full((*like_key.shape[:2], 0), _NONE, dtype=torch.int32, device=like_key.device)
        self.each = 0

    @property
    def held(self) -> Mapping[str, Tensor]:
        """The pool and the table."""
        return {"k": self.key, "v": self.value, "block_table": self.table}

    def widen(self, entries: int) -> None:
        """Makes room for this many block numbers per head."""
        if entries > self.table.shape[-1]:
            self.table = pad(self.table, (0, entries - self.table.shape[-1]), value=_NONE)

    def provide(self, slots: int) -> None:
        """Makes the pool large enough for this many slots per head."""
        sequences, heads = self.table.shape[:2]
        missing = sequences * heads * -(-slots // self.size) - len(self.key)
        if missing > 0:
            self.key, self.value = (
                torch.cat([pool, pool.new_zeros(missing, *pool.shape[1:])]) for pool in (self.key, self.value)
            )

    def reserve(self, slots: int) -> None:
        """Takes blocks until each head has this many slots."""
        self.provide(slots)
        while self.each * self.size < slots:
            self.widen(self.each + 1)
            sequences, heads = self.table.shape[:2]
            first = self.each * sequences * heads
            numbers = torch.arange(first, first + sequences * heads, dtype=torch.int32, device=self.key.device)
            self.table[..., self.each] = numbers.view(sequences, heads)
            self.each += 1

    def write(self, slots: Tensor, key: Tensor, value: Tensor) -> None:
        """One row of keys (B, h, D) and values (B, h, D_v) into the slots (B, h) of the heads."""
        blocks = self._blocks(slots.unsqueeze(-1)).squeeze(-1)
        self.key[blocks, slots % self.size] = key
        self.value[blocks, slots % self.size] = value

    def read(self, slots: int) -> tuple[Tensor, Tensor]:
        """The first slots of each head, this many: keys (B, h, slots, D) and values (B, h, slots, D_v)."""
        places = torch.arange(slots, device=self.key.device).expand(*self.table.shape[:2], slots)
        blocks = self._blocks(places)
        return self.key[blocks, places % self.size], self.value[blocks, places % self.size]

    def _blocks(self, slots: Tensor) -> Tensor:
        """Numbers of the blocks that hold these slots, (B, h, n)."""
        return self.table.gather(-1, slots // self.size).long()
