"""DMC, run: a token is merged into the last slot of a head, weighted, or has its own slot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

import torch
from torch import Tensor

from kvcalc.model import MethodArguments
from kvcalc.verify.policies._blocks import HeadBlocks
from kvcalc.verify.policies._learned import ratios_of_heads, stays
from kvcalc.verify.policies._policy import Place, Policy, attention_weights, mixed
from kvcalc.verify.policies._ragged import Part, RaggedPolicy


class MergingHeads(Policy):
    """Heads that merge all tokens but the first of each `ratio` into the slot before.

    With the weight w_t = sigmoid(q_t[0]) a slot holds k = sum(w_j k_j) / sum(w_j), v likewise, over its tokens j, or
    the newest dmc_window_size of them. The channel that the weight is read from is then set to 0, in queries and keys.
    Windows are rings behind their sum: keys (B, h, w + 1, D), values and weights.
    """

    def __init__(self, place: Place, arguments: MethodArguments, ratio: Fraction) -> None:
        super().__init__(place, arguments)
        self.ratio = ratio

    @property
    def held(self) -> Mapping[str, Tensor]:
        """The blocks, the windows, and lengths."""
        return {
            **self.blocks.held,
            "window_k": self.window_k,
            "window_v": self.window_v,
            "window_weights": self.window_weights,
            "lens": self.lens,
            "head_alloc": self.head_alloc,
        }

    def prefill(self, query: Tensor, key: Tensor, value: Tensor) -> None:
        """The prompt, token by token."""
        sequences, heads, tokens = key.shape[:3]
        window, size = self.arguments["dmc_window_size"], self.arguments["dmc_paged_block_size"]
        self.blocks = HeadBlocks(key, value, size)
        self.blocks.widen(-(-(self.arguments["max_len"] or 0) // size))
        self.window_k, self.window_v = (
            rows.new_zeros(*rows.shape[:2], window + 1, rows.shape[-1]) for rows in (key, value)
        )
        self.window_weights = key.new_zeros(sequences, heads, window + 1)
        self.lens = torch.zeros(sequences, heads, 2, dtype=torch.int32, device=key.device)
        self.head_alloc = torch.zeros(sequences, heads, dtype=torch.int32, device=key.device)
        self.seen, self.merged = 0, 0
        for token in range(tokens):
            self._accept(*(rows[..., token, :] for rows in (query, key, value)))

    def step(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Takes the token, and reads all slots."""
        self._accept(*(rows[..., 0, :] for rows in (query, key, value)))
        keys, values = self.blocks.read(int(self.lens[..., 1].max()))
        return mixed(attention_weights(spent(query), keys), values)

    def _accept(self, query: Tensor, key: Tensor, value: Tensor) -> None:
        """Merges or appends one token, queries (B, H, D) and rows (B, h, D)."""
        if stays(self.seen, self.ratio):
            self.lens[..., 1] += 1
            self.merged = 0
            for sums in (self.window_k, self.window_v, self.window_weights):
                sums[:, :, 0] = 0
        self.lens[..., 0] += 1
        size = self.arguments["dmc_paged_block_size"]
        self.blocks.reserve(int(self.lens[..., 1].max()) + 1)
        self.blocks.widen((self.seen + 1) // size + 1)
        self.head_alloc[:] = self.blocks.each * size
        weight = query[..., 0].unflatten(1, (key.shape[1], -1)).mean(dim=2).sigmoid()  # (B, H) -> (B, h, G) -> (B, h)
        self._add_to_window(spent(key), value, weight)
        total = self.window_weights[:, :, :1]
        slots = self.lens[..., 1].long() - 1
        self.blocks.write(slots, self.window_k[:, :, 0] / total, self.window_v[:, :, 0] / total)
        self.seen += 1

    def _add_to_window(self, key: Tensor, value: Tensor, weight: Tensor) -> None:
        """Adds a token to the sums, and takes out that of the slot which left the window."""
        window = self.arguments["dmc_window_size"]
        place = 1 + self.seen % window
        rows = ((self.window_k, key * weight.unsqueeze(-1)), (self.window_v, value * weight.unsqueeze(-1)))
        for ring, row in (*rows, (self.window_weights, weight)):
            if self.merged >= window:
                ring[:, :, 0] -= ring[:, :, place]
            ring[:, :, 0] += row
            ring[:, :, place] = row
        self.merged += 1


def spent(rows: Tensor) -> Tensor:
    """Rows whose first channel was read as a weight, and says nothing more."""
    rows = rows.clone()
    rows[..., 0] = 0
    return rows


class DMC(RaggedPolicy):
    """Heads of equal ratio together.

    Source: Nawrot et al. 2024, arXiv 2403.09636, section 3; its released code reads the last channel, and rotates keys
    once they are merged.
    """

    def divide(self, heads: int, tokens: int) -> Sequence[Part]:  # noqa: ARG002  # whatever the prompt is
        """By head_cr, or all heads alike."""
        return [
            Part(some, suffix, MergingHeads(self.place, self.arguments, ratio))
            for ratio, suffix, some in ratios_of_heads(self.arguments, "dmc_cr", heads)
        ]


POLICY = DMC
