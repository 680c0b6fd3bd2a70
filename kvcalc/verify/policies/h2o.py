"""H2O, run: the tokens with most attention summed up so far, and the newest ones."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import pad

from kvcalc.verify.policies._policy import TokenPolicy, best, received, with_last


class H2O(TokenPolicy):
    """The hh_size tokens with most attention of all queries so far, and the newest recent_size, head by head.

    Source: Zhang et al. 2023, arXiv 2306.14048, section 4.
    """

    @property
    def held(self) -> Mapping[str, Tensor]:
        """k, v, and hh_score: the sum that each kept token received, (B, h, kept), in fp16."""
        return {**super().held, "hh_score": self.score}

    def after_prompt(self, query: Tensor) -> None:
        """By the sums of all of the prompt's queries."""
        self.score = received(query, self.key).to(torch.float16)
        self._cut()

    def after_step(self, weights: Tensor) -> None:
        """Adds what the newest query gave, and drops again to the budget."""
        self.score = (pad(self.score, (0, 1)).float() + weights[..., -1, :]).to(torch.float16)
        self._cut()

    def _cut(self) -> None:
        heavy, recent = self.arguments["hh_size"], self.arguments["recent_size"]
        tokens = self.key.shape[-2]
        if tokens > heavy + recent:
            chosen = with_last(best(self.score[..., : tokens - recent], heavy), recent, tokens)
            self.keep(chosen)
            self.score = self.score.gather(-1, chosen)


POLICY = H2O
