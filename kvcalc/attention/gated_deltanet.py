"""Gated DeltaNet: linear attention whose state is corrected, not only added to, by each token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from kvcalc.attention._state import StateCache, conv_state
from kvcalc.cache.tensor import CacheTensor, Dim


@dataclass(frozen=True, kw_only=True)
class GatedDeltaNet(StateCache):
    """Gated DeltaNet, as in Qwen3-Next and Qwen3.5.

    Elements per layer: (2 * num_key_heads * key_head_dim + num_value_heads * value_head_dim) * (conv_kernel - 1) and,
    recurrent, num_value_heads * key_head_dim * value_head_dim.

    Source: Yang et al. 2024, arXiv 2412.06464.
    """

    SPLIT = ("linear_num_key_heads", "linear_num_value_heads")

    linear_num_key_heads: Annotated[int, "heads of keys and queries"]
    linear_num_value_heads: Annotated[int, "heads of values"]
    linear_key_head_dim: Annotated[int, "width of a key head"]
    linear_value_head_dim: Annotated[int, "width of a value head"]
    linear_conv_kernel: Annotated[int, "inputs that the short convolution over queries, keys and values reads"]

    @property
    def label(self) -> str:
        """`Gated DeltaNet`."""
        return "Gated DeltaNet"

    def tensors(self) -> tuple[CacheTensor, ...]:
        """conv_state: (channels of q, k and v, conv_kernel - 1) and state: (num_value_heads, key and value width)."""
        key_channels = self.linear_num_key_heads * self.linear_key_head_dim
        value_channels = self.linear_num_value_heads * self.linear_value_head_dim
        channels = 2 * key_channels + value_channels  # queries, keys; values
        return (
            conv_state("conv_state", Dim("conv_channels", channels), self.linear_conv_kernel),
            self.recurrent(
                "recurrent_state",
                Dim("linear_num_value_heads", self.linear_num_value_heads),
                Dim("linear_key_head_dim", self.linear_key_head_dim),
                Dim("linear_value_head_dim", self.linear_value_head_dim),
            ),
        )


KIND = GatedDeltaNet
