"""Requests in a pool of blocks, for engines that allocate whole blocks only."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING

from kvcalc.cache.slots.rule import SlotRule
from kvcalc.engines.base.footprint import Footprint
from kvcalc.engines.base.plan import Blocks, least
from kvcalc.errors import NotApplicableError
from kvcalc.units import count

if TYPE_CHECKING:
    from kvcalc.engines.base.plan import Fitted


class BlockPlan(ABC):
    """A pool of blocks before its memory is known, some of which are never given out.

    block_bytes: of one block, on a rank of each pipeline stage. groups: for each group of layers with a common block
    table, the rules for a request's blocks; the largest decides. spare_blocks: never given out. max_model_len: longest
    request; None: unknown. num_blocks: of the pool, if fixed by a setting. max_requests: concurrent requests, if
    limited by a setting.
    """

    def __init__(
        self,
        block_bytes: tuple[int, ...],
        groups: tuple[tuple[SlotRule, ...], ...],
        *,
        spare_blocks: int = 0,
        max_model_len: int | None = None,
        num_blocks: int | None = None,
        max_requests: int | None = None,
    ) -> None:
        self.block_bytes = block_bytes
        self.groups = groups
        self.spare_blocks = spare_blocks
        self.max_model_len = max_model_len
        self.num_blocks = num_blocks
        self.max_requests = max_requests

    @property
    def speaks_for_engine(self) -> bool:
        """Yes: it counts whole blocks of a request."""
        return True

    def needed(self, tokens: int, sequences: int) -> tuple[int, ...]:
        """(sequences * blocks of a request + spare blocks) * bytes of a block, on each stage."""
        blocks = sequences * self._blocks_of(tokens) + self.spare_blocks
        return tuple(blocks * each_bytes for each_bytes in self.block_bytes)

    def needed_at_least(self, tokens: int, sequences: int) -> int:
        """Bytes of the stage with the largest blocks."""
        return max(self.needed(tokens, sequences))

    def fits(self, tokens: int, sequences: int, cache_bytes: int) -> bool:
        """Whether the pool has enough blocks."""
        return sequences * self._blocks_of(tokens) <= self.usable_blocks(cache_bytes)

    def max_tokens(self, sequences: int, cache_bytes: int) -> int | None:
        """Longest request of which this number fits in the pool, up to the engine's limit.

        A request fits if it fits by every rule of every group.
        """
        each = self.usable_blocks(cache_bytes) // sequences
        choices = product(*(tuple(dict.fromkeys(rules)) for rules in self.groups))
        found = [Footprint.summed((1, rule) for rule in rules).max_tokens(each) for rules in choices]
        return least([*found, self.max_model_len])

    def max_sequences(self, tokens: int, cache_bytes: int) -> int | None:
        """Blocks of the pool divided by blocks of a request."""
        blocks = self._blocks_of(tokens)
        return self.usable_blocks(cache_bytes) // blocks if blocks else None

    def blocks(self, tokens: int | None, cache_bytes: int) -> Blocks:
        """The pool in cache_bytes on each rank, and a request's blocks."""
        asked = None if tokens is None else self.request_blocks(tokens)
        return Blocks(self.blocks_in(max(0, cache_bytes)), self.block_bytes, asked)

    def request_blocks(self, tokens: int) -> int:
        """Blocks of one request: the sum over groups of the largest rule."""
        return sum(max(rule.slots(tokens) for rule in rules) for rules in self.groups)

    def blocks_in(self, cache_bytes: int) -> int:
        """Blocks of a pool in cache_bytes on each rank: by the stage with the largest blocks, or by a setting."""
        return cache_bytes // max(self.block_bytes) if self.num_blocks is None else self.num_blocks

    @abstractmethod
    def fit(self, available_bytes: Sequence[int], longest: int | None = None) -> Fitted:
        """The engine's own report for this memory on a rank of each stage."""

    def usable_blocks(self, cache_bytes: int) -> int:
        """Usable blocks of a pool in cache_bytes on each rank."""
        return max(0, self.blocks_in(max(0, cache_bytes)) - self.spare_blocks)

    def _blocks_of(self, tokens: int) -> int:
        longest = self.max_model_len
        if longest is not None and tokens > longest:
            raise NotApplicableError(
                f"a request of {count(tokens)} tokens exceeds max_model_len ({count(longest)})",
                help=f"use at most {count(longest)} tokens, or raise max_model_len",
            )
        return self.request_blocks(tokens)
