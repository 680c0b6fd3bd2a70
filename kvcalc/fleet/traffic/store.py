"""What engines allocate to requests: blocks or pages of a pool, or plain bytes.

    a replayed scheduler            blocks in its tables at each step
    an engine that plans blocks    its planner's count for a request of as many tokens
    an engine with pools           pages of the token pool, states, and the engine's limit of requests
    any other                      bytes, in steps of a token's bytes

The first of an engine's stores is the one that grows with tokens; the others limit it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from math import gcd

from kvcalc.cache.dtypes import Dtype
from kvcalc.engines import Engine
from kvcalc.engines.base.blocks import BlockPlan
from kvcalc.engines.base.plan import Plan
from kvcalc.engines.base.pools import STATES, PoolPlan
from kvcalc.engines.base.traffic import Replayer, Scheduler
from kvcalc.errors import NotApplicableError
from kvcalc.fleet.demand import BytePlan
from kvcalc.model import Model
from kvcalc.parallel import Parallel
from kvcalc.units import plural

REQUESTS = "requests"
TOKEN = "token"
_MOST_UNITS = 1 << 20
"""Most units of a store of bytes; beyond that users are counted in larger units, rounded up."""
_SAMPLES = 512
_WHOLE = "a user holds what {title} plans for a request of as many tokens; memory freed in between is not counted"
_PAGES = "users are counted by the tokens of the largest pool; a window pool may limit them further"
_STATES = "a session between two requests keeps at least one state; one is counted"
_PREFIXES = "shared prefixes are counted with each user"
_ROUNDED = "each user's memory is rounded up to {unit}"


def _none(*_tokens: int) -> int:
    return 0


@dataclass(frozen=True)
class Store:
    """A shared store, in units. name: plural of the unit; unit: singular.

    held: units of a request while it generates, by the tokens written; shared: of these, what requests with this many
    equal first tokens have in common; kept: of a session between two requests, by its prompt and all tokens written.
    shared_tokens, kept_tokens: the same, by how many tokens those hold. longest: tokens at which every request ends.
    spare: units that requests never get. note: what is assumed, idle_note, prefix_note: of idle sessions and of shared
    prefixes.
    """

    name: str
    unit: str
    num_units: int
    unit_bytes: int
    held: Callable[[int], int]
    shared: Callable[[int], int] = _none
    kept: Callable[[int, int], int] = _none
    longest: int | None = None
    spare: int = 0
    note: str = ""
    idle_note: str = ""
    prefix_note: str = ""
    shared_tokens: Callable[[int], int] = _none
    kept_tokens: Callable[[int, int], int] = _none

    @property
    def in_tokens(self) -> Store:
        """What is held of it, counted in tokens, of which there are any number."""
        return Store(
            "tokens",
            TOKEN,
            0,
            0,
            lambda tokens: tokens,
            self.shared_tokens,
            self.kept_tokens,
            longest=self.longest,
        )


def stores_of_scheduler(scheduler: Scheduler) -> tuple[Store, ...]:
    """Blocks of a scheduler's tables, and concurrent requests."""
    blocks = Store(
        "blocks",
        "block",
        scheduler.num_blocks,
        scheduler.block_bytes,
        scheduler.held_blocks,
        scheduler.shared_blocks,
        scheduler.kept_blocks,
        scheduler.max_model_len,
        spare=1,
        shared_tokens=scheduler.shared_tokens,
        kept_tokens=scheduler.kept_tokens,
    )
    return blocks, _requests(scheduler.max_requests)


def stores_of(
    model: Model, engine: Engine, kv_dtype: Dtype, parallel: Parallel, plan: Plan, cache_bytes: int
) -> tuple[Store, ...]:
    """The stores of a replica's ranks, with cache_bytes on each.

    Raises NotApplicableError for an engine with one context for all users.
    """
    cache_bytes = max(0, cache_bytes)
    alone = (parallel.pp, parallel.dcp) == (1, 1)
    if isinstance(engine, Replayer) and engine.version == engine.REPLAYED and alone:
        return _scheduled(model, engine, kv_dtype, parallel, plan, cache_bytes)
    if isinstance(plan, BlockPlan):
        return tuple(_planned(engine, plan, cache_bytes))
    if isinstance(plan, PoolPlan):
        return tuple(pooled_stores(plan, cache_bytes))
    if isinstance(plan, BytePlan):
        return (_plain(plan, cache_bytes),)
    raise NotApplicableError(
        f"{engine.TITLE} has one context for all users, so a mix of lengths cannot be counted",
        help="use another engine, or a single length",
    )


