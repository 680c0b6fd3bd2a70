"""H2O, run: the tokens with most attention summed up so far, and the newest ones."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import pad

from kvcalc.verify.policies._policy import TokenPolicy, best, received, share_kept, wide, with_last


class H2O(TokenPolicy):
    """The hh_size tokens with most attention of all queries so far, and the newest recent_size, head by head.

    By a ratio, only the prompt is cut: to the tokens that received most in the mean of the queries that saw them.
    Source: Zhang et al. 2023, arXiv 2306.14048, section 4; for the ratio kvpress 0.5.5, ObservedAttentionPress.
    """

    score_dtype = torch.float16

    @property
    def held(self) -> Mapping[str, Tensor]:
        """Keys and values, and hh_score: the sum that each kept token received, (B, H, kept), in fp16."""
        return {**super().held, **({} if self.ratio is not None else {"hh_score": self.score})}

    @property
    def ratio(self) -> float | None:
        """The share of the prompt to drop, if given instead of a budget."""
        ratio: float | None = self.arguments["compression_ratio"]
        return ratio

    def after_prompt(self, query: Tensor) -> None:
        """By the sums of all of the prompt's queries."""
        given = received(query, self.key)
        if self.ratio is not None:
            seen_by = torch.arange(self.seen, 0, -1, device=given.device)
            self.keep(best(self.of_kv_heads(given / seen_by), share_kept(self.seen, self.ratio)))
            return
        self.score = given.to(self.score_dtype)
        self._cut()

    def after_step(self, weights: Tensor) -> None:
        """Adds what the newest query gave, and drops again to the budget."""
        if self.ratio is None:
            self.score = (wide(pad(self.score, (0, 1))) + weights[..., -1, :]).to(self.score_dtype)
            self._cut()

    def _cut(self) -> None:
        heavy, recent = self.arguments["hh_size"], self.arguments["recent_size"]
        tokens = self.key.shape[-2]
        if tokens > heavy + recent:
            chosen = with_last(best(self.score[..., : tokens - recent], heavy), recent, tokens)
            self.keep(chosen)
            self.score = self.score.gather(-1, chosen)


POLICY = H2O
