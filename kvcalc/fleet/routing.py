"""Routed experts: how many of a layer's experts a step reads.

The minimum is one token's experts, if all tokens choose the same. The expected number is an estimate: each token is
assumed to choose k of n experts evenly and independently, so that B tokens leave an expert unused with probability (1 -
k / n)^B.

    expected = n * (1 - (1 - k / n)^B)

Trained routers are less even, so fewer are read. Ranks that divide experts have n / ranks each, and the one that reads
most has at least ceil(k / ranks) of a token's experts.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from kvcalc.errors import NotApplicableError
from kvcalc.fleet.weights import EXPERTS, ROUTER, Weights

_PRECISION_BITS = 128
"""Precision of powers: an exact fraction would have as many digits as there are tokens."""
_MOST_EXPERTS = 2**12
"""More rows than this belong to several stacked experts (DBRX)."""
_WITHOUT_WORK = 2
"""Largest ratio of a router's choices to its experts, if some choices are no-ops (LongCat)."""


class Routing(NamedTuple):
    """Routed experts of a layer. choices: of the router, including no-op experts."""

    num_experts: int
    per_token: int
    choices: int

    def least(self, ranks: int = 1) -> Fraction:
        """Share of a rank's experts that a step reads if all tokens choose the same, on the rank that reads most."""
        working = max(0, self.per_token - (self.choices - self.num_experts))
        return min(Fraction(1), Fraction(-(-working // ranks) * ranks, self.num_experts))

    def expected(self, tokens: int) -> Fraction:
        """Share of the experts that `tokens` tokens are expected to choose. An estimate."""
        one = 1 << _PRECISION_BITS
        left, share = one, one * (self.choices - self.per_token) // self.choices
        while tokens:
            if tokens & 1:
                left = left * share >> _PRECISION_BITS
            share = share * share >> _PRECISION_BITS
            tokens >>= 1
        return Fraction(one - left, one)


def routing_of(weights: Weights) -> Routing | None:
    """The experts of a checkpoint, if any. Raises NotApplicableError if the number per token is unknown."""
    tensors = [each.tensor for each in weights.tensors]
    rows = [t.shape[0] for t in tensors if t.part == EXPERTS]
    if not rows:
        return None
    routers = [t.shape[0] for t in tensors if t.part == ROUTER and len(t.shape) > 1]
    number = min(rows) if min(rows) <= _MOST_EXPERTS else max(routers, default=0)
    if not number or not weights.experts_per_token:
        raise NotApplicableError(
            "number of routed experts per token unknown",
            help="name the model's repository or preset, whose config states it",
        )
    return Routing(number, min(weights.experts_per_token, number), _choices(number, routers))


def _choices(number: int, routers: Sequence[int]) -> int:
    return max((rows for rows in routers if number <= rows <= _WITHOUT_WORK * number), default=number)
