"""Grouped-tied attention: one state for key and value of a group, and one rotary key for all heads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from kvcalc.attention._token_cache import TokenCache
from kvcalc.cache.tensor import CacheTensor, Dim
from kvcalc.errors import InvalidValueError


@dataclass(frozen=True, kw_only=True)
class GroupedTiedAttention(TokenCache):
    """GTA: a head's value is its whole tied state, its key is the part of it without positions, plus a rotary key.

    Elements per token and layer: num_kv_heads * head_dim + qk_rope_head_dim. Code that repeats the rotary key for
    every query head before caching it keeps num_kv_heads * head_dim + num_query_heads * qk_rope_head_dim.

    Raises InvalidValueError if num_query_heads is not a multiple of num_kv_heads, or the rotary key is wider than a
    head.
    Source: Zadouri et al. 2025, arXiv 2505.21487, section 3; Dao-AILab/grouped-latent-attention,
    modeling_llama_GTA.py.
    """

    FLAGS = ("repeats_rope",)
    SPLIT_OR_COPIED = ("num_kv_heads",)

    num_kv_heads: Annotated[int, "heads of the tied state, each for a group of query heads"]
    head_dim: Annotated[int, "width of a head"]
    qk_rope_head_dim: Annotated[
        int, "width of the one rotary key, the rest of a key's width; the paper has half of head_dim"
    ]
    repeats_rope: Annotated[bool, "whether the rotary key is cached once per query head, as in the released module"] = (
        False
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_heads_share("num_kv_heads", "KV head")
        if self.qk_rope_head_dim > self.head_dim:
            raise InvalidValueError(
                f"qk_rope_head_dim ({self.qk_rope_head_dim}) is wider than head_dim ({self.head_dim}), of which it is "
                "a part",
                field="qk_rope_head_dim",
                help=f"the paper has half of the head: {max(1, self.head_dim // 2)}",
            )

    @property
    def label(self) -> str:
        """`GTA`, with the heads of its tied state."""
        return f"GTA-{self.num_kv_heads}"

    @property
    def head_widths(self) -> tuple[int, int]:
        """Widths of one head's key and value."""
        return self.head_dim, self.head_dim

    def tensors(self) -> tuple[CacheTensor, ...]:
        """kv: (num_kv_heads, head_dim) and k_rope: (qk_rope_head_dim), repeated or not; one slot per token."""
        tied = (Dim("num_kv_heads", self.num_kv_heads), Dim("head_dim", self.head_dim))
        rotary = Dim("qk_rope_head_dim", self.qk_rope_head_dim)
        repeated = (Dim("num_query_heads", self.num_query_heads), rotary) if self.repeats_rope else (rotary,)
        return (CacheTensor("kv", tied, self.slot_rule), CacheTensor("k_rope", repeated, self.slot_rule))


KIND = GroupedTiedAttention
