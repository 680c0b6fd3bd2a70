"""Two pools in one memory: the split into states and tokens that holds the most users of a mix.

More states leave fewer tokens. Users by states grow with the states, users by tokens fall, and the maximum is where
they meet: found by bisection, with users by tokens estimated from mean and variance; then counted exactly.
"""

from __future__ import annotations

from typing import NamedTuple

from kvcalc.engines.base.plan import Plan
from kvcalc.engines.base.pools import PoolPlan
from kvcalc.errors import KvcalcError
from kvcalc.fleet.traffic import loads_of, most_users
from kvcalc.fleet.traffic.load import Load
from kvcalc.fleet.traffic.mix import Mix
from kvcalc.fleet.traffic.store import pooled_stores
from kvcalc.report.traffic import Balance


class _Point(NamedTuple):
    """Approximate users by tokens and by states, for a number of states."""

    states: int
    by_tokens: int
    by_states: int


def balance_of(plan: Plan, cache_bytes: int, mix: Mix) -> Balance | None:
    """States with which the most users fit cache_bytes on each rank; None for engines without a pool of states."""
    if not isinstance(plan, PoolPlan) or not plan.request_states:
        return None
    low, high = plan.request_states, _most_states(plan, cache_bytes)
    while high - low > 1:
        middle = (low + high) // 2
        point = _point(plan, middle, cache_bytes, mix)
        if point is not None and point.by_states < point.by_tokens:
            low = middle
        else:
            high = middle
    found = max((_balance(plan, states, cache_bytes, mix) for states in (low, high)), key=lambda each: each.users)
    return found if found.users else None


def _most_states(plan: PoolPlan, cache_bytes: int) -> int:
    """Most states that leave memory for a token."""
    low, high = plan.request_states, 2 * plan.request_states
    while _loads(plan, high, cache_bytes) is not None:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _loads(plan, middle, cache_bytes) is not None else (low, middle)
    return low


def _loads(plan: PoolPlan, states: int, cache_bytes: int, mix: Mix | None = None) -> tuple[Load, ...] | None:
    other = plan.with_states(states)
    try:
        if other is None or not other.pools_in(cache_bytes).tokens:
            return None
        return () if mix is None else loads_of(tuple(pooled_stores(other, cache_bytes)), mix)
    except KvcalcError:
        return None


def _point(plan: PoolPlan, states: int, cache_bytes: int, mix: Mix) -> _Point | None:
    loads = _loads(plan, states, cache_bytes, mix)
    if not loads:
        return None
    tokens, own, *_ = loads
    return _Point(states, tokens.users_about, own.users_about)


def _balance(plan: PoolPlan, states: int, cache_bytes: int, mix: Mix) -> Balance:
    loads = _loads(plan, states, cache_bytes, mix)
    setting = plan.states_setting(states, cache_bytes)
    tokens = 0 if not loads else loads[0].store.num_units
    return Balance(states, tokens, most_users(loads) if loads else 0, setting)
