"""DMS, run: a token that the head decided against is overwritten once it leaves the window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

import torch
from torch import Tensor

from kvcalc.model import MethodArguments
from kvcalc.verify.policies._blocks import HeadBlocks
from kvcalc.verify.policies._learned import ratios_of_heads, stays
from kvcalc.verify.policies._policy import Place, Policy, attention_weights, mixed
from kvcalc.verify.policies._ragged import Everything, Part, RaggedPolicy


class DroppingHeads(Policy):
    """Heads that keep the window, and of each `ratio` tokens before it the first.

    recent_info: for each token of the window its slot, and whether it goes, a ring (B, h, w, 2).
    """

    def __init__(self, place: Place, arguments: MethodArguments, ratio: Fraction) -> None:
        super().__init__(place, arguments)
        self.ratio = ratio

    @property
    def held(self) -> Mapping[str, Tensor]:
        """The blocks, the window's slots and decisions, and lengths."""
        return {**self.blocks.held, "recent_info": self.recent_info, "lens": self.lens}

    def prefill(self, query: Tensor, key: Tensor, value: Tensor) -> None:  # noqa: ARG002  # no score is needed
        """The prompt, token by token."""
        sequences, heads, tokens = key.shape[:3]
        size, longest = self.arguments["dms_paged_attention_block_size"], self.arguments["max_context_length"]
        self.blocks = HeadBlocks(key, value, size)
        self.blocks.provide(self.arguments["dms_preallocate_for_tokens"])
        self.blocks.widen(-(-longest // size) + 1 if longest else 0)
        window = self.arguments["dms_window_size"]
        self.recent_info = torch.zeros(sequences, heads, window, 2, dtype=torch.int32, device=key.device)
        self.lens = torch.zeros(sequences, heads, 2, dtype=torch.int32, device=key.device)
        self.seen = 0
        for token in range(tokens):
            self._accept(key[..., token, :], value[..., token, :])

    def step(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Takes the token, and reads all slots."""
        self._accept(key[..., 0, :], value[..., 0, :])
        keys, values = self.blocks.read(int(self.lens[..., 0].max()))
        return mixed(attention_weights(query, keys), values)

    def _accept(self, key: Tensor, value: Tensor) -> None:
        """Writes one token, rows (B, h, D): over the one that leaves the window, or into the next slot."""
        oldest = self.recent_info[:, :, self.seen % self.recent_info.shape[2]]  # (B, h, 2), of w tokens ago
        slots, goes = oldest[..., 0], oldest[..., 1]
        slots = torch.where(goes == 1, slots, self.lens[..., 0])
        self.lens[..., 0] += 1 - goes
        self.lens[..., 1] += 1
        self.blocks.reserve(int(self.lens[..., 0].max()) + 1)
        self.blocks.widen(self.seen // self.blocks.size + 2)
        self.blocks.write(slots.long(), key, value)
        oldest[..., 0] = slots
        oldest[..., 1] = int(not stays(self.seen, self.ratio))
        self.seen += 1


class Masked(Everything):
    """Heads that keep every token, and do not read those before the window that they decided against."""

    def step(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Adds the token, and reads those that stay."""
        self.add(key, value)
        ratio, before = Fraction(str(self.arguments["dms_cr"])), self.seen - self.arguments["dms_window_size"]
        read = [p for p in range(self.seen) if p >= before or stays(p, ratio)]
        return mixed(attention_weights(query, self.key[..., read, :]), self.value[..., read, :])


class DMS(RaggedPolicy):
    """Heads of equal ratio together. Source: Łańcucki et al. 2025, arXiv 2506.05345, section 3."""

    def divide(self, heads: int, tokens: int) -> Sequence[Part]:  # noqa: ARG002  # whatever the prompt is
        """By head_cr, or all heads alike."""
        if self.arguments["mask_only"]:
            return [Part([*range(heads)], "", Masked(self.place, self.arguments))]
        return [
            Part(some, suffix, DroppingHeads(self.place, self.arguments, ratio))
            for ratio, suffix, some in ratios_of_heads(self.arguments, "dms_cr", heads)
        ]


POLICY = DMS
