"""Compressed attention of DeepSeek-V4 and V4.1: a window of tokens, and one entry per few tokens before it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from kvcalc.attention._facts import Facts
from kvcalc.cache.dtypes import FP32
from kvcalc.cache.slots.layers import EVERY_TOKEN, every_nth, last_tokens, once, pending
from kvcalc.cache.tensor import CacheTensor, Dim
from kvcalc.errors import InvalidValueError

_OVERLAPPING = 2
"""CSA compresses each token into two neighbouring entries, so pending tokens are twice as wide."""


@dataclass(frozen=True, kw_only=True)
class CompressedAttention(Facts):
    """Compressed sparse attention (CSA), heavily compressed attention (HCA), or only their window.

    K and V are one entry of head_dim, shared by all query heads. With m = compress_rate, elements per layer at t
    tokens: min(t, sliding_window) * head_dim + floor(t / m) * (head_dim + index_head_dim), and kv and gate of the t mod
    m tokens not yet compressed, 2 * head_dim each. In CSA (with an indexer) these are twice as wide, and kv and gate of
    the last m tokens are kept for the overlap.

    V4.1 (closed_groups) overlaps nothing: its index keys are made of entries, so that only kv and gate of the open
    group are pending, in float32; nothing is pending for single tokens (m = 1).

    Raises InvalidValueError for an index_head_dim or closed_groups without a compress_rate.
    Source: DeepSeek-V4 report, arXiv 2606.19348, section 2.3; transformers 5.23 modeling_deepseek_v4.py; MLX-LM 0.32.2
    models/deepseek_v41.py.
    """

    FLAGS = ("closed_groups",)

    SPLIT = ("num_query_heads",)

    num_query_heads: Annotated[int, "attention heads of the layer"]
    head_dim: Annotated[int, "width of an entry"]
    sliding_window: Annotated[int, "tokens seen uncompressed"]
    compress_rate: Annotated[
        int | None, "tokens that make one entry (4 in CSA, 128 in HCA); None for a layer that has only its window"
    ] = None
    index_head_dim: Annotated[int | None, "width of an entry's index key, in CSA"] = None
    closed_groups: Annotated[
        bool, "whether each group of tokens forms a separate entry and is pending in float32 (V4.1)"
    ] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.compress_rate is None and self.index_head_dim is not None:
            raise InvalidValueError(
                f"index_head_dim ({self.index_head_dim}) needs a compress_rate: the index is over compressed entries",
                field="index_head_dim",
                help="add compress_rate: 4, or remove index_head_dim",
            )
        if self.compress_rate is None and self.closed_groups:
            raise InvalidValueError(
                "closed_groups needs a compress_rate: the tokens per group",
                field="closed_groups",
                help="add compress_rate: 2, or remove closed_groups",
            )

    @property
    def label(self) -> str:
        """`CSA 1/4`, `HCA 1/128`, `pooled 1/2` (V4.1), or `shared K=V` for a layer that has only its window."""
        if self.compress_rate is None:
            return "shared K=V"
        if self.closed_groups:
            return f"pooled 1/{self.compress_rate}"
        return f"{'CSA' if self.index_head_dim else 'HCA'} 1/{self.compress_rate}"

    def tensors(self) -> tuple[CacheTensor, ...]:
        """Kv of the window; compressed_kv and index_k, one slot per m tokens; and the pending tokens."""
        entry = Dim("head_dim", self.head_dim)
        window = CacheTensor("kv", (entry,), last_tokens(self.sliding_window))
        if self.compress_rate is None:
            return (window,)
        if self.closed_groups:
            return (window, *self._closed_groups(self.compress_rate, entry))
        rate = self.compress_rate
        compressed = [CacheTensor("compressed_kv", (entry,), every_nth(rate))]
        if self.index_head_dim is None:
            kv_and_gate = (Dim("kv_and_gate", 2), entry)
            return (window, *compressed, CacheTensor("pending", kv_and_gate, pending(rate), quantizable=False))
        index = Dim("index_head_dim", self.index_head_dim)
        compressed.append(CacheTensor("index_k", (index,), every_nth(rate)))
        both = Dim("head_dim + index_head_dim", self.head_dim + self.index_head_dim)
        waiting = (Dim("kv_and_gate", 2), Dim("overlapping_entries", _OVERLAPPING), both)
        overlap = once(rate, from_token=rate, words=f"last {rate:,} compressed")
        return (
            window,
            *compressed,
            CacheTensor("pending", waiting, pending(rate), quantizable=False),
            CacheTensor("overlap", (Dim("kv_and_gate", 2), both), overlap, quantizable=False),
        )

    def _closed_groups(self, rate: int, entry: Dim) -> Iterator[CacheTensor]:
        """compressed_kv and index_k of full groups; pending: kv and gate of the open group."""
        entries = EVERY_TOKEN if rate == 1 else every_nth(rate)
        yield CacheTensor("compressed_kv", (entry,), entries)
        if self.index_head_dim is not None:
            yield CacheTensor("index_k", (Dim("index_head_dim", self.index_head_dim),), entries)
        if rate > 1:
            yield CacheTensor("pending", (Dim("kv_and_gate", 2), entry), pending(rate), FP32, quantizable=False)


KIND = CompressedAttention
