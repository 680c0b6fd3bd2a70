"""What fits: the exact inverse of a size, by division. No search, no float."""

from __future__ import annotations

from kvcalc.sizing import Footprint


def max_tokens(footprint: Footprint, budget_bytes: int) -> int | None:
    """Most tokens t of one sequence with footprint.bytes(t) <= budget_bytes; None where every t fits.

    The footprint is linear between its kinks, so the answer lies on one known line: from the last kink that still
    fits, as many further tokens as the remaining bytes hold. 0 where not even one token fits.
    """
    start = 0
    for kink in footprint.kinks():
        if footprint.bytes(kink) > budget_bytes:
            break
        start = kink
    remaining_bytes = budget_bytes - footprint.bytes(start)
    if remaining_bytes < 0:
        return 0
    per_token = footprint.bytes(start + 1) - footprint.bytes(start)
    return start + remaining_bytes // per_token if per_token else None


def max_sequences(footprint: Footprint, tokens: int, budget_bytes: int) -> int:
    """Most sequences of `tokens` tokens each that fit budget_bytes together."""
    return max(0, budget_bytes) // footprint.bytes(tokens)
