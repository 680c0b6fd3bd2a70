"""A learned prefix: keys and values that stand before the tokens of every sequence."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from kvcalc.attention.prefix import PrefixTokens
from kvcalc.verify.modules._module import Advisor, Context, Kept
from kvcalc.verify.modules._slots import Cache, Reach, Slots


class PrefixModule(Advisor):
    """Adds rows that every query sees to its layer's attention. Source: CPM-Ant, modeling_cpmant.py."""

    def __init__(self, facts: PrefixTokens, hidden_size: int, *, dtype: torch.dtype, device: str) -> None:
        super().__init__(facts, hidden_size, dtype=dtype, device=device)
        shape = (facts.num_kv_heads, facts.prefix_tokens, facts.head_dim)
        self.keys, self.values = self.weight(*shape), self.weight(*shape)

    def new_cache(self, sequences: int, capacity: int, dtype: torch.dtype) -> Cache:  # noqa: ARG002
        """prefix_k and prefix_v: (sequences, num_kv_heads, prefix_tokens, head_dim)."""
        heads, tokens, width = self.keys.shape
        return {
            name: Slots(sequences, (heads, width), tokens, Reach(), dtype, self.device)
            for name in ("prefix_k", "prefix_v")
        }

    def kept(self, hidden: Tensor) -> Kept:
        """The prefix, for each sequence."""
        learned = {"prefix_k": self.keys, "prefix_v": self.values}
        return {name: rows.expand(hidden.shape[0], -1, -1, -1) for name, rows in learned.items()}

    def write(self, kept: Kept, cache: Cache, tokens: int) -> None:  # noqa: ARG002
        """The prefix, which no token changes."""
        for name, rows in kept.items():
            cast("Slots", cache[name]).repeat(rows, rows.shape[-2])

    def advise(self, hidden: Tensor, cache: Cache | None, context: Context) -> Context:
        """Rows that stand before the tokens; the first call caches them."""
        held = cache if cache is not None else self.new_cache(hidden.shape[0], 0, self.dtype)
        keys, values = (cast("Slots", held[name]) for name in ("prefix_k", "prefix_v"))
        if not keys.tokens:
            self.write(self.kept(hidden), held, 0)
        return context._replace(standing={"k": keys.data.to(self.dtype), "v": values.data.to(self.dtype)})


MODULE = PrefixModule
