"""Requests in pools of pages, whose sizes an engine derives from the available memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from kvcalc.cache.dtypes import BF16, Dtype
from kvcalc.engines.base.footprint import Footprint
from kvcalc.engines.base.plan import least
from kvcalc.errors import InvalidValueError, NotApplicableError

if TYPE_CHECKING:
    from kvcalc.report.pool import PoolReport

STATES = "states"
"""Name of the pool of recurrent states."""
_PLENTY_BYTES = 2**50
"""Memory with which every engine starts, if it starts at all."""


class Pools(NamedTuple):
    """Sizes of an engine's pools: tokens, concurrent requests, and states if any.

    has_several: whether tokens are in several pools.
    """

    tokens: int
    requests: int | None
    states: int = 0
    has_several: bool = False


class PoolPlan(ABC):
    """Users in whole pages of an engine's pools.

    A user's part of a window pool is not counted: the engine sizes that pool itself. held: bytes of a sequence on a
    rank of each pipeline stage, in whole pages. page: tokens of a page. request_states: states that a running request
    may hold; session_states: that stay cached after it. keeps_prefixes: whether common prefixes are held once, and kept
    afterwards.
    """

    request_states = session_states = 0
    keeps_prefixes = True

    def __init__(self, held: tuple[Footprint, ...], page: int) -> None:
        self.held = held
        self.page = page
        self._known: dict[int, Pools] = {}

    @property
    def max_model_len(self) -> None:
        """None: no limit."""
        return

    @property
    def speaks_for_engine(self) -> bool:
        """No: the engine's notes describe its pools."""
        return False

    def needed(self, tokens: int, sequences: int) -> tuple[int, ...]:
        """Bytes of their pages, on each stage."""
        return tuple(sequences * stage.bytes(tokens) for stage in self.held)

    def needed_at_least(self, tokens: int, sequences: int) -> int:
        """Unknown before the memory is."""
        del tokens, sequences
        return 0

    def fits(self, tokens: int, sequences: int, cache_bytes: int) -> bool:
        """Whether the pools hold them."""
        most = self.max_sequences(tokens, cache_bytes)
        return most is None or sequences <= most

    def max_tokens(self, sequences: int, cache_bytes: int) -> int | None:
        """Tokens of the pools divided evenly, in whole pages."""
        pools = self.pools_in(cache_bytes)
        if pools.requests is not None and sequences > pools.requests:
            return 0
        return pools.tokens // self.page // sequences * self.page

    def max_sequences(self, tokens: int, cache_bytes: int) -> int | None:
        """Pages of the pools divided by a user's, limited by the engine's concurrent requests."""
        pools = self.pools_in(cache_bytes)
        return least([pools.tokens // self.page // -(-tokens // self.page), pools.requests])

    def blocks(self, tokens: int | None, cache_bytes: int) -> None:
        """None: pools have pages of several sizes."""
        del tokens, cache_bytes

    def with_states(self, states: int) -> PoolPlan | None:
        """The same with this number of states; None if the engine has no pool of states."""
        del states
        return None

    def states_setting(self, states: int, cache_bytes: int) -> tuple[str, float] | None:
        """The engine's setting for this number of states in cache_bytes on a rank, and its value."""
        del states, cache_bytes
        return None

    @abstractmethod
    def fit(self, available_bytes: Sequence[int], longest: int | None = None) -> PoolReport:
        """The engine's own report of this much memory on a rank of each stage."""

    def pools_in(self, cache_bytes: int) -> Pools:
        """Pools in cache_bytes on each rank."""
        if cache_bytes not in self._known:
            self._known[cache_bytes] = self._planned(max(0, cache_bytes))
        return self._known[cache_bytes]

    def _planned(self, cache_bytes: int) -> Pools:
        """Pools in this memory; empty if the engine needs more memory to start."""
        stages = len(self.held)
        try:
            report = self.fit((cache_bytes,) * stages)
        except NotApplicableError:
            self.fit((_PLENTY_BYTES,) * stages)
            return Pools(0, None)
        states = [pool.slots for pools in report.stages for pool in pools if pool.name == STATES]
        several = any(sum(pool.name != STATES for pool in pools) > 1 for pools in report.stages)
        return Pools(report.tokens, report.max_requests, min(states, default=0), several)


def check_own_format(engine: str, kv_dtype: Dtype, setting: str) -> None:
    """Raises InvalidValueError if kv_dtype is set where a setting of the engine decides the format."""
    if kv_dtype != BF16:
        raise InvalidValueError(
            f"the format of {engine}'s pools is a setting of the engine, which kv_dtype ({kv_dtype}) does not change",
            field="kv_dtype",
            help=f"set the engine's {setting} instead of kv_dtype",
        )
