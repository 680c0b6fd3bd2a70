"""Routed experts that a step's tokens pass: how many of a layer's are read.

At least as many as one token passes, where all tokens choose alike. How many are expected is an estimate: each token is
taken to choose k of n experts evenly and by itself, so that of B tokens none chooses an expert with (1 - k / n)^B.

    expected = n * (1 - (1 - k / n)^B)

Trained routers are less even than that, so that fewer are read. Of ranks that share experts each has n / ranks, and the
one that reads most has ceil(k / ranks) of a token's at least.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from kvcalc.errors import NotApplicableError
from kvcalc.fleet.weights import EXPERTS, ROUTER, Weights

_PRECISION_BITS = 128
"""Of a share that is raised to a power: a fraction of its own would have as many digits as there are tokens."""
_MOST_EXPERTS = 2**12
"""More rows than this are those of several experts laid under each other (DBRX)."""
_WITHOUT_WORK = 2
"""Up to how many times its experts a router chooses from, where some of what it chooses does nothing (LongCat)."""


class Routing(NamedTuple):
    """Routed experts of a layer. choices: what the router chooses from, experts that do nothing among them."""

    num_experts: int
    per_token: int
    choices: int

    def least(self, ranks: int = 1) -> Fraction:
        """Share of a rank's experts that a step reads where all tokens choose alike, on the rank that reads most."""
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
    """The experts of a checkpoint; None where it has none. Raises NotApplicableError where nobody says how many."""
    tensors = [each.tensor for each in weights.tensors]
    rows = [t.shape[0] for t in tensors if t.part == EXPERTS]
    if not rows:
        return None
    routers = [t.shape[0] for t in tensors if t.part == ROUTER and len(t.shape) > 1]
    number = min(rows) if min(rows) <= _MOST_EXPERTS else max(routers, default=0)
    if not number or not weights.experts_per_token:
        raise NotApplicableError(
            "nothing says how many of its routed experts a token passes",
            help="name the model's own repository or preset, whose config says so",
        )
    return Routing(number, min(weights.experts_per_token, number), _choices(number, routers))


def _choices(number: int, routers: Sequence[int]) -> int:
    return max((rows for rows in routers if number <= rows <= _WITHOUT_WORK * number), default=number)
