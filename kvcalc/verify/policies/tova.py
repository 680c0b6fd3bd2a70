"""TOVA, run: after each token, the one its query attends to least is dropped, the same in all heads."""

from __future__ import annotations

from torch import Tensor

from kvcalc.verify.policies._policy import TokenPolicy, attention_weights, best, share_kept


class Tova(TokenPolicy):
    """The cache_size tokens with the largest mean attention, over the heads, of the newest query.

    Source: Oren et al. 2024, arXiv 2401.06104, section 3.
    """

    def after_prompt(self, query: Tensor) -> None:
        """By the prompt's last query."""
        ratio = self.arguments["compression_ratio"]
        kept = self.arguments["cache_size"] if ratio is None else share_kept(self.seen, ratio)
        self._keep_best(attention_weights(query[..., -1:, :], self.key), kept)

    def after_step(self, weights: Tensor) -> None:
        """By the newest query; a cut by ratio lets every later token stay."""
        if self.arguments["compression_ratio"] is None:
            self._keep_best(weights, self.arguments["cache_size"])

    def _keep_best(self, weights: Tensor, kept: int) -> None:
        if self.key.shape[-2] > kept:
            tokens = best(weights[..., -1, :].mean(dim=1), kept)  # (B, H, 1, T) -> (B, kept)
            self.keep(tokens.unsqueeze(1).expand(-1, self.key.shape[1], -1))


POLICY = Tova
