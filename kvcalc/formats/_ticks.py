"""Ticks of an axis and their labels: round numbers in suitable units."""

from __future__ import annotations

from typing import NamedTuple

from kvcalc.report.chart import BYTES, SHARE, TOKENS, Axis, Number
from kvcalc.units import short_share, short_tokens

_STEPS = (1, 2, 5)
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_KILO = 1024
_LEAST_RANGE = 2
"""Least factor spanned by a log axis."""
_IN_DOUBLINGS = (BYTES, TOKENS)
"""Units that people count in powers of two; any other is counted in powers of ten."""
_TENTHS = 10


class Tick(NamedTuple):
    """A number on an axis, and its label."""

    value: Number
    label: str


class Scale(NamedTuple):
    """The range of an axis, with its ticks."""

    low: Number
    high: Number
    ticks: tuple[Tick, ...]


def scale_of(axis: Axis, least: Number, most: Number, room: int) -> Scale:
    """The range of an axis for numbers from `least` to `most`, with about `room` ticks at most."""
    if axis.unit == SHARE:
        return Scale(0, 1, _shares(room))
    if not axis.log:
        ticks = _linear(axis, int(most), room)
        return Scale(0, max(most, 1), ticks)
    low, high = max(1, int(least)), max(int(most), _LEAST_RANGE * max(1, int(least)))
    values = _doublings(low, high, room) if axis.unit in _IN_DOUBLINGS else _decades(low, high, room)
    return Scale(low, high, tuple(Tick(value, _label(axis, value)) for value in values))


def _label(axis: Axis, value: int) -> str:
    if axis.unit == BYTES:
        return binary(value)
    return short_tokens(value) if axis.unit == TOKENS else f"{value:,}"


def _shares(room: int) -> tuple[Tick, ...]:
    """From none to all, in tenths or in fifths."""
    step = 1 if room >= _TENTHS else 2
    return tuple(Tick(tenth / _TENTHS, short_share(tenth / _TENTHS)) for tenth in range(0, _TENTHS + 1, step))


def binary(value: int) -> str:
    """`1073741824` as `1 GiB`: a whole number of the largest binary unit, or rounded to two digits."""
    power = 0
    while power + 1 < len(_UNITS) and value >= _KILO ** (power + 1):
        power += 1
    whole, rest = divmod(value, _KILO**power)
    return f"{value / _KILO**power:.4g} {_UNITS[power]}" if rest else f"{whole:,} {_UNITS[power]}"


def _doublings(low: int, high: int, room: int) -> list[int]:
    """Powers of two in a range, every one or every second, third and so on."""
    first, last = (low - 1).bit_length(), high.bit_length() - 1
    step = max(1, -(-(last - first + 1) // max(2, room)))
    start = last - (last - first) // step * step if last >= first else last
    return [2**power for power in range(start, last + 1, step)] or [low, high]


def _decades(low: int, high: int, room: int) -> list[int]:
    """1, 2, 5 times powers of ten in a range; only powers of ten if those are too many."""
    found = [step * 10**power for power in range(len(str(high))) for step in _STEPS]
    inside = [value for value in found if low <= value <= high]
    return inside if len(inside) <= room else [value for value in inside if str(value).strip("0") == "1"]


def _linear(axis: Axis, most: int, room: int) -> tuple[Tick, ...]:
    """Equal steps from zero, round in the unit."""
    unit = 1
    if axis.unit in _IN_DOUBLINGS:
        while unit * _KILO <= most:
            unit *= _KILO
    step = _even(most, unit, room, doublings=axis.unit == TOKENS)
    return tuple(Tick(value, _label(axis, value)) for value in range(0, most + 1, step))


def _even(most: int, unit: int, room: int, *, doublings: bool) -> int:
    """The smallest round step of a unit with at most `room` ticks."""
    if doublings:
        step = 1
        while most // step > room:
            step *= 2
        return step
    power = 1
    while True:
        for factor in _STEPS:
            step = factor * power * unit
            if most // step <= room:
                return step
        power *= 10
