"""Tensor product attention: all heads' keys and values are a few products of a vector over heads and one over width."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from kvcalc.attention._token_cache import TokenCache
from kvcalc.cache.tensor import CacheTensor, Dim


@dataclass(frozen=True, kw_only=True)
class TensorProductAttention(TokenCache):
    """TPA, as in T6, which caches the factors of keys and values: K = A_K^T B_K / R_K, V = A_V^T B_V / R_V.

    Elements per token and layer: k_rank * (num_query_heads + head_dim) + v_rank * (num_query_heads + v_head_dim),
    (R_K + R_V)(h + d_h) in the paper.

    Source: Zhang et al. 2025, arXiv 2501.06425, section 3; tensorgi/TPA, model/T6_infer.py.
    """

    head_dim: Annotated[int, "width of a key head, and of a value head if v_head_dim is not given"]
    k_rank: Annotated[int, "products in a token's keys (R_K; `rank` in the authors' code)"]
    v_rank: Annotated[int, "products in a token's values (R_V; `rank` in the authors' code)"]
    v_head_dim: Annotated[int | None, "width of a value head, if different"] = None

    @property
    def label(self) -> str:
        """`TPA`, with the ranks of keys and values."""
        return f"TPA {self.k_rank}+{self.v_rank}"

    @property
    def head_widths(self) -> tuple[int, int]:
        """Widths of one head's key and value, multiplied out."""
        return self.head_dim, self.v_head_dim or self.head_dim

    def tensors(self) -> tuple[CacheTensor, ...]:
        """a_k: (num_query_heads, k_rank), b_k: (k_rank, head_dim); a_v and b_v likewise; one slot per token."""
        heads, key = Dim("num_query_heads", self.num_query_heads), Dim("head_dim", self.head_dim)
        value = key if self.v_head_dim is None else Dim("v_head_dim", self.v_head_dim)
        k_rank, v_rank = Dim("k_rank", self.k_rank), Dim("v_rank", self.v_rank)
        return (
            CacheTensor("a_k", (heads, k_rank), self.slot_rule),
            CacheTensor("b_k", (k_rank, key), self.slot_rule),
            CacheTensor("a_v", (heads, v_rank), self.slot_rule),
            CacheTensor("b_v", (v_rank, value), self.slot_rule),
        )


KIND = TensorProductAttention
