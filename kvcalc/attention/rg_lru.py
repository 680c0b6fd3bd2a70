"""RG-LRU, the gated linear recurrence of Griffin, behind a short convolution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from kvcalc.attention._state import StateCache, conv_state
from kvcalc.cache.tensor import CacheTensor, Dim


@dataclass(frozen=True, kw_only=True)
class GatedLinearRecurrence(StateCache):
    """RG-LRU, as in RecurrentGemma.

    Elements per layer: lru_width * (conv_kernel - 1) and, recurrent, lru_width.

    Source: De et al. 2024, arXiv 2402.19427, section 2.
    """

    SPLIT = ("lru_width",)

    lru_width: Annotated[int, "channels of the recurrence"]
    lru_conv_kernel: Annotated[int, "inputs that the short convolution reads"]

    @property
    def label(self) -> str:
        """`RG-LRU`."""
        return "RG-LRU"

    def tensors(self) -> tuple[CacheTensor, ...]:
        """conv_state: (lru_width, conv_kernel - 1) and recurrent_state: (lru_width)."""
        width = Dim("lru_width", self.lru_width)
        return (conv_state("conv_state", width, self.lru_conv_kernel), self.recurrent("recurrent_state", width))


KIND = GatedLinearRecurrence
