"""The few expressions over t from which all slot rules are built.

    t and constants     Cached, Constant
    sums                a + b, a - b, 3 * a, a + 1
    rounded shares      Floor(a, 2, 3), Ceil(a, 2, 3), and the rest, Remainder(a, n)
    steps and ends      AtMost(a, n), Above(a, n), Lower(a, b), Switch(token, before, after)
    during a step       Anew(a)

Each is exact over any other, and so is their composition: `a.over(b)`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import gcd, lcm
from typing import TYPE_CHECKING

from kvcalc.cache.slots.algebra import Expression, Operation, Stretch, together, turns

if TYPE_CHECKING:
    from kvcalc.cache.slots.algebra import Tokens

_INT64_END = 2**63


class Cached(Expression):
    """t, the tokens themselves. takes_all_for_prompt: whether all are assumed to be prompt."""

    __slots__ = ("takes_all_for_prompt",)

    def __init__(self, *, takes_all_for_prompt: bool = False) -> None:
        self.takes_all_for_prompt = takes_all_for_prompt

    def slots(self, tokens: Tokens) -> Tokens:
        """All."""
        return tokens

    def in_step(self, tokens: int) -> int:
        """And the one of the step."""
        return tokens + 1

    def bounds(self, first: int, last: int) -> tuple[int, int]:
        """The first and the last."""
        return first, last

    def over(self, inner: Expression) -> Expression:
        """What stands in their place."""
        return inner

    def _made_of(self) -> Iterator[Stretch]:
        yield Stretch(0, 1, 1)


TOKENS = Cached()
PROMPT = Cached(takes_all_for_prompt=True)


class Constant(Expression):
    """The same number for every t."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number

    def slots(self, tokens: Tokens) -> Tokens:
        """The number, once for each t."""
        return self.number + 0 * tokens

    def in_step(self, tokens: int) -> int:  # noqa: ARG002  # it is always the same
        """The number."""
        return self.number

    def bounds(self, first: int, last: int) -> tuple[int, int]:  # noqa: ARG002  # it is always the same
        """The number, from both sides."""
        return self.number, self.number

    def over(self, inner: Expression) -> Expression:  # noqa: ARG002  # it is always the same
        """Itself, whatever the tokens are."""
        return self

    def _made_of(self) -> Iterator[Stretch]:
        yield Stretch(0, 1, 0)


