"""Kimi Delta Attention: Gated DeltaNet with a gate per channel, and separate short convolutions for q, k and v."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from kvcalc.attention._state import StateCache, conv_state
from kvcalc.cache.tensor import CacheTensor, Dim


@dataclass(frozen=True, kw_only=True)
class KimiDeltaAttention(StateCache):
    """KDA, as in Kimi Linear and Kimi K3.

    Elements per layer: 3 * num_heads * head_dim * (conv_kernel - 1) and, recurrent, num_heads * head_dim^2.

    Source: Kimi Linear report, arXiv 2510.26692.
    """

    SPLIT = ("linear_num_heads",)

    linear_num_heads: Annotated[int, "heads of queries, keys and values"]
    linear_head_dim: Annotated[int, "width of a head"]
    linear_conv_kernel: Annotated[int, "inputs that each short convolution reads"]

    @property
    def label(self) -> str:
        """`KDA`."""
        return "KDA"

    def tensors(self) -> tuple[CacheTensor, ...]:
        """conv_state_q, _k and _v: (num_heads * head_dim, conv_kernel - 1); recurrent: (num_heads, width, width)."""
        channels = Dim("conv_channels", self.linear_num_heads * self.linear_head_dim)
        width = Dim("linear_head_dim", self.linear_head_dim)
        convolutions = tuple(conv_state(f"conv_state_{x}", channels, self.linear_conv_kernel) for x in "qkv")
        heads = Dim("linear_num_heads", self.linear_num_heads)
        return (*convolutions, self.recurrent("recurrent_state", heads, width, width))


KIND = KimiDeltaAttention
