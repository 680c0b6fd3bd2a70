"""Ada-KV, run: SnapKV with each head's number of tokens from its share of the layer's best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.functional import max_pool1d

from kvcalc.model import MethodArguments
from kvcalc.verify.policies._masked import MaskedPolicy
from kvcalc.verify.policies._policy import Place, TokenPolicy, attention_weights, best, share_kept
from kvcalc.verify.policies._ragged import Part, RaggedPolicy, alike

KERNEL = 7
"""Neighbours over which votes are pooled; no byte depends on it."""
BETA = 20
_VECTORS, _ENDS = 7, 3


def votes(query: Tensor, key: Tensor, window: int) -> Tensor:
    """Pooled attention that the last `window` queries give each token before them, mean of a group: (B, h, n - w)."""
    weights = attention_weights(query[..., -window:, :], key)[..., :-window].mean(dim=-2)  # (B, H, w, n) -> (B, H, .)
    of_kv_heads = weights.unflatten(1, (key.shape[1], -1)).mean(dim=2)
    return max_pool1d(of_kv_heads, KERNEL, stride=1, padding=KERNEL // 2)


def head_counts(scores: Tensor, base: int) -> list[int]:
    """How many of a layer's h * base best tokens fall to each head, by the votes (1, h, n - w) of one sequence."""
    heads, tokens = scores.shape[1:]
    chosen = scores.flatten().topk(heads * base).indices // tokens
    return torch.bincount(chosen, minlength=heads).tolist()


class Cut(TokenPolicy):
    """Heads that keep the window and a number of other tokens, those with most of its attention."""

    def __init__(self, place: Place, arguments: MethodArguments, count: int) -> None:
        super().__init__(place, arguments)
        self.count = count

    def after_prompt(self, query: Tensor) -> None:
        """Keeps the best and the window."""
        window = self.arguments["window_size"]
        if self.count + window < self.seen:
            own = torch.full((*self.key.shape[:2], window), torch.inf, dtype=query.dtype, device=query.device)
            scores = torch.cat([votes(query, self.key, window), own], dim=-1)
            self.keep(best(scores, self.count + window))


class Masked(MaskedPolicy):
    """Heads that keep every token; of each layer the tokens with the fewest votes are not read."""

    def to_mask(self, query: Tensor) -> Tensor:
        """The worst of all heads together, but none of those that each head has for certain."""
        kept = share_kept(self.seen, self.arguments["compression_ratio"])
        window = min(self.arguments["window_size"], self.seen - 1)
        scores = votes(query, self.key, window)
        scores = torch.cat([scores, scores.new_full((*scores.shape[:2], window), torch.inf)], dim=-1)
        certain = best(scores, int(kept * float(self.arguments["floor_alpha"])))
        scores = scores.scatter(-1, certain, torch.inf).flatten(1)  # (B, h * n)
        worst = scores.topk(self.key.shape[1] * (self.seen - kept), largest=False).indices
        return torch.zeros_like(scores, dtype=torch.bool).scatter(-1, worst, True).view(self.key.shape[:3])


class AdaKV(RaggedPolicy):
    """Heads keep as many tokens as head_counts says of them; which ones, the votes of the prompt's window say.

    Source: Feng et al. 2024, arXiv 2407.11550, section 3.
    """

    @property
    def held(self) -> Mapping[str, Tensor]:
        """Keys and values, and the metadata of the kernel that reads heads of different lengths."""
        return super().held if self.masks else {**super().held, **self.metadata}

    @property
    def masks(self) -> bool:
        """Whether tokens are only masked, as in kvpress."""
        return self.arguments["compression_ratio"] is not None

    def divide(self, heads: int, tokens: int) -> Sequence[Part]:
        """Heads of equal length together."""
        told = {**self.arguments, "gqa_support": True}  # rows come as they are stored
        if self.masks:
            return [Part([*range(heads)], "", Masked(self.place, told))]
        lengths = self._lengths(heads, tokens)
        together = alike(lengths)
        window = self.arguments["window_size"]
        return [
            Part(some, f"_{length}" if len(together) > 1 else "", Cut(self.place, told, length - window))
            for length, some in together.items()
        ]

    def prefill(self, query: Tensor, key: Tensor, value: Tensor) -> None:
        """The prompt, and where the heads end in it."""
        super().prefill(query, key, value)
        sequences, heads = len(key), sum(len(part.heads) for part in self.parts)
        self.metadata = {
            "metadata": torch.zeros(sequences, _VECTORS, heads, dtype=torch.int32, device=key.device),
            "metadata_ends": torch.zeros(sequences, _ENDS, dtype=torch.int32, device=key.device),
        }
        self._measure()

    def step(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """The token, and one more in each head."""
        output = super().step(query, key, value)
        self._measure()
        return output

    def _lengths(self, heads: int, tokens: int) -> list[int]:
        """Tokens that each head keeps of the prompt."""
        window, alpha = self.arguments["window_size"], float(self.arguments["floor_alpha"])
        base = self._base(tokens)
        if base > tokens - window:
            return [tokens] * heads
        given, layer = self.arguments["head_counts"], self.place.layer
        counts = given[layer * heads : (layer + 1) * heads] if len(given) > heads else given or [base] * heads
        share = torch.tensor(counts) * (1 - alpha) + int(base * alpha)
        lengths: list[int] = (share.round().int() + window).tolist()
        return lengths

    def _base(self, tokens: int) -> int:
        """Mean tokens of a head besides the window: this layer's step of the pyramid."""
        mean: int = self.arguments["base_capacity"] - self.arguments["window_size"]
        if not self.arguments["pyramid"]:
            return mean
        low = mean // BETA
        high = 2 * mean - low
        if high >= tokens - self.arguments["window_size"]:
            high = tokens - self.arguments["window_size"]
            low = 2 * mean - high
        return high - self.place.layer * ((high - low) // max(self.place.num_layers - 1, 1))

    def _measure(self) -> None:
        """Writes lengths and their sums into the metadata: of keys, of queries, and offsets of heads."""
        if self.masks:
            return
        lengths = {head: part.policy.held["k"].shape[-2] for part in self.parts for head in part.heads}
        own = torch.tensor([lengths[head] for head in sorted(lengths)], dtype=torch.int32)
        ends, ones = own.cumsum(0), torch.ones_like(own)
        places = torch.arange(len(own))
        rows = torch.stack([own, ends, ends - own, ones, places, places, places + 1]).int()
        self.metadata["metadata"][:] = rows.to(self.metadata["metadata"].device)
        last = torch.tensor([int(own.sum()), len(own), len(own)], dtype=torch.int32)
        self.metadata["metadata_ends"][:] = last.to(self.metadata["metadata_ends"].device)


POLICY = AdaKV
