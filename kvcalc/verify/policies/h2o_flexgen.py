"""H2O in FlexGen, run: slots that were there before the prompt, and a token's goes to the next."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from kvcalc.errors import InvalidValueError
from kvcalc.units import plural, shown
from kvcalc.verify.policies._policy import Policy, attention_weights, best, gathered, mixed, received, wide, with_last


class FlexGenH2O(Policy):
    """k heavy hitters and k - 1 of the newest tokens after the prompt, in 2 k slots; then each token takes a slot.

    Once all slots are taken, a token goes to the slot of the lightest that is not among the newest.
    Raises InvalidValueError for a prompt of which hh_ratio is not one token.
    Source: Zhang et al. 2023, arXiv 2306.14048, appendix; FMInference/H2O, h2o_flexgen.
    """

    score_dtype = torch.float16

    @property
    def held(self) -> Mapping[str, Tensor]:
        """Keys, values and acc, the sum that each slot's token received, in fp16: (B, h, slots, ...)."""
        return {"k": self.key, "v": self.value, "acc": self.acc}

    def prefill(self, query: Tensor, key: Tensor, value: Tensor) -> None:
        """Allocates, and writes what stays of the prompt."""
        sequences, heads, tokens, _ = key.shape
        k = int(float(self.arguments["hh_ratio"]) * tokens)
        if not k:
            ratio = shown(float(self.arguments["hh_ratio"]))
            raise InvalidValueError(
                f"hh_ratio ({ratio}) of a prompt of {plural(tokens, 'token')} is less than one token, so FlexGen "
                "keeps no heavy hitter",
                field="hh_ratio",
                help="verify with a longer prompt, or a larger ratio",
            )
        slots = self._slots(2 * k, tokens)
        self.key, self.value = (rows.new_zeros(sequences, heads, slots, rows.shape[-1]) for rows in (key, value))
        self.acc = torch.zeros(sequences, heads, slots, dtype=self.score_dtype, device=key.device)
        self.positions = torch.full((sequences, heads, slots), -1, device=key.device)
        given = received(query, key)
        chosen = torch.arange(tokens, device=key.device).expand(sequences, heads, tokens)
        if self.arguments["hh_all"]:
            chosen = with_last(best(given[..., : tokens - k + 1], k), k - 1, tokens)
        self.valid = chosen.shape[-1]
        taken = slice(0, self.valid)
        self.key[..., taken, :], self.value[..., taken, :] = gathered(key, chosen), gathered(value, chosen)
        self.acc[..., taken] = given.gather(-1, chosen).to(self.score_dtype)
        self.positions[..., taken] = chosen
        self.seen, self.recent = tokens, k - 1

    def step(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Writes the token into the next free slot, or over the lightest of the older tokens."""
        slot = self._free_slot()  # (B, h, 1)
        for storage, rows in ((self.key, key), (self.value, value)):
            storage.scatter_(-2, slot.unsqueeze(-1).expand(*slot.shape, rows.shape[-1]), rows)
        self.acc.scatter_(-1, slot, 0.0)
        self.positions.scatter_(-1, slot, self.seen)
        self.seen += 1
        weights = attention_weights(query, self.key[..., : self.valid, :])
        self.acc[..., : self.valid] += weights[..., -1, :].to(self.score_dtype)
        return mixed(weights, self.value[..., : self.valid, :])

    def _slots(self, budget: int, tokens: int) -> int:
        if self.arguments["hh_all"]:
            return budget
        return min(budget, tokens) + int(self.arguments["gen_len"]) - 1

    def _free_slot(self) -> Tensor:
        if self.valid < self.key.shape[-2]:
            self.valid += 1
            return torch.full_like(self.positions[..., :1], self.valid - 1)
        newest = self.positions > self.seen - 1 - self.recent
        return wide(self.acc).masked_fill(newest, torch.inf).argmin(dim=-1, keepdim=True)


POLICY = FlexGenH2O
