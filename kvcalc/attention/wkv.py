"""RWKV from version 5 on: a matrix of keys and values per head, decayed by every token, and the last inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from kvcalc.attention._state import StateCache
from kvcalc.cache.slots.layers import once
from kvcalc.cache.tensor import CacheTensor, Dim


@dataclass(frozen=True, kw_only=True)
class MatrixWkv(StateCache):
    """RWKV-5, -6 and -7 (Eagle, Finch, Goose), and models of other families converted to it.

    Elements per layer: wkv_token_shifts * hidden_size and, recurrent, wkv_num_heads * wkv_head_dim^2.

    Source: Peng et al. 2024, arXiv 2404.05892, section 3; Peng et al. 2025, arXiv 2503.14456.
    """

    SPLIT = ("wkv_num_heads",)

    hidden_size: Annotated[int, "width of a layer's input"]
    wkv_num_heads: Annotated[int, "heads of the time mix, each with its own state"]
    wkv_head_dim: Annotated[int, "width of a head's key and value"]
    wkv_token_shifts: Annotated[
        int, "halves that keep their last input: time mix and channel mix, or only the time mix (1)"
    ] = 2

    @property
    def label(self) -> str:
        """`WKV`, with its heads."""
        return f"WKV-{self.wkv_num_heads}"

    def tensors(self) -> tuple[CacheTensor, ...]:
        """shift_state: (token_shifts, hidden_size) and wkv_state: (num_heads, head_dim, head_dim)."""
        shifts = (Dim("wkv_token_shifts", self.wkv_token_shifts), Dim("hidden_size", self.hidden_size))
        width = Dim("wkv_head_dim", self.wkv_head_dim)
        return (
            CacheTensor("shift_state", shifts, once(), quantizable=False),
            self.recurrent("wkv_state", Dim("wkv_num_heads", self.wkv_num_heads), width, width),
        )


KIND = MatrixWkv
