"""FastGen, run: heads of five policies, each with the tokens that its policy is for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from math import ceil

import torch
from torch import Tensor
from torch.nn.functional import pad

from kvcalc.model import MethodArguments
from kvcalc.verify.policies._policy import Place, TokenPolicy, best, received
from kvcalc.verify.policies._ragged import Everything, Part, RaggedPolicy

NAMES = ("special", "punctuation", "frequent", "local")
FREQUENT, LOCAL = (NAMES.index(name) for name in NAMES[2:])
RATIOS = ("punctuation_ratio", "frequent_ratio", "local_ratio")


class Hybrid(TokenPolicy):
    """Heads that keep special tokens and, by `level`, punctuation, the frequent, and the local tokens.

    level: how many of the ratios are added up. A token may be special or punctuation by its position only: text has
    punctuation as regularly as punctuation_ratio says. Local are the newest of all others, frequent the rest of the
    budget, those with most attention so far.
    """

    def __init__(self, place: Place, arguments: MethodArguments, level: int) -> None:
        super().__init__(place, arguments)
        self.level = level

    @property
    def held(self) -> Mapping[str, Tensor]:
        """Keys, values, and the sums where they decide."""
        return {**super().held, "score": self.score} if self.level >= FREQUENT else super().held

    def budget(self, level: int, tokens: int) -> int:
        """Number of these tokens that policies up to a level keep together."""
        ratio = sum(Fraction(str(self.arguments[name])) for name in RATIOS[:level])
        return min(tokens, int(self.arguments["special_tokens"]) + ceil(ratio * tokens))

    def always(self, position: int) -> bool:
        """Whether a token is special or, where those are kept, punctuation."""
        level = min(self.level, 1)
        return self.budget(level, position + 1) > self.budget(level, position)

    def after_prompt(self, query: Tensor) -> None:
        """By what all of the prompt's queries gave."""
        self.certain = torch.tensor([self.always(p) for p in range(self.seen)], device=query.device)
        self.certain = self.certain.expand(self.positions.shape)
        if self.level >= FREQUENT:
            self.score = self.of_kv_heads(received(query, self.key))
        self._choose()

    def after_step(self, weights: Tensor) -> None:
        """Adds what the newest query gave, and drops what the budgets have no room for."""
        self.certain = pad(self.certain, (0, 1), value=self.always(self.seen - 1))
        if self.level >= FREQUENT:
            self.score = pad(self.score, (0, 1)) + self.of_kv_heads(weights[..., -1, :])
        self._choose()

    def _choose(self) -> None:
        kept = self.budget(self.level, self.seen)
        if kept == self.key.shape[-2]:
            return
        value = self.score if self.level >= FREQUENT else torch.zeros_like(self.certain, dtype=torch.float32)
        chosen = best(value.masked_fill(self.certain | self._local(), torch.inf), kept)
        self.keep(chosen)
        self.certain = self.certain.gather(-1, chosen)
        if self.level >= FREQUENT:
            self.score = self.score.gather(-1, chosen)

    def _local(self) -> Tensor:
        """The newest of the tokens that are kept for nothing else, (B, h, held)."""
        newest = (
            self.budget(self.level, self.seen) - self.budget(self.level - 1, self.seen) if self.level == LOCAL else 0
        )
        others = ~self.certain
        from_the_end = others.flip(-1).cumsum(-1).flip(-1)
        return others & (from_the_end <= newest)


def profiled(query: Tensor, key: Tensor, place: Place, arguments: MethodArguments, threshold: float) -> list[list[int]]:
    """Policy of each head of each sequence by a prompt's attention, as an index: the smallest that recovers enough.

    threshold: share of all attention that went to the tokens which a policy keeps. Heads that no policy suffices for
    keep everything: one index further. The paper has 0.95 in its analysis.
    """
    total = received(query, key).unflatten(1, (key.shape[1], -1)).mean(dim=2)  # (B, H, n) -> (B, h, n)
    policies = torch.full(total.shape[:2], len(NAMES), device=key.device)
    for level in reversed(range(len(NAMES))):
        heads = Hybrid(place, arguments, level)
        heads.prefill(query, key, key)
        recovered = total.gather(-1, heads.positions).sum(dim=-1) / total.sum(dim=-1)
        policies[recovered >= threshold] = level
    found: list[list[int]] = policies.tolist()
    return found


class FastGen(RaggedPolicy):
    """The first heads of a layer have the smallest policy, the last ones keep everything.

    Source: Ge et al. 2023, arXiv 2310.01801, section 3.
    """

    def divide(self, heads: int, tokens: int) -> Sequence[Part]:  # noqa: ARG002  # whatever the prompt is
        """Heads of a policy together."""
        *hybrid, full = self.arguments["heads_per_policy"] or (0, 0, 0, 0, heads)
        ends = [sum(hybrid[: level + 1]) for level in range(len(hybrid))]
        parts = [
            Part([*range(end - number, end)], f"_{name}", Hybrid(self.place, self.arguments, level))
            for level, (name, number, end) in enumerate(zip(NAMES, hybrid, ends, strict=True))
        ]
        return [*parts, Part([*range(heads - full, heads)], "", Everything(self.place, self.arguments))]


POLICY = FastGen
