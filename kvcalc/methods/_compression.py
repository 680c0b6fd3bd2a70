"""Heads whose model learned to keep one token of so many: their compression ratios, and the shares of them."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import lcm

from kvcalc.errors import InvalidValueError
from kvcalc.units import positive_int, shown

_MOST, _QUARTERS = 64, 4
_MOST_TOGETHER = 128
"""Tokens after which heads of several ratios meet again. How many tokens fit is found by trying so many blocks."""


def compression(value: float | Fraction, field: str) -> Fraction:
    """Tokens for each that is kept, exact. Raises InvalidValueError for one that is not from 1 to 64, or too fine."""
    ratio = Fraction(str(value))
    if 1 <= ratio <= _MOST and _QUARTERS % ratio.denominator == 0:
        return ratio
    raise InvalidValueError(
        f"{field} must be from 1 to {_MOST} in quarters, not {shown(float(ratio))}",
        field=field,
        help=f"write {field}=4",
    )


def compression_of_heads(value: float | Fraction, head_cr: Sequence[int], field: str, heads: int) -> list[Fraction]:
    """The ratio of each head: `value` for all, or those of head_cr.

    Raises InvalidValueError for a list of another length, or ratios that never meet again.
    """
    if not head_cr:
        return [compression(value, field)] * heads
    if len(head_cr) != heads:
        raise InvalidValueError(
            f"head_cr has {len(head_cr)} numbers, and a layer has {heads} KV heads",
            field="head_cr",
            help="give one for each head, or none",
        )
    if (together := lcm(*(positive_int(ratio, "head_cr", most=_MOST) for ratio in head_cr))) > _MOST_TOGETHER:
        raise InvalidValueError(
            f"head_cr has ratios that meet again after {together:,} tokens only, and {_MOST_TOGETHER:,} are the most",
            field="head_cr",
            help="give powers of two, such as 2+4+8+16",
        )
    return [Fraction(ratio) for ratio in head_cr]


def suffix_of(ratio: Fraction, ratios: Sequence[Fraction]) -> str:
    """What tensors of the heads of a ratio are called by after their name, where there are others."""
    return f"_cr{ratio}" if len(set(ratios)) > 1 else ""
