"""Mamba: a selective state-space layer, with a state for each inner channel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from kvcalc.attention._state import StateCache, conv_state
from kvcalc.cache.tensor import CacheTensor, Dim


@dataclass(frozen=True, kw_only=True)
class Mamba(StateCache):
    """Mamba-1, as in Falcon-Mamba and Jamba.

    Elements per layer: intermediate_size * (conv_kernel - 1) and, recurrent, intermediate_size * state_size.

    Source: Gu and Dao 2023, arXiv 2312.00752.
    """

    SPLIT = ("mamba_intermediate_size",)

    mamba_intermediate_size: Annotated[int, "inner channels, expand * hidden_size"]
    mamba_state_size: Annotated[int, "width of each channel's state"]
    mamba_conv_kernel: Annotated[int, "inputs that the short convolution reads"]

    @property
    def label(self) -> str:
        """`Mamba`."""
        return "Mamba"

    def tensors(self) -> tuple[CacheTensor, ...]:
        """conv_state: (intermediate_size, conv_kernel - 1) and ssm_state: (intermediate_size, state_size)."""
        channels = Dim("mamba_intermediate_size", self.mamba_intermediate_size)
        return (
            conv_state("conv_state", channels, self.mamba_conv_kernel),
            self.recurrent("ssm_state", channels, Dim("mamba_state_size", self.mamba_state_size)),
        )


KIND = Mamba
