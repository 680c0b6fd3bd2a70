"""What fits: the exact inverse of a size, by division. No search, no float."""

from __future__ import annotations

from kvcalc.footprint import Footprint


def max_tokens(footprint: Footprint, budget_bytes: int) -> int | None:
    """Most tokens t such that no sequence of up to t tokens takes more than budget_bytes; None where every t does.

    Between two kinks the footprint adds the same bytes with each period of tokens, so the first token that does not
    fit lies on one of `period` known lines: by division. 0 where not even one token fits.
    """
    for start, end in footprint.stretches():
        first_too_much = _first_above(footprint, start, end, budget_bytes)
        if first_too_much is not None:
            return max(0, first_too_much - 1)
    return None


def max_sequences(footprint: Footprint, tokens: int, budget_bytes: int) -> int | None:
    """Most sequences of `tokens` tokens each that fit budget_bytes together; None where they take nothing."""
    bytes_each = footprint.bytes(tokens)
    return max(0, budget_bytes) // bytes_each if bytes_each else None


def _first_above(footprint: Footprint, start: int, end: int | None, budget_bytes: int) -> int | None:
    """Smallest t in start..end - 1 (no end: any t from start on) with more than budget_bytes, or None."""
    period = footprint.period
    lines = range(start, start + period if end is None else min(start + period, end))
    repeats = end is None or end - start > period
    growth = footprint.bytes(start + period) - footprint.bytes(start) if repeats else 0
    found = []
    for token in lines:
        spare_bytes = budget_bytes - footprint.bytes(token)
        if spare_bytes < 0:
            found.append(token)
        elif growth > 0:
            found.append(token + (spare_bytes // growth + 1) * period)
    return min((token for token in found if end is None or token < end), default=None)
