"""Gated retention: linear attention with a decay that each token sets, with one square state per head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from kvcalc.attention._facts import Facts
from kvcalc.cache.slots.layers import once
from kvcalc.cache.tensor import CacheTensor, Dim


@dataclass(frozen=True, kw_only=True)
class GatedRetention(Facts):
    """Gated retention (gRet), the self-decoder of YOCO.

    Elements per layer: num_heads * head_dim^2, in the model's dtype, as in the authors' code.

    Source: Sun et al. 2024, arXiv 2405.05254, section 3.1; microsoft/unilm, YOCO/yoco/models/decoder/gate_retention.py.
    """

    SPLIT = ("linear_num_heads",)

    linear_num_heads: Annotated[int, "heads, each with its own state and decay (n_self_heads in YOCO)"]
    linear_head_dim: Annotated[int, "width of a head's key and value"]

    @property
    def label(self) -> str:
        """`gated retention`."""
        return "gated retention"

    def tensors(self) -> tuple[CacheTensor, ...]:
        """recurrent_state: (num_heads, head_dim, head_dim)."""
        heads, width = Dim("linear_num_heads", self.linear_num_heads), Dim("linear_head_dim", self.linear_head_dim)
        return (CacheTensor("recurrent_state", (heads, width, width), once(), quantizable=False),)


KIND = GatedRetention