def _requests(most: int) -> Store:
    return Store(REQUESTS, "request", most, 0, lambda _tokens: 1)


def _scheduled(
    model: Model, engine: Engine, kv_dtype: Dtype, parallel: Parallel, plan: Plan, cache_bytes: int
) -> tuple[Store, ...]:
    assert isinstance(engine, Replayer)
    blocks = plan.blocks(None, cache_bytes)
    assert blocks is not None  # it has a block scheduler
    return stores_of_scheduler(engine.scheduler(model, kv_dtype, {}, max(1, blocks.num_blocks), parallel))


def _planned(engine: Engine, plan: BlockPlan, cache_bytes: int) -> Iterator[Store]:
    held = cache(plan.request_blocks)
    usable = plan.usable_blocks(cache_bytes)
    yield Store(
        "blocks",
        "block",
        usable,
        max(plan.block_bytes),
        held,
        kept=lambda _prompt, tokens: held(tokens),
        kept_tokens=lambda _prompt, tokens: tokens,
        longest=plan.max_model_len,
        spare=plan.spare_blocks,
        note=_WHOLE.format(title=engine.TITLE),
        prefix_note=_PREFIXES,
    )
    if plan.max_requests is not None:
        yield _requests(plan.max_requests)


def pooled_stores(plan: PoolPlan, cache_bytes: int) -> Iterator[Store]:
    """Pages of the token pool, states if they have a pool, and concurrent requests."""
    page, pools = plan.page, plan.pools_in(cache_bytes)

    def whole_pages(tokens: int) -> int:
        return tokens // page

    yield Store(
        "pages" if page > 1 else "tokens",
        "page" if page > 1 else TOKEN,
        pools.tokens // page,
        max(stage.bytes(2 * page) - stage.bytes(page) for stage in plan.held),
        lambda tokens: -(-tokens // page),
        whole_pages if plan.keeps_prefixes else _none,
        lambda _prompt, tokens: whole_pages(tokens) if plan.keeps_prefixes else 0,
        shared_tokens=lambda tokens: whole_pages(tokens) * page if plan.keeps_prefixes else 0,
        kept_tokens=lambda _prompt, tokens: whole_pages(tokens) * page if plan.keeps_prefixes else 0,
        prefix_note="" if plan.keeps_prefixes else _PREFIXES,
        note=_PAGES if pools.has_several else "",
    )
    if plan.request_states:
        yield Store(
            STATES,
            "state",
            pools.states,
            max(2 * stage.bytes(page) - stage.bytes(2 * page) for stage in plan.held) // plan.request_states,
            lambda _tokens: plan.request_states,
            kept=lambda _prompt, _tokens: plan.session_states,
            idle_note=_STATES,
        )
    if pools.requests is not None:
        yield _requests(pools.requests)


def _plain(plan: BytePlan, cache_bytes: int) -> Store:
    def needed(tokens: int) -> int:
        return max(plan.needed(tokens, 1))

    longest = plan.max_model_len
    exact = max(1, _common(needed(tokens) for tokens in range(1, 1 + min(_SAMPLES, longest or _SAMPLES))))
    unit = exact if cache_bytes // exact <= _MOST_UNITS else -(-cache_bytes // _MOST_UNITS)

    @cache
    def held(tokens: int) -> int:
        return -(-needed(tokens) // unit)

    return Store(
        "units",
        "unit",
        cache_bytes // unit,
        unit,
        held,
        kept=lambda _prompt, tokens: held(tokens),
        kept_tokens=lambda _prompt, tokens: tokens,
        longest=longest,
        prefix_note=_PREFIXES,
        note="" if unit == exact else _ROUNDED.format(unit=plural(unit, "byte")),
    )


def _common(numbers: Iterable[int]) -> int:
    found = 0
    for number in numbers:
        found = gcd(found, number)
    return found
