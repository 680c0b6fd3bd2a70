"""SnapKV, run: the last window's votes, pooled over neighbours, select the tokens that stay with it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import avg_pool1d

from kvcalc.verify.policies._policy import TokenPolicy, attention_weights, best, share_kept

KERNEL = 5
"""Neighbours over which votes are pooled; no byte depends on it."""


class SnapKV(TokenPolicy):
    """Of a prompt longer than the capacity, the window and those of the other tokens with most of its pooled attention.

    Votes are the mean of a KV head's queries. Each later token stays.
    Source: Li et al. 2024, arXiv 2404.14469, section 4.
    """

    def after_prompt(self, query: Tensor) -> None:
        """Keeps the window and the best of the others."""
        kept = self.capacity()
        if self.seen > kept:
            window = min(self.arguments["window_size"], self.seen)
            self.keep(best(self.votes(query, window), kept))

    def capacity(self) -> int:
        """Tokens of the prompt that this layer keeps."""
        ratio = self.arguments["compression_ratio"]
        return self.arguments["max_capacity_prompt"] if ratio is None else share_kept(self.seen, ratio)

    def votes(self, query: Tensor, window: int) -> Tensor:
        """Pooled attention that the window gives each token (B, h, n); the window itself is above all others."""
        weights = attention_weights(query[..., -window:, :], self.key)  # (B, H, w, n)
        before = self.of_kv_heads(weights[..., : self.seen - window].sum(dim=-2))
        votes = avg_pool1d(before, KERNEL, stride=1, padding=KERNEL // 2)
        own = votes.new_full((*votes.shape[:2], window), torch.inf)
        return torch.cat([votes, own], dim=-1)


POLICY = SnapKV
