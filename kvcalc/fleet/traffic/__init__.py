"""How many users a pool holds when requests differ in length.

workload       lengths of requests
mix            behaviour of users: requests, shared prefixes, idle time
store          units that an engine allocates to requests
load           units that users of a mix hold of a store
distribution   units of all users together, by convolution
served         users of a pool, of any engine
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction

from kvcalc.engines import Engine
from kvcalc.fleet.traffic.load import Load
from kvcalc.fleet.traffic.mix import Mix
from kvcalc.fleet.traffic.store import TOKEN, Store
from kvcalc.model import Model
from kvcalc.report.traffic import ByUsers, TrafficReport, Use

_ASSUMED = "users are independent of each other, and each starts its next request when one ends; prefill takes no time"
_IDLE = (
    "users are independent of each other; an idle session keeps what its next request continues from, and is idle as "
    "long after a short request as after a long one; prefill takes no time"
)
_OF_A_CURVE = (*(Fraction(part, 20) for part in range(1, 20)), Fraction(99, 100), Fraction(999, 1000))
"""Shares of the time at which a distribution says what is held."""
_SHOWN = (("p50", Fraction(1, 2)), ("p90", Fraction(9, 10)), ("p99", Fraction(99, 100)))


def loads_of(stores: Sequence[Store], mix: Mix) -> tuple[Load, ...]:
    """The load of a mix on each store. Raises InvalidValueError for a mix that the engine would refuse."""
    mix.check(stores[0].longest)
    return tuple(Load(store, mix) for store in stores)


def most_users(loads: Sequence[Load]) -> int:
    """Users that every store holds for the quantile of the time."""
    return min(load.users for load in loads)


def notes_of(stores: Sequence[Store], mix: Mix) -> tuple[str, ...]:
    """Assumptions about stores, and about idle sessions and shared prefixes if any."""
    found = [store.note for store in stores]
    found += [store.idle_note for store in stores if mix.active < 1]
    found += [store.prefix_note for store in stores if mix.prefixes.longest]
    return tuple(filter(None, found))


def users_of(model: Model, engine: Engine, stores: Sequence[Store], mix: Mix) -> TrafficReport:
    """Users that fit without preemption for a share of the time, next to the answer for a single length.

    Raises InvalidValueError for a mix that the engine would refuse.
    """
    loads = loads_of(stores, mix)
    first, store, workload = loads[0], stores[0], mix.workload
    users, one = most_users(loads), first.units
    tokens = first if store.unit == TOKEN else Load(store.in_tokens, mix)
    return TrafficReport(
        model=model.name,
        engine=engine.name,
        engine_version=engine.release_words,
        workload=mix.described,
        quantile=mix.quantile,
        unit=store.unit,
        num_blocks=store.num_units,
        block_bytes=store.unit_bytes,
        prefix_blocks=first.prefix_units,
        users=users,
        next_share=min(load.share(users + 1) for load in loads) if first.has_room else None,
        mean_blocks=one.mean,
        most_blocks=one.most,
        first_blocks=store.held(1),
        mean_tokens=workload.mean_tokens,
        user_blocks=tuple((name, one.quantile(1, share) or 0) for name, share in _SHOWN),
        all_blocks=tuple((name, one.quantile(users, share) if users else 0) for name, share in _SHOWN),
        expected_tokens=tokens.prefix_units + users * tokens.units.mean,
        user_tokens=tuple(_named_quantiles(tokens, 1, own=True)),
        held_tokens=tuple(_named_quantiles(tokens, users)),
        users_at_most=first.users_at_most,
        users_at_mean=first.users_at_mean,
        uses=tuple(_use(load) for load in loads),
        notes=(_IDLE if mix.active < 1 else _ASSUMED, *notes_of(stores, mix), *_rounded(tokens, users)),
        distribution=tuple(_distribution(first, users)),
        by_users=tuple(_by_users(first, users)),
    )


def _named_quantiles(load: Load, users: int, *, own: bool = False) -> Iterator[tuple[str, int]]:
    """Units of this many users and their prefixes, by quantile. own: without the prefixes."""
    shares = [share for _, share in _SHOWN]
    if load.store.unit_bytes:  # a pool of tokens, whose quantiles end at its size
        of_pool = [load.units.quantile(users, share) if users else 0 for share in shares]
        found = [load.prefix_units + (load.units.num_blocks if each is None else each) for each in of_pool]
    else:
        found = load.quantiles(users, shares) if users else [load.prefix_units for _ in shares]
    for (name, _), units in zip(_SHOWN, found, strict=True):
        yield name, units - own * load.prefix_units


def _rounded(tokens: Load, users: int) -> Iterator[str]:
    step = 1 if tokens.store.unit_bytes else tokens.rounded_to(users, _SHOWN[-1][1])
    if step > 1:
        yield f"tokens of all are counted with those of each user rounded up to {step}"


def _distribution(load: Load, users: int) -> Iterator[tuple[Fraction, int]]:
    """Units that suffice for shares of the time, up to the pool."""
    shares = sorted({*_OF_A_CURVE, load.mix.quantile}) if users else []
    for share, units in zip(shares, load.units.quantiles(users, shares), strict=True):
        if units is not None:
            yield share, load.prefix_units + units


def _by_users(load: Load, users: int) -> Iterator[ByUsers]:
    """What numbers of users hold: 1, 2, 3, 4, 6, 8 ... and each that is an answer, up to the largest of these."""
    answers = {users, load.users, load.users_at_most, load.users_at_mean} - {0}
    answers = answers or {1}
    last = max(answers)
    steps = {step * 2**power for power in range(last.bit_length()) for step in (1, 3)}
    mean, most = load.held_at_mean, load.units.most
    for number in sorted({step for step in steps if step <= last} | answers):
        held = load.units.quantile(number, load.mix.quantile) if number <= load.users else None
        fixed = load.prefix_units
        yield ByUsers(number, None if held is None else fixed + held, fixed + number * mean, fixed + number * most)


def _use(load: Load) -> Use:
    store = load.store
    return Use(store.name, store.num_units, store.unit_bytes, load.units.mean, store.held(1), load.users)