class Sum(Operation):
    """The sum of weight * a over terms (weight, a), and a constant. Negative weights subtract."""

    __slots__ = ("plus", "weights")

    def __init__(self, *terms: tuple[int, Expression], plus: int = 0) -> None:
        self.operands = tuple([operand for _, operand in terms])
        self.weights = tuple([weight for weight, _ in terms])
        self.plus = plus

    def _value(self, numbers: Sequence[Tokens]) -> Tokens:
        first, *others = [n if w == 1 else n * w for w, n in zip(self.weights, numbers, strict=True)]
        for other in others:
            first = first + other
        return first + self.plus if self.plus else first

    def bounds(self, first: int, last: int) -> tuple[int, int]:
        """Subtracted terms are least where the sum is most."""
        least = most = self.plus
        for weight, operand in zip(self.weights, self.operands, strict=True):
            one, other = sorted(weight * bound for bound in operand.bounds(first, last))
            least, most = least + one, most + other
        return least, most

    def _made_of(self) -> Iterator[Stretch]:
        """Growth adds up over a common period."""
        for start, stretches in together(self.operands):
            period = lcm(*[stretch.period for stretch in stretches])
            growths = [stretch.growth * (period // stretch.period) for stretch in stretches]
            yield Stretch(start, period, sum(map(int.__mul__, self.weights, growths)))


class _Share(Operation):
    """a * times / per, rounded."""

    __slots__ = ("per", "times")

    def __init__(self, inner: Expression, times: int, per: int) -> None:
        self.operands = (inner,)
        self.times = times
        self.per = per

    def _made_of(self) -> Iterator[Stretch]:
        """These many periods of a add up to a whole number."""
        (inner,) = self.operands
        for start, period, growth in inner.stretches:
            share = growth * self.times
            repeats = self.per // gcd(share, self.per)
            yield Stretch(start, period * repeats, share * repeats // self.per)


class Floor(_Share):
    """floor(a * times / per)."""

    __slots__ = ()

    def _value(self, numbers: Sequence[Tokens]) -> Tokens:
        (number,) = numbers
        return floor_of(number, self.times, self.per)


class Ceil(_Share):
    """ceil(a * times / per)."""

    __slots__ = ()

    def _value(self, numbers: Sequence[Tokens]) -> Tokens:
        (number,) = numbers
        return -floor_of(-number, self.times, self.per)


class Remainder(Operation):
    """a mod n: the one that falls, from n - 1 to none."""

    __slots__ = ("n",)

    def __init__(self, inner: Expression, n: int) -> None:
        self.operands = (inner,)
        self.n = n

    def _value(self, numbers: Sequence[Tokens]) -> Tokens:
        (number,) = numbers
        return number % self.n

    def bounds(self, first: int, last: int) -> tuple[int, int]:
        """Any remainder, unless no multiple of n lies between."""
        (inner,) = self.operands
        least, most = inner.bounds(first, last)
        return (least % self.n, most % self.n) if least // self.n == most // self.n else (0, self.n - 1)

    def _made_of(self) -> Iterator[Stretch]:
        """Once the growth is a multiple of n, it is as it was."""
        (inner,) = self.operands
        for start, period, growth in inner.stretches:
            yield Stretch(start, period * (self.n // gcd(growth, self.n)), 0)


class Anew(Operation):
    """a, for tokens selected again in each step after adding its token: during the step one more."""

    __slots__ = ()

    def __init__(self, inner: Expression) -> None:
        self.operands = (inner,)

    def _value(self, numbers: Sequence[Tokens]) -> Tokens:
        (number,) = numbers
        return number

    def in_step(self, tokens: int) -> int:
        """What is kept, and the step's own token."""
        return self.slots(tokens) + 1

    def _made_of(self) -> Iterator[Stretch]:
        (inner,) = self.operands
        return iter(inner.stretches)


class _Choice(Operation):
    """One expression, and another once a third reaches a number."""

    __slots__ = ()

    def _choice(self) -> tuple[Expression, int, Expression, Expression]:
        """The deciding expression, its number, the expression before and the one from there on."""
        raise NotImplementedError

    def _made_of(self) -> Iterator[Stretch]:
        """Those of each while it applies.

        If the deciding expression oscillates, the others grow equally in that time: they are expressions of it, or
        differ by it.
        """
        on, at, before, after = self._choice()
        for start, end, is_there in turns(on, at):
            if is_there is None:
                period = lcm(*[next(each.pieces(start))[0].period for each in (on, before, after)])
                stretch, _ = next(after.pieces(start))
                yield Stretch(start, period, stretch.growth * (period // stretch.period))
                continue
            for stretch, _ in (after if is_there else before).pieces(start):
                if end is None or stretch.start < end:
                    yield stretch


class Switch(_Choice):
    """One expression for fewer than `token` tokens, and another from there on."""

    __slots__ = ("token",)

    def __init__(self, token: int, before: Expression, after: Expression) -> None:
        self.operands = (TOKENS, before, after)
        self.token = token

    def _value(self, numbers: Sequence[Tokens]) -> Tokens:
        tokens, before, after = numbers
        return before + (after - before) * (tokens >= self.token)

    def bounds(self, first: int, last: int) -> tuple[int, int]:
        """Those of the one that applies; of both if the step may lie in between."""
        on, before, after = self.operands
        least, most = on.bounds(first, last)
        if most < self.token:
            return before.bounds(first, last)
        if least >= self.token:
            return after.bounds(first, last)
        (low, high), (other_low, other_high) = before.bounds(first, last), after.bounds(first, last)
        return min(low, other_low), max(high, other_high)

    def _choice(self) -> tuple[Expression, int, Expression, Expression]:
        on, before, after = self.operands
        return on, self.token, before, after


class AtMost(_Choice):
    """min(a, limit)."""

    __slots__ = ("limit",)

    def __init__(self, inner: Expression, limit: int) -> None:
        self.operands = (inner,)
        self.limit = limit

    def _value(self, numbers: Sequence[Tokens]) -> Tokens:
        (number,) = numbers
        return min(number, self.limit) if isinstance(number, int) else number.clip(max=self.limit)

    def _choice(self) -> tuple[Expression, int, Expression, Expression]:
        (inner,) = self.operands
        return inner, self.limit, inner, Constant(self.limit)


class Above(_Choice):
    """max(0, a - start)."""

    __slots__ = ("start",)

    def __init__(self, inner: Expression, start: int) -> None:
        self.operands = (inner,)
        self.start = start

    def _value(self, numbers: Sequence[Tokens]) -> Tokens:
        (number,) = numbers
        above = number - self.start
        return max(0, above) if isinstance(above, int) else above.clip(min=0)

    def _choice(self) -> tuple[Expression, int, Expression, Expression]:
        (inner,) = self.operands
        return inner, self.start, Constant(0), inner  # the part above grows like the whole


class Lower(_Choice):
    """min(a, b)."""

    __slots__ = ()

    def __init__(self, one: Expression, other: Expression) -> None:
        self.operands = (one, other)

    def _value(self, numbers: Sequence[Tokens]) -> Tokens:
        one, other = numbers
        return min(one, other) if isinstance(one, int) else one.clip(max=other)

    def _choice(self) -> tuple[Expression, int, Expression, Expression]:
        one, other = self.operands
        return one - other, 0, one, other


def floor_of(number: Tokens, times: int, per: int) -> Tokens:
    """floor(number * times / per); in Python ints if the product exceeds int64."""
    if isinstance(number, int) or times == 1 or not number.size:
        return number * times // per
    if times * max(int(number.max()), -int(number.min())) < _INT64_END:
        return number * times // per
    return (number.astype(object) * times // per).astype(number.dtype)
