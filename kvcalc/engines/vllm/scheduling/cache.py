"""The cache of a run: its pool, the tables of its groups, and when a request gets its blocks.

Source: vLLM, v1/core/kv_cache_manager.py (allocate_slots), kv_cache_coordinator.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import lcm

from kvcalc.engines.vllm.scheduling.pool import NULL, Block, Pool
from kvcalc.engines.vllm.scheduling.prefixes import Hit, kinds_of, longest_prefix
from kvcalc.engines.vllm.scheduling.sequence import Sequence as Running
from kvcalc.engines.vllm.scheduling.states import AlignedStateTable
from kvcalc.engines.vllm.scheduling.tables import Reach, Table, Wanted


class Cache:
    """Blocks of all groups. watermark_blocks: blocks that an admission leaves free if others run."""

    def __init__(
        self, pool: Pool, tables: Sequence[Table], alike: Sequence[int], reach: Reach, most_tokens: int, watermark: int
    ) -> None:
        self.pool = pool
        self.tables = tuple(tables)
        self.reach = reach
        self.kinds = kinds_of(tables, alike, reach)
        self.most_tokens = most_tokens
        self.watermark_blocks = watermark
        self.aligned = tuple(table for table in tables if isinstance(table, AlignedStateTable))
        self._eventful = _eventful(self.tables)
        self._copied: list[Block] = []
        self._no_hit = Hit(tuple([] for _ in tables), 0, 0)

    def is_quiet(self, computed: int) -> bool:
        """Whether one more token changes no table, for a request that has generated one token a step for some steps."""
        return not self._eventful[computed % len(self._eventful)]

    def start_step(self) -> None:
        """States of the previous step may be hit now."""
        for table in self.aligned:
            table.fresh.clear()

    def end_scheduling(self) -> None:
        """Copies of shared blocks are under way: blocks held for them are released."""
        if self._copied:
            self.pool.release(self._copied)
            self._copied = []

    def find(self, request: Running) -> Hit:
        """The request's cached prefix: at most all but its last token."""
        if not self.reach.keeps_prefixes:
            return self._no_hit
        return longest_prefix(self.kinds, request, request.known - 1, self.reach)

    def allocate(
        self,
        request: Running,
        tokens: int,
        lookahead: int,
        hit: Hit | None = None,
        *,
        whole: bool = False,
        others: bool = False,
    ) -> bool:
        """Slots for `tokens` more tokens, and `lookahead` behind them; False if blocks are missing.

        hit: of a request that is admitted. whole: all of it must fit. others: whether any request runs.
        """
        found = self._no_hit if hit is None else hit
        computed = request.computed + found.tokens
        watermark = self.watermark_blocks if others and hit is not None else 0
        end = request.prefill_end if self.reach.interval == 0 else 0
        if whole:
            most = min(request.known, self.most_tokens)
            ask = Wanted(most, most, computed, found.tokens, end, whole=True)
            if self._wanted(request, found, ask) + watermark > self.pool.free:
                return False
        for table, held in zip(self.tables, request.held, strict=True):
            table.retire(held, max(0, computed - request.in_flight))
        slots = min(computed + tokens + lookahead, self.most_tokens)
        ask = Wanted(slots, computed + tokens, computed, found.tokens, end)
        if self._wanted(request, found, ask) + watermark > self.pool.free:
            return False
        if any(found.blocks):
            for table, held, hits in zip(self.tables, request.held, found.blocks, strict=True):
                table.adopt(held, hits, found.tokens)
        for table, held in zip(self.tables, request.held, strict=True):
            self._copied += table.extend(held, ask)
        self.register(request, min(computed + tokens, request.known))
        return True

    def _wanted(self, request: Running, found: Hit, ask: Wanted) -> int:
        return sum(
            table.wanted(held, hits, ask)
            for table, held, hits in zip(self.tables, request.held, found.blocks, strict=True)
        )

    def register(self, request: Running, computed: int) -> None:
        """Register full blocks of this many tokens, as far as a hit can use them."""
        if not self.reach.keeps_prefixes:
            return
        resumed = self._resumed(request)
        for table, held in zip(self.tables, request.held, strict=True):
            table.register(request, held, self._usable(table, computed), resumed)

    def _usable(self, table: Table, computed: int) -> int:
        """Tokens that a hit can use: a multiple of the hits' unit, and the next block, which drafts give up."""
        if len(self.tables) == 1 or self.reach.hit_tokens < self.reach.step_tokens:
            return computed
        usable = computed // self.reach.step_tokens * self.reach.step_tokens
        return min(computed, usable + table.block_size) if self.reach.drops_last and usable else usable

    def _resumed(self, request: Running) -> tuple[int, ...]:
        """Tokens after which a later prompt may resume: the same prompt again, a longer one, and a junction."""
        step, prompt = self.reach.step_tokens, request.prompt
        found = [prompt - 1]
        if self.reach.drops_last:
            found = sorted({max((prompt - 1) // step * step - step, 0), max(prompt // step * step - step, 0)})
        return (*found, request.junction) if request.junction else tuple(found)

    def free(self, request: Running) -> None:
        """Free all blocks of a request, group by group, the last ones first."""
        for held in request.held:
            self.pool.release(reversed(held.clear()))

    def group_blocks(self, running: Sequence[Running]) -> tuple[int, ...]:
        """Blocks in the tables of each group."""
        return tuple(
            sum(block is not NULL for request in running for block in request.held[group].blocks)
            for group in range(len(self.tables))
        )


def _eventful(tables: Sequence[Table]) -> bytes:
    """Whether any table may change, by the computed tokens modulo all blocks."""
    found = bytearray(lcm(*(table.block_size for table in tables)) if tables else 1)
    for table in tables:
        near = table.eventful()
        for tokens in range(table.block_size) if near is None else near:
            for each in range(tokens % table.block_size, len(found), table.block_size):
                found[each] = 1
    return bytes(found)
