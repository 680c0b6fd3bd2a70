"""Layers without a cache, run as an MLP: one that reads what an earlier layer cached adds no tensor either."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import silu

from kvcalc.attention.none import NoCache
from kvcalc.verify.modules._module import ALONE, CacheModule, Context, Kept
from kvcalc.verify.modules._slots import Cache


class CachelessModule(CacheModule):
    """A block that looks at one token at a time."""

    def __init__(self, facts: NoCache, hidden_size: int, *, dtype: torch.dtype, device: str) -> None:
        super().__init__(facts, hidden_size, dtype=dtype, device=device)
        self.up, self.down = self.linear(hidden_size, hidden_size), self.linear(hidden_size, hidden_size)

    def new_cache(self, sequences: int, capacity: int, dtype: torch.dtype) -> Cache:  # noqa: ARG002
        """Nothing."""
        return {}

    def kept(self, hidden: Tensor) -> Kept:  # noqa: ARG002
        """Nothing."""
        return {}

    def write(self, kept: Kept, cache: Cache, tokens: int) -> None:
        """Nothing."""

    def forward(self, hidden: Tensor, cache: Cache | None = None, context: Context = ALONE) -> Tensor:  # noqa: ARG002
        """W_down silu(W_up x)."""
        output: Tensor = self.down(silu(self.up(hidden)))
        return output


MODULE = CachelessModule
