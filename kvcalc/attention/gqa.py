"""Grouped-query attention, including multi-head (one KV head per query head) and multi-query (a single one)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from kvcalc.attention._token_cache import TokenCache
from kvcalc.cache.tensor import CacheTensor, Dim


@dataclass(frozen=True, kw_only=True)
class GroupedQueryAttention(TokenCache):
    """MHA, GQA and MQA, with one formula.

    Elements per token and layer: num_kv_heads * (head_dim + v_head_dim).

    Raises InvalidValueError if num_query_heads is not a multiple of num_kv_heads.
    Source: Shazeer 2019, arXiv 1911.02150; Ainslie et al. 2023, arXiv 2305.13245.
    """

    SPLIT_OR_COPIED = ("num_kv_heads",)
    ROUNDED = ("num_kv_heads",)

    num_kv_heads: Annotated[int, "heads of K and V; equal to num_query_heads for MHA, 1 for MQA"]
    head_dim: Annotated[int, "width of a key head, and of a value head if v_head_dim is not given"]
    v_head_dim: Annotated[int | None, "width of a value head, if different"] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_heads_share("num_kv_heads", "KV head")

    @property
    def label(self) -> str:
        """The usual name: MHA, MQA, or GQA-8 for 8 KV heads."""
        if self.num_kv_heads == self.num_query_heads:
            return "MHA"
        return "MQA" if self.num_kv_heads == 1 else f"GQA-{self.num_kv_heads}"

    @property
    def head_widths(self) -> tuple[int, int]:
        """Widths of one head's key and value."""
        return self.head_dim, self.v_head_dim or self.head_dim

    def tensors(self) -> tuple[CacheTensor, ...]:
        """k: (num_kv_heads, head_dim) and v: (num_kv_heads, v_head_dim), one slot per token."""
        heads = Dim("num_kv_heads", self.num_kv_heads)
        value = Dim("head_dim", self.head_dim) if self.v_head_dim is None else Dim("v_head_dim", self.v_head_dim)
        return (
            CacheTensor("k", (heads, Dim("head_dim", self.head_dim)), self.slot_rule),
            CacheTensor("v", (heads, value), self.slot_rule),
        )


KIND = GroupedQueryAttention
