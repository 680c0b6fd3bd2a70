"""Lightning attention: linear attention with a decay and one square state per head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from kvcalc.attention._state import StateCache
from kvcalc.cache.tensor import CacheTensor, Dim


@dataclass(frozen=True, kw_only=True)
class LightningAttention(StateCache):
    """Lightning attention, as in MiniMax-01.

    Elements per layer, recurrent: num_heads * head_dim^2.

    Source: Qin et al. 2024, arXiv 2401.04658; MiniMax-01, arXiv 2501.08313.
    """

    SPLIT = ("linear_num_heads",)

    linear_num_heads: Annotated[int, "heads, each with its own state"]
    linear_head_dim: Annotated[int, "width of a head's key and value"]

    @property
    def label(self) -> str:
        """`Lightning`."""
        return "Lightning"

    def tensors(self) -> tuple[CacheTensor, ...]:
        """recurrent_state: (num_heads, head_dim, head_dim)."""
        width = Dim("linear_head_dim", self.linear_head_dim)
        return (self.recurrent("recurrent_state", Dim("linear_num_heads", self.linear_num_heads), width, width),)


KIND = LightningAttention
