"""Summaries of regions: one key for several tokens, by which its layer's attention selects regions."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from kvcalc.attention.region_summary import RegionSummary
from kvcalc.verify.modules._module import Advisor, Context, Kept
from kvcalc.verify.modules._slots import Cache, Reach, Slots, State

REGIONS = 512
"""Regions that are chosen; no byte depends on it."""
KEY, SCORE = 0, 1


class RegionSummaryModule(Advisor):
    """summary = sum over a region's tokens of softmax(score) * key, channel by channel; the best regions are chosen.

    Source: vLLM 0.33 models/step5/nvidia/csa_tail_ring.py.
    """

    facts: RegionSummary

    def __init__(self, facts: RegionSummary, hidden_size: int, *, dtype: torch.dtype, device: str) -> None:
        super().__init__(facts, hidden_size, dtype=dtype, device=device)
        self.q_proj = self.linear(hidden_size, facts.summary_dim)
        self.waiting_proj = self.linear(hidden_size, 2 * facts.summary_dim)

    def new_cache(self, sequences: int, capacity: int, dtype: torch.dtype) -> Cache:  # noqa: ARG002
        """summary: (sequences, regions, summary_dim) in fp8; open_region: no token yet."""
        regions, width = capacity // self.facts.region_tokens, self.facts.summary_dim
        nothing = torch.empty((sequences, 0, 2, width), dtype=self.dtype, device=self.device)
        summary = Slots(sequences, (width,), regions, Reach(), torch.float8_e4m3fn, self.device)
        return {"summary": summary, "open_region": State(nothing)}

    def kept(self, hidden: Tensor) -> Kept:
        """Summaries of at least one region, and the tokens that made them."""
        waiting = self._project(hidden.repeat(1, -(-self.facts.region_tokens // hidden.shape[1]), 1))
        return {"summary": self._summaries(waiting)[0], "open_region": waiting}

    def write(self, kept: Kept, cache: Cache, tokens: int) -> None:
        """A summary for each full region, and what waits after the last."""
        cast("Slots", cache["summary"]).repeat(kept["summary"], tokens // self.facts.region_tokens)
        self._keep(cache, kept["open_region"][:, : tokens % self.facts.region_tokens])

    def advise(self, hidden: Tensor, cache: Cache | None, context: Context) -> Context:
        """The tokens of the chosen regions and of the open one, (sequences, queries, tokens)."""
        held = cache if cache is not None else self.new_cache(hidden.shape[0], hidden.shape[1], self.dtype)
        waiting = torch.cat([held["open_region"].data, self._project(hidden)], dim=1)
        summaries, rest = self._summaries(waiting)
        slots = cast("Slots", held["summary"])
        before = slots.tokens * self.facts.region_tokens + held["open_region"].data.shape[1]
        slots.append(summaries)
        self._keep(held, rest)
        positions = torch.arange(before, before + hidden.shape[1], device=hidden.device)
        return context._replace(chosen=self._chosen(hidden, positions, slots.held()[0].to(self.dtype)))

    def _chosen(self, hidden: Tensor, positions: Tensor, summaries: Tensor) -> Tensor:
        """Tokens of the best full regions, and all after the last full region before each query."""
        size, tokens = self.facts.region_tokens, int(positions[-1]) + 1
        number = summaries.shape[1]
        region = torch.arange(tokens, device=hidden.device) // size
        full = (torch.arange(number, device=hidden.device) + 1) * size <= positions[:, None] + 1
        scores = torch.einsum("bnd,btd->bnt", self.q_proj(hidden), summaries).masked_fill(~full, -torch.inf)
        best = scores.topk(min(REGIONS, number), dim=-1).indices
        taken = torch.zeros_like(scores, dtype=torch.bool).scatter(-1, best, True) & full
        of_open = region >= ((positions + 1) // size)[:, None]
        spread = torch.zeros((*scores.shape[:2], tokens), dtype=torch.bool, device=hidden.device)
        spread[..., : number * size] = taken.repeat_interleave(size, dim=-1)
        return spread | of_open

    def _project(self, hidden: Tensor) -> Tensor:
        """Key and score of each token, (sequences, tokens, 2, summary_dim)."""
        projected: Tensor = self.waiting_proj(hidden).unflatten(-1, (2, -1))
        return projected

    def _summaries(self, waiting: Tensor) -> tuple[Tensor, Tensor]:
        """Summaries of the full regions, and what still waits after them."""
        size = self.facts.region_tokens
        number = waiting.shape[1] // size
        regions = waiting[:, : number * size].unflatten(1, (number, size))  # (B, n, r, 2, W)
        weights = regions[..., SCORE, :].softmax(dim=2)
        return (weights * regions[..., KEY, :]).sum(dim=2), waiting[:, number * size :]

    def _keep(self, cache: Cache, waiting: Tensor) -> None:
        """Fresh storage: a slice would keep all that waited alive."""
        cache["open_region"].data = waiting.clone(memory_format=torch.contiguous_format)


MODULE = RegionSummaryModule
