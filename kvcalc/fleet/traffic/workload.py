"""Lengths of requests: one length, quantiles, a histogram, or a trace; prompts and outputs separately.

Quantiles are fitted by one rule: between two of them lengths are spread evenly, below the first all equal it, and each
1/200 of the requests has the largest length of its interval. So a fit is never below the given quantiles.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from fractions import Fraction
from itertools import pairwise
from math import ceil
from typing import NamedTuple

from kvcalc.errors import InvalidValueError
from kvcalc.units import count, parse_tokens, shown

POINTS = 200
"""Lengths of a fit, equally likely."""
_MAX = "max"
_EXAMPLE = "write 8K, p50=4K,p95=32K,max=128K, or 1K:50,8K:30,32K:20"


class Lengths(NamedTuple):
    """Lengths with their weights, and the quantiles they were fitted to, if any."""

    weights: tuple[tuple[int, int], ...]
    asked: tuple[tuple[Fraction, int], ...] = ()

    @classmethod
    def of(cls, weights: Mapping[int, int]) -> Lengths:
        """Lengths from a count."""
        return cls(tuple(sorted(weights.items())))

    @property
    def total(self) -> int:
        """Sum of the weights."""
        return sum(weight for _, weight in self.weights)

    @property
    def mean(self) -> Fraction:
        """Their mean."""
        return Fraction(sum(tokens * weight for tokens, weight in self.weights), self.total)

    @property
    def longest(self) -> int:
        """The longest."""
        return self.weights[-1][0]

    def quantile(self, share: Fraction) -> int:
        """The shortest length that this share of requests does not exceed."""
        left = share * self.total
        for tokens, weight in self.weights:
            left -= weight
            if left <= 0:
                return tokens
        return self.longest

    @property
    def words(self) -> str:
        """A description, with the quantiles of a fit next to the requested ones."""
        if len(self.weights) == 1:
            return f"{count(self.longest)} tokens"
        if not self.asked:
            found = ((Fraction(1, 2), "p50"), (Fraction(95, 100), "p95"), (Fraction(1), _MAX))
            quantiles = [f"{name} {count(self.quantile(share))}" for share, name in found]
        else:
            quantiles = [f"{_name(share)} {count(self.quantile(share))} of {count(at)}" for share, at in self.asked]
        return f"{', '.join(quantiles)}, mean {float(self.mean):,.1f}"


class Workload(NamedTuple):
    """Requests by prompt and output tokens, with the weight of each pair. described: description by part."""

    pairs: tuple[tuple[int, int, int], ...]
    described: tuple[tuple[str, str], ...]

    @classmethod
    def independent(cls, prompts: Lengths, outputs: Lengths | None) -> Workload:
        """Every prompt with every output. outputs: None if a user just holds its context."""
        ends = ((1, 1),) if outputs is None else outputs.weights
        pairs = tuple((p, o, pw * ow) for p, pw in prompts.weights for o, ow in ends)
        if outputs is None:
            return cls(pairs, (("context", prompts.words),))
        return cls(pairs, (("prompt", prompts.words), ("output", outputs.words)))

    @classmethod
    def joint(cls, lengths: Iterable[tuple[int, int]]) -> Workload:
        """Pairs from a trace."""
        pairs = Counter(lengths)
        prompts, outputs = Counter[int](), Counter[int]()
        for (prompt, output), weight in pairs.items():
            prompts[prompt] += weight
            outputs[output] += weight
        words = (("prompt", Lengths.of(prompts).words), ("output", Lengths.of(outputs).words))
        return cls(tuple((p, o, weight) for (p, o), weight in sorted(pairs.items())), words)

    @property
    def longest(self) -> int:
        """Tokens of the longest request, prompt and output together, as far as they are written to the cache."""
        return max(prompt + output - 1 for prompt, output, _ in self.pairs)

    @property
    def mean_tokens(self) -> Fraction:
        """Average tokens of a user: a request counts for as many steps as it generates."""
        steps = sum(output * weight for _, output, weight in self.pairs)
        held = sum(weight * (output * prompt + output * (output - 1) // 2) for prompt, output, weight in self.pairs)
        return Fraction(held, steps)


def parse_lengths(text: str, field: str = "context") -> Lengths:
    """Parses `8K`, `p50=4K,p95=32K,max=128K` or `1K:50,8K:30`. Raises InvalidValueError for any other form."""
    parts = [part.strip() for part in text.split(",")]
    if "=" in text:
        return fitted([_quantile(part, field) for part in parts], field)
    if ":" in text:
        return Lengths.of(parse_weights(text, field))
    return Lengths(((parse_tokens(text, field), 1),))


def parse_weights(text: str, field: str, least: int = 1) -> dict[int, int]:
    """Parses tokens with weights, `1K:50,8K:30`; least: minimum of tokens. Raises InvalidValueError."""
    weights: Counter[int] = Counter()
    for part in (part.strip() for part in text.split(",")):
        tokens, colon, weight = part.partition(":")
        if not colon:
            raise InvalidValueError(f"{field} has {shown(part)} without a weight", field=field, help=_EXAMPLE)
        number = 0 if tokens == "0" and not least else parse_tokens(tokens, field)
        weights[number] += parse_tokens(weight, f"{field} weight")
    return dict(weights)


def fitted(asked: list[tuple[Fraction, int]], field: str = "context") -> Lengths:
    """Lengths with these quantiles. Raises InvalidValueError if they decrease, or the maximum is missing."""
    ordered = sorted(asked)
    if any(one == other for (one, _), (other, _) in pairwise(ordered)):
        raise InvalidValueError(f"{field} names a quantile twice", field=field, help=_EXAMPLE)
    if [tokens for _, tokens in ordered] != sorted(tokens for _, tokens in ordered):
        raise InvalidValueError(f"{field} has a higher quantile with fewer tokens", field=field, help=_EXAMPLE)
    if not ordered or ordered[-1][0] != 1:
        raise InvalidValueError(
            f"{field} has no max: the longest request decides what must fit", field=field, help="add max=128K"
        )
    weights = Counter(_at(Fraction(point, POINTS), ordered) for point in range(1, POINTS + 1))
    return Lengths(tuple(sorted(weights.items())), tuple(ordered))


def _at(share: Fraction, ordered: list[tuple[Fraction, int]]) -> int:
    before, shorter = Fraction(0), ordered[0][1]
    for end, longer in ordered:
        if share <= end:
            return shorter + ceil((longer - shorter) * (share - before) / (end - before))
        before, shorter = end, longer
    return shorter


def _quantile(part: str, field: str) -> tuple[Fraction, int]:
    """`p50=4K`, `p99.5=100K`, `max=128K`."""
    name, equals, tokens = part.partition("=")
    share = Fraction(1) if name == _MAX else None
    if name[:1] == "p":
        try:
            share = Fraction(name[1:]) / 100
        except (ValueError, ZeroDivisionError):
            share = None
    if share is None or not 0 < share <= 1 or not equals:
        raise InvalidValueError(f"{field} has {shown(part)}, which is not a quantile", field=field, help=_EXAMPLE)
    return share, parse_tokens(tokens, field)


def _name(share: Fraction) -> str:
    return _MAX if share == 1 else f"p{float(100 * share):g}"
