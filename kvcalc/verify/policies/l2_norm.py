"""L2 norm, run: of the prompt, the keys of smallest norm."""

from __future__ import annotations

from math import ceil

from torch import Tensor

from kvcalc.verify.policies._policy import TokenPolicy, best, gathered, share_kept, wide


class L2Norm(TokenPolicy):
    """The share of a prompt's tokens whose keys have the smallest norms, head by head. Each later token stays.

    Source: Devoto et al. 2024, arXiv 2406.11430, section 3.
    """

    def after_prompt(self, query: Tensor) -> None:  # noqa: ARG002  # no score is needed
        """Sorts the tokens by norm and keeps the first: a view of all of them, until the next token moves them."""
        norms = wide(self.key).norm(dim=-1)  # (B, h, n)
        if self.arguments["compression_ratio"] is not None:
            self.keep(best(-norms, share_kept(self.seen, self.arguments["compression_ratio"])))
            return
        if self.seen < self.arguments["prune_after"] or self.place.layer in self.arguments["skip_layers"]:
            return
        kept = ceil(float(self.arguments["keep_ratio"]) * self.seen)
        order = norms.argsort(dim=-1)
        chosen = order[..., :kept].sort(dim=-1).values
        order = order.clone()
        order[..., :kept] = chosen
        self.key, self.value = gathered(self.key, order)[..., :kept, :], gathered(self.value, order)[..., :kept, :]
        self.positions = self.positions.gather(-1, chosen)


POLICY = L2Norm
