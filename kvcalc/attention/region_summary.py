"""Summaries of regions of tokens, by which sparse attention selects: a small key per few tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from kvcalc.attention._facts import Facts
from kvcalc.cache.dtypes import FP8
from kvcalc.cache.slots.layers import every_nth, pending
from kvcalc.cache.tensor import CacheTensor, Dim


@dataclass(frozen=True, kw_only=True)
class RegionSummary(Facts):
    """A part next to its layer's attention, as in Step 5. Tokens of the open region are pending, with key and score.

    With r = region_tokens, elements per layer at t tokens: floor(t / r) * summary_dim in fp8, and 2 * summary_dim in
    the model's dtype for each of the t mod r tokens of the open region. Every rank holds all of them.

    Source: vLLM 0.33 models/step5/nvidia/sparse_summary_cache.py, csa_tail_ring.py.
    """

    summary_dim: Annotated[int, "width of a region's key"]
    region_tokens: Annotated[int, "tokens of a region"]

    @property
    def label(self) -> str:
        """`summary 1/8`."""
        return f"summary 1/{self.region_tokens}"

    def tensors(self) -> tuple[CacheTensor, ...]:
        """summary: (summary_dim), one slot per r tokens; open_region: key and score of each pending token."""
        width = Dim("summary_dim", self.summary_dim)
        summary = CacheTensor("summary", (width,), every_nth(self.region_tokens), FP8, quantizable=False)
        waiting = (Dim("key_and_score", 2), width)
        return summary, CacheTensor("open_region", waiting, pending(self.region_tokens), quantizable=False)


KIND = RegionSummary
