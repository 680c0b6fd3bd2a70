"""A learned prefix: keys and values of tokens before every prompt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from kvcalc.attention._facts import Facts
from kvcalc.cache.slots.layers import once
from kvcalc.cache.tensor import CacheTensor, Dim


@dataclass(frozen=True, kw_only=True)
class PrefixTokens(Facts):
    """The model's own prompt tokens, which use slots of the attention's cache.

    Elements per layer: 2 * prefix_tokens * num_kv_heads * head_dim.

    Source: CPM-Ant (prompt_length); transformers 5.23 modeling_cpmant.py.
    """

    SPLIT_OR_COPIED = ("num_kv_heads",)

    prefix_tokens: Annotated[int, "tokens of the prefix"]
    num_kv_heads: Annotated[int, "heads of K and V, as in the attention"]
    head_dim: Annotated[int, "width of a head, as in the attention"]

    @property
    def label(self) -> str:
        """`prefix`, with its tokens."""
        return f"prefix {self.prefix_tokens}"

    def tensors(self) -> tuple[CacheTensor, ...]:
        """prefix_k and prefix_v: (num_kv_heads, head_dim), one slot per prefix token."""
        dims = (Dim("num_kv_heads", self.num_kv_heads), Dim("head_dim", self.head_dim))
        rule = once(self.prefix_tokens, words=f"{self.prefix_tokens:,} of the prefix")
        return (CacheTensor("prefix_k", dims, rule), CacheTensor("prefix_v", dims, rule))


KIND = PrefixTokens
