"""A stand-in for what a model learned: decisions of heads at the regular intervals of a ratio."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from kvcalc.model import MethodArguments
from kvcalc.verify.policies._ragged import alike


def stays(position: int, ratio: Fraction) -> bool:
    """Whether the token at a position has its own slot: the first of each `ratio` tokens."""
    return -(-(position + 1) // ratio) > -(-position // ratio)


def ratios_of_heads(arguments: MethodArguments, name: str, heads: int) -> Sequence[tuple[Fraction, str, list[int]]]:
    """Ratios, what the tensors of their heads are called by, and those heads."""
    own = arguments["head_cr"] or [arguments[name]] * heads
    together = alike([Fraction(str(ratio)) for ratio in own])
    return [(ratio, f"_cr{ratio}" if len(together) > 1 else "", some) for ratio, some in together.items()]
