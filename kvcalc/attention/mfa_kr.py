"""Multi-matrix factorisation attention with key reuse: one wide key for all heads, and values read from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from kvcalc.attention._token_cache import TokenCache
from kvcalc.cache.tensor import CacheTensor, Dim


@dataclass(frozen=True, kw_only=True)
class KeyReuseAttention(TokenCache):
    """MFA-KR, which caches one key per token; all heads share it, and the value is a projection of it.

    Elements per token and layer: head_dim (C in the paper). Without key reuse MFA is `gqa` with one KV head as wide.

    Source: Hu et al. 2024, arXiv 2412.19255.
    """

    head_dim: Annotated[int, "width of the key, wider than a usual head (256)"]

    @property
    def label(self) -> str:
        """`MFA-KR`, with the width of its key."""
        return f"MFA-KR {self.head_dim}"

    @property
    def head_widths(self) -> tuple[int, int]:
        """Widths of one head's key and value."""
        return self.head_dim, self.head_dim

    def tensors(self) -> tuple[CacheTensor, ...]:
        """k: (head_dim), one slot a token."""
        return (CacheTensor("k", (Dim("head_dim", self.head_dim),), self.slot_rule),)


KIND = KeyReuseAttention
