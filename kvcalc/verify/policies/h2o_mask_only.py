"""H2O masked, run: the tokens that H2O would drop are hidden from the queries, and stay."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import pad

from kvcalc.verify.policies._policy import TokenPolicy, attention_weights, best, mixed, received, with_last

BUDGET = 0.1
"""Share of the prompt for heavy hitters, and again for the newest; no byte depends on it."""


class MaskedH2O(TokenPolicy):
    """Attention over only heavy hitters and the newest tokens, with everything cached.

    Source: Zhang et al. 2023, arXiv 2306.14048; FMInference/H2O, h2o_hf/utils_hh.
    """

    @property
    def held(self) -> Mapping[str, Tensor]:
        """Keys and values, what each token received (B, H, T), and who may be seen in the next step (B, H, T + 1)."""
        return {**super().held, "previous_scores": self.score, "attention_masks_next": self.mask}

    def after_prompt(self, query: Tensor) -> None:
        """Sums over the prompt's queries; the budget is a share of the prompt, for good."""
        self.score = received(query, self.key).to(self.key.dtype)
        self.budget = int(BUDGET * self.seen)
        self._hide()

    def step(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """The token attends to what the mask lets it see."""
        self.add(key, value)
        weights = attention_weights(query, self.key) * self.mask.unsqueeze(2)
        weights = weights / weights.sum(dim=-1, keepdim=True)
        self.score = pad(self.score, (0, 1)) + weights[..., -1, :].to(self.score.dtype)
        self._hide()
        return mixed(weights, self.value)

    def _hide(self) -> None:
        tokens = self.score.shape[-1]
        heavy = best(self.score[..., : tokens - self.budget], min(self.budget, tokens - self.budget))
        seen = with_last(heavy, self.budget, tokens)
        mask = torch.zeros_like(self.score).scatter(-1, seen, 1.0)
        self.mask = pad(mask, (0, 1), value=1.0)


POLICY = MaskedH2O
