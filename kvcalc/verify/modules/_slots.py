"""The storage of one cache tensor of one layer: slots for tokens, a ring where a window forgets, or a state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor


class Reach(NamedTuple):
    """How far back a query sees. window: in tokens, itself included. chunk: within its chunk of this many tokens."""

    window: int | None = None
    chunk: int | None = None

    @property
    def limit(self) -> int | None:
        """Most tokens that are ever kept; None: all."""
        return self.window or self.chunk

    def first_seen(self, position: Tensor) -> Tensor:
        """Oldest token that the query at each position sees."""
        if self.window:
            return (position - self.window + 1).clamp(min=0)
        if self.chunk:
            return position - position % self.chunk
        return torch.zeros_like(position)


class State:
    """Storage that each token rewrites: a recurrent state, the last inputs of a convolution, tokens that wait."""

    def __init__(self, data: Tensor) -> None:
        self.data = data


class Slots:
    """Storage (sequences, *heads, slots, width), written in the order of tokens.

    capacity: tokens that a sequence will have at most; a limited reach makes a ring of min(capacity, limit) slots.
    """

    def __init__(
        self, sequences: int, shape: tuple[int, ...], capacity: int, reach: Reach, dtype: torch.dtype, device: str
    ) -> None:
        slots = min(capacity, reach.limit or capacity)
        *heads, width = shape
        self.data = torch.empty((sequences, *heads, slots, width), dtype=dtype, device=device)
        self.size = slots
        self.tokens = 0

    def append(self, rows: Tensor) -> None:
        """Writes the next tokens' rows (sequences, *heads, tokens, width); a ring keeps the last of them."""
        number = rows.shape[-2]
        start = self.tokens + max(0, number - self.size)
        rows = rows[..., max(0, number - self.size) :, :]
        at = start % max(self.size, 1)
        before_the_end = min(rows.shape[-2], self.size - at)
        self.data[..., at : at + before_the_end, :] = rows[..., :before_the_end, :].to(self.data.dtype)
        self.data[..., : rows.shape[-2] - before_the_end, :] = rows[..., before_the_end:, :].to(self.data.dtype)
        self.tokens += number

    def repeat(self, rows: Tensor, tokens: int) -> None:
        """Fills an empty storage with `tokens` tokens by repeating rows; each byte is written once."""
        self.tokens, kept = tokens, min(tokens, self.size)
        slots, rows = (
            _in_words(self.data),
            _in_words(rows.to(self.data.dtype).clone(memory_format=torch.contiguous_format)),
        )
        times, rest = divmod(kept, rows.shape[-2])
        whole = slots[..., : kept - rest, :]
        if times:
            whole.unflatten(-2, (times, -1)).copy_(rows.unsqueeze(-3))  # (..., times, rows, width)
        slots[..., kept - rest : kept, :] = rows[..., :rest, :]

    def held(self) -> tuple[Tensor, Tensor]:
        """The kept rows, and the position of each slot's token; not in order once a ring has wrapped around."""
        kept = min(self.tokens, self.size)
        slots = torch.arange(kept, device=self.data.device)
        last = self.tokens - 1
        return self.data[..., :kept, :], last - (last - slots) % max(self.size, 1)


def _in_words(rows: Tensor) -> Tensor:
    """The same bytes in words of 8, which CUDA copies up to 2.6 times as fast as elements of 2 (seen on an H100)."""
    width, rest = divmod(rows.shape[-1] * rows.element_size(), torch.int64.itemsize)
    return rows if rest else rows.flatten().view(torch.int64).view(*rows.shape[:-1], width)


Cache = Mapping[str, Slots | State]
"""What one part of a layer keeps, by the names that sizing gives its tensors."""
