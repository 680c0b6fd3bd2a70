"""Cross-attention: keys and values of another sequence, an encoder's or an image's, computed once and kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from kvcalc.attention._facts import Facts
from kvcalc.cache.slots.layers import ENCODER_TOKENS, once
from kvcalc.cache.slots.rule import SlotRule
from kvcalc.cache.tensor import CacheTensor, Dim


@dataclass(frozen=True, kw_only=True)
class CrossAttention(Facts):
    """Attention to an encoder's output; it does not grow with the decoded tokens.

    Elements per encoder token and layer: 2 * cross_num_kv_heads * cross_head_dim.

    Source: Vaswani et al. 2017, arXiv 1706.03762, section 3.2.3.
    """

    MAY_BE_ZERO = ("encoder_tokens",)
    SPLIT_OR_COPIED = ("cross_num_kv_heads",)

    cross_num_kv_heads: Annotated[int, "heads of K and V"]
    cross_head_dim: Annotated[int, "width of a head"]
    encoder_tokens: Annotated[int | None, "encoder tokens, if fixed by the model (Whisper: 1,500 for any audio)"] = None

    @property
    def label(self) -> str:
        """`cross-attention`."""
        return "cross-attention"

    @property
    def slot_rule(self) -> SlotRule:
        """The encoder's tokens, known or not."""
        if self.encoder_tokens is None:
            return ENCODER_TOKENS
        return once(self.encoder_tokens, words=f"{self.encoder_tokens:,} of the encoder")

    def tensors(self) -> tuple[CacheTensor, ...]:
        """cross_k and cross_v: (cross_num_kv_heads, cross_head_dim), one slot for each encoder token."""
        dims = (Dim("cross_num_kv_heads", self.cross_num_kv_heads), Dim("cross_head_dim", self.cross_head_dim))
        return (CacheTensor("cross_k", dims, self.slot_rule), CacheTensor("cross_v", dims, self.slot_rule))


KIND = CrossAttention
