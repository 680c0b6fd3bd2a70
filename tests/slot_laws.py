"""What must hold for every expression over t, held against counting."""

from __future__ import annotations

from itertools import accumulate

import numpy as np

UP_TO = 300
"""Tokens that are counted one by one."""


def check(rule, up_to: int = UP_TO) -> None:
    """Raises AssertionError where a rule says what counting does not find."""
    slots = [rule.slots(tokens) for tokens in range(up_to)]
    assert rule.slots(np.arange(up_to)).tolist() == slots, "vectorised == scalar"
    assert rule.kinks == tuple(sorted(set(rule.kinks)))
    assert all(kink > 0 for kink in rule.kinks)
    check_growth(rule, slots)
    most = list(accumulate(slots, max))
    assert [rule.most(tokens) for tokens in range(0, up_to, 7)] == most[::7], "most is the most so far"
    check_end(rule, slots)
    for limit in {
        -1,
        0,
        *range(min(slots), max(slots) + 1, 1 + (max(slots) - min(slots)) // 40),
        *slots[: up_to : 1 + up_to // 20],
    }:
        found = next((tokens for tokens, number in enumerate(slots) if number > limit), None)
        first = rule.first_above(limit)
        assert first == found or (found is None and (first is None or first >= up_to)), f"first above {limit}"
        if first is not None:
            assert rule.slots(first) > limit >= rule.most(max(0, first - 1)) or first == 0


def check_growth(rule, slots) -> None:
    """Between two kinks, what a period adds is the same wherever it starts."""
    for (start, period, growth), end in rule.pieces():
        last = len(slots) if end is None else min(end, len(slots))
        assert all(slots[t + period] - slots[t] == growth for t in range(start, last - period))
        assert rule.growth(start) == growth * (rule.period // period)
        assert rule.growth(start) == rule.slots(start + rule.period) - rule.slots(start) or end is not None


def check_end(rule, slots) -> None:
    """From where it saturates on there is never more, and before there was less."""
    end, last = rule.saturates_at, rule.stretches[-1]
    if end is None:
        assert rule.slots(last.start + last.period) > rule.slots(last.start)
        return
    assert rule.slots(end) == rule.most(end) == rule.most(10**9)
    assert end == 0 or rule.most(end - 1) < rule.slots(end)
    assert max(slots) <= rule.slots(end)
