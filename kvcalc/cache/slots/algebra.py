"""Expressions over t, the number of cached tokens, and what follows from their structure.

A primitive defines three things: its number for t tokens, how that repeats (`stretches`), and its `bounds`. All else is
derived here, once: kinks, period, most, saturation, and the inverse. Composed expressions derive them from their parts,
so that a size and its inverse cannot disagree.

Numbers are exact ints, or numpy's int64 arrays, without importing numpy here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import lcm
from operator import attrgetter
from typing import TYPE_CHECKING, ClassVar, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    import numpy as np
    from numpy.typing import NDArray

    from kvcalc.cache.slots.primitives import Sum

    Tokens = TypeVar("Tokens", int, NDArray[np.int64])
    """Token counts: one int, or an int64 array of them."""
    Bounds = Callable[[int, int], tuple[int, int]]

# as a class it would compile its annotations on import
Stretch = NamedTuple("Stretch", [("start", int), ("period", int), ("growth", int)])  # noqa: UP014
"""Token counts from `start` to the next stretch: each further `period` tokens add `growth`."""


class Expression:
    """An exact number for each t, and what follows from its structure.

    Expressions are values: equal if they have the same class and equal parts. (Dataclasses would add a tenth to the
    start-up time of a size.)
    """

    __slots__ = ("_hash", "_stretches")
    _hash: int
    _stretches: tuple[Stretch, ...]
    _fields: ClassVar[tuple[str, ...]] = ()
    _identity: ClassVar[attrgetter[object]]
    takes_all_for_prompt: bool = False
    """Whether a prompt is cut once, assuming all t tokens are prompt because its length is unknown."""

    def __init_subclass__(cls) -> None:
        cls._fields += tuple(cls.__dict__.get("__slots__", ()))
        cls._identity = attrgetter("__class__", *cls._fields)

    # ---- defined by each class

    def slots(self, tokens: Tokens) -> Tokens:
        """The number for `tokens` cached tokens."""
        raise NotImplementedError

    def in_step(self, tokens: int) -> int:
        """During the step after `tokens` tokens: with the new token added and none dropped yet."""
        raise NotImplementedError

    def bounds(self, first: int, last: int) -> tuple[int, int]:
        """Bounds of the numbers of first..last tokens; exact if first is last."""
        raise NotImplementedError

    def over(self, inner: Expression) -> Expression:
        """This expression applied to `inner`: their composition."""
        raise NotImplementedError

    def _made_of(self) -> Iterator[Stretch]:
        raise NotImplementedError

    # ---- derived

    @property
    def stretches(self) -> tuple[Stretch, ...]:
        """The first starts at 0 tokens, the last has no end. In each of them growth repeats."""
        try:
            return self._stretches
        except AttributeError:
            self._stretches = tuple(self._made_of())
            return self._stretches

    def pieces(self, start: int = 0) -> Iterator[tuple[Stretch, int | None]]:
        """Stretches from `start` on, with the token count after each; None for the last."""
        ends = [stretch.start for stretch in self.stretches[1:]]
        for stretch, end in zip(self.stretches, [*ends, None], strict=True):
            if end is None or end > start:
                yield stretch._replace(start=max(start, stretch.start)), end

    @property
    def kinks(self) -> tuple[int, ...]:
        """Token counts, ascending, after which the growth changes."""
        return tuple([stretch.start for stretch in self.stretches[1:]])

    @property
    def period(self) -> int:
        """Period of the growth, in tokens."""
        return lcm(*[stretch.period for stretch in self.stretches])

    def growth(self, tokens: int) -> int:
        """Growth per period from `tokens` tokens on, as if no window filled in between."""
        stretch, _ = next(self.pieces(tokens))
        return stretch.growth * (self.period // stretch.period)

    def most(self, tokens: int) -> int:
        """The largest number up to `tokens` tokens."""
        known = self.slots(0)
        for (start, period, growth), end in self.pieces():
            if start > tokens:
                break
            last = tokens if end is None else min(tokens, end - 1)
            if growth > 0:  # it was in the last period, or else in the first
                known = _highest(self.bounds, max(start, last - period + 1), last, max(known, self.slots(last)))
            else:
                known = _highest(self.bounds, start, min(last, start + period - 1), max(known, self.slots(start)))
        return known

    @property
    def saturates_at(self) -> int | None:
        """Tokens at which it saturates; 0 if it is constant, None if it never does."""
        start, period, growth = self.stretches[-1]
        return None if growth > 0 else self.first_above(self.most(start + period - 1) - 1)

    def first_above(self, limit: int) -> int | None:
        """Fewest tokens that need more than `limit`; None if none do."""
        found = (_first_above(self.bounds, limit, stretch, end) for stretch, end in self.pieces())
        return next((tokens for tokens in found if tokens is not None), None)

    # ---- arithmetic

    def __add__(self, other: Expression | int) -> Sum:
        from kvcalc.cache.slots.primitives import Sum

        return Sum((1, self), (1, other)) if isinstance(other, Expression) else Sum((1, self), plus=other)

    def __sub__(self, other: Expression | int) -> Sum:
        return self + (-other if isinstance(other, int) else -1 * other)

    def __rmul__(self, weight: int) -> Sum:
        from kvcalc.cache.slots.primitives import Sum

        return Sum((weight, self))

    # ---- values

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Expression) or hash(self) != hash(other):
            return False
        return self._identity(self) == self._identity(other)

    def __hash__(self) -> int:
        try:
            return self._hash
        except AttributeError:
            self._hash = hash(self._identity(self))
            return self._hash

    def __getstate__(self) -> tuple[None, dict[str, object]]:
        """State for another process: all but the hash, which differs there."""
        names = {name for kind in type(self).__mro__ for name in getattr(kind, "__slots__", ())} - {"_hash"}
        return None, {name: getattr(self, name) for name in sorted(names) if hasattr(self, name)}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(repr(getattr(self, name)) for name in self._fields)})"


class Operation(Expression):
    """An expression composed of operands: likewise in a step, for bounds, and in composition."""

    __slots__ = ("operands",)
    operands: tuple[Expression, ...]

    def _value(self, numbers: Sequence[Tokens]) -> Tokens:
        """The number, given the operands' `numbers`."""
        raise NotImplementedError

    def slots(self, tokens: Tokens) -> Tokens:
        """By the slots of the operands."""
        return self._value([operand.slots(tokens) for operand in self.operands])

    def in_step(self, tokens: int) -> int:
        """By the operands' numbers during the step."""
        return self._value([operand.in_step(tokens) for operand in self.operands])

    def bounds(self, first: int, last: int) -> tuple[int, int]:
        """By the operands' bounds, for expressions that rise with each operand."""
        each = [operand.bounds(first, last) for operand in self.operands]
        return self._value([least for least, _ in each]), self._value([most for _, most in each])

    def over(self, inner: Expression) -> Expression:
        """The same of the operands composed with `inner`."""
        made = object.__new__(type(self))
        for name in self._fields:
            setattr(made, name, getattr(self, name))
        made.operands = tuple([operand.over(inner) for operand in self.operands])
        return made

    @property
    def takes_all_for_prompt(self) -> bool:  # type: ignore[override]  # an expression of t answers with a constant
        """Whether any operand does."""
        return any(operand.takes_all_for_prompt for operand in self.operands)


