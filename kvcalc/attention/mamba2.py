"""Mamba-2: a state-space layer whose channels are heads, and whose B and C are shared by groups of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from kvcalc.attention._state import StateCache, conv_state
from kvcalc.cache.tensor import CacheTensor, Dim


@dataclass(frozen=True, kw_only=True)
class Mamba2(StateCache):
    """Mamba-2, as in Nemotron-H, Bamba, Granite 4 and Falcon-H1.

    Elements per layer: (intermediate_size + 2 * num_groups * state_size) * (conv_kernel - 1) and, recurrent,
    num_heads * head_dim * state_size.

    Source: Dao and Gu 2024, arXiv 2405.21060.
    """

    SPLIT = ("mamba_num_heads", "mamba_intermediate_size")
    SPLIT_OR_COPIED = ("mamba_num_groups",)

    mamba_num_heads: Annotated[int, "heads of the state"]
    mamba_head_dim: Annotated[int, "channels of a head"]
    mamba_num_groups: Annotated[int, "groups of heads that share B and C"]
    mamba_state_size: Annotated[int, "width of each channel's state"]
    mamba_conv_kernel: Annotated[int, "inputs that the short convolution reads"]
    mamba_intermediate_size: Annotated[int | None, "inner channels, if not num_heads * head_dim"] = None

    @property
    def label(self) -> str:
        """`Mamba-2`."""
        return "Mamba-2"

    def tensors(self) -> tuple[CacheTensor, ...]:
        """conv_state: (channels of x, B and C, conv_kernel - 1) and ssm_state: (num_heads, head_dim, state_size)."""
        inner = self.mamba_intermediate_size or self.mamba_num_heads * self.mamba_head_dim
        channels = inner + 2 * self.mamba_num_groups * self.mamba_state_size  # x, and B and C of each group
        return (
            conv_state("conv_state", Dim("conv_channels", channels), self.mamba_conv_kernel),
            self.recurrent(
                "ssm_state",
                Dim("mamba_num_heads", self.mamba_num_heads),
                Dim("mamba_head_dim", self.mamba_head_dim),
                Dim("mamba_state_size", self.mamba_state_size),
            ),
        )


KIND = Mamba2
