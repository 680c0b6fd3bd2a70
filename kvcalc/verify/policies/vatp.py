"""VATP, run: H2O whose scores are multiplied by the norms of the values."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import pad

from kvcalc.verify.policies._policy import TokenPolicy, best, received, wide, with_last


class VATP(TokenPolicy):
    """The tokens whose attention so far times the L1 norm of their value is largest, the sinks, and the newest ones.

    A KV head's score is the mean of its queries'.
    Source: Guo et al. 2024, arXiv 2406.12335, section 3.
    """

    @property
    def held(self) -> Mapping[str, Tensor]:
        """Keys, values, what each kept token received and the norm of its value: (B, H, kept) in the model's dtype."""
        return {**super().held, "previous_scores": self.score, "value_norm": self.norm}

    def after_prompt(self, query: Tensor) -> None:
        """By the sums of all of the prompt's queries; the budget is a share of the prompt, for good."""
        self.score = received(query, self.key).to(self.key.dtype)
        self.norm = self._norms(self.value)
        self.heavy, self.recent = (int(float(self.arguments[f"{x}_ratio"]) * self.seen) for x in ("heavy", "recent"))
        self._cut()

    def after_step(self, weights: Tensor) -> None:
        """Adds what the newest query gave, and drops again to the budget."""
        self.score = pad(self.score, (0, 1)) + weights[..., -1, :].to(self.score.dtype)
        self.norm = torch.cat([self.norm, self._norms(self.value[..., -1:, :])], dim=-1)
        self._cut()

    def _norms(self, value: Tensor) -> Tensor:
        """L1 norms of the values that each query head reads, (B, H, T)."""
        norms = wide(value).abs().sum(dim=-1).to(value.dtype)
        return norms.repeat_interleave(self.place.attention.num_query_heads // norms.shape[1], dim=1)

    def _cut(self) -> None:
        tokens = self.key.shape[-2]
        if self.arguments["mask_only"] or tokens <= self.heavy + self.recent:
            return
        importance = self.of_kv_heads(wide(self.score) * wide(self.norm))
        importance = importance.masked_fill(self.positions < self.arguments["sink_len"], torch.inf)
        chosen = with_last(best(importance[..., : tokens - self.recent], self.heavy), self.recent, tokens)
        self.keep(chosen)
        of_queries = chosen.repeat_interleave(self.score.shape[1] // chosen.shape[1], dim=1)
        self.score, self.norm = self.score.gather(-1, of_queries), self.norm.gather(-1, of_queries)


POLICY = VATP