def together(expressions: Sequence[Expression]) -> Iterator[tuple[int, list[Stretch]]]:
    """Starts of the stretches of several expressions, with the stretch of each from there on."""
    starts = {stretch.start for expression in expressions for stretch in expression.stretches}
    for start in sorted(starts):
        yield start, [next(expression.pieces(start))[0] for expression in expressions]


def turns(on: Expression, at: int) -> Iterator[tuple[int, int | None, bool | None]]:
    """Where an expression is `at` or more: stretches of token counts, with their ends, in which it is (True) or not.

    None for a stretch in which it alternates; there it repeats the same numbers each period.
    """
    for (start, period, growth), end in on.pieces():
        if growth == 0:
            low, high = _extremes(on, start, start + period - 1 if end is None else min(end, start + period) - 1)
            yield start, end, None if low < at <= high else low >= at
            continue
        here: int | None = start
        while here is not None:
            is_there = on.slots(here) >= at
            search, limit = (_first_below, at) if is_there else (_first_above, at - 1)
            turn = search(on.bounds, limit, Stretch(here, period, growth), end)
            yield here, end if turn is None else turn, is_there
            here = turn


def _extremes(on: Expression, first: int, last: int) -> tuple[int, int]:
    """Least and most in first..last."""
    ends = on.slots(first), on.slots(last)
    return -_highest(_negative(on.bounds), first, last, -min(ends)), _highest(on.bounds, first, last, max(ends))


def _negative(bounds: Bounds) -> Bounds:
    def negative(first: int, last: int) -> tuple[int, int]:
        least, most = bounds(first, last)
        return -most, -least

    return negative


def _first_below(bounds: Bounds, limit: int, stretch: Stretch, end: int | None) -> int | None:
    return _first_above(_negative(bounds), -limit, stretch._replace(growth=-stretch.growth), end)


def _first_above(bounds: Bounds, limit: int, stretch: Stretch, end: int | None) -> int | None:
    """First token count of a stretch, before `end`, with more than `limit`; None if there is none.

    Found by division down to the period, and by bisection in it. Without growth it is in the first period or nowhere.
    """
    first, period, growth = stretch
    last = first + period - 1
    if growth > 0:
        least, most = bounds(first, last)
        last = first + max(0, (limit - least) // growth + 1) * period  # from here on, all have more
        first += max(0, (limit - most) // growth + 1) * period  # before this, none has
    if end is not None:
        last = min(last, end - 1)
    return _search(bounds, limit, first, last) if first <= last else None


def _search(bounds: Bounds, limit: int, first: int, last: int) -> int | None:
    """First of first..last with more than limit."""
    least, most = bounds(first, last)
    if most <= limit:
        return None
    if least > limit:
        return first
    middle = (first + last) // 2
    found = _search(bounds, limit, first, middle)
    return _search(bounds, limit, middle + 1, last) if found is None else found


def _highest(bounds: Bounds, first: int, last: int, known: int) -> int:
    """Most of first..last, or `known` if that is more."""
    least, most = bounds(first, last)
    if most <= known:
        return known
    if least == most:
        return most
    middle = (first + last) // 2
    return _highest(bounds, first, middle, _highest(bounds, middle + 1, last, known))
