"""What fits: the exact inverse of a size, by division to a period and by halving inside of it. No float."""

from __future__ import annotations

from kvcalc.footprint import Footprint


def max_tokens(footprint: Footprint, budget_bytes: int) -> int | None:
    """Most tokens t such that no sequence of up to t tokens takes more than budget_bytes; None where every t does.

    0 where not even one token fits.
    """
    too_many = footprint.first_above(budget_bytes)
    return None if too_many is None else max(0, too_many - 1)


def max_sequences(footprint: Footprint, tokens: int, budget_bytes: int) -> int | None:
    """Most sequences of `tokens` tokens each that fit budget_bytes together; None where they take nothing."""
    bytes_each = footprint.bytes(tokens)
    return max(0, budget_bytes) // bytes_each if bytes_each else None
