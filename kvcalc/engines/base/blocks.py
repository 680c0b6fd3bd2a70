"""What requests take of a pool of blocks, for engines that give out nothing smaller."""

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
    """A pool of blocks before any memory is known, some of which are never given out.

    block_bytes: of one block, on a rank of each pipeline stage. groups: for each group of layers that shares a block
    table, the rules by which a request takes blocks of it; the one that takes most decides. spare_blocks: that are
    never given out. max_model_len: longest request; None: nobody says. num_blocks: of the pool, where a setting fixes
    them whatever the memory is. max_requests: that run at a time, where a setting says it.
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
        """Yes: that a request takes whole blocks is what it counts."""
        return True

    def needed(self, tokens: int, sequences: int) -> tuple[int, ...]:
        """(sequences * blocks of a request + spare blocks) * bytes of a block, on each stage."""
        blocks = sequences * self._blocks_of(tokens) + self.spare_blocks
        return tuple(blocks * each_bytes for each_bytes in self.block_bytes)

    def needed_at_least(self, tokens: int, sequences: int) -> int:
        """What the stage needs whose blocks are largest."""
        return max(self.needed(tokens, sequences))

    def fits(self, tokens: int, sequences: int, cache_bytes: int) -> bool:
        """Whether the pool has so many blocks."""
        return sequences * self._blocks_of(tokens) <= self.usable_blocks(cache_bytes)

    def max_tokens(self, sequences: int, cache_bytes: int) -> int | None:
        """Longest request of which the pool has blocks for so many, up to the longest that the engine takes.

        A request fits where it fits by one rule of each group, in every combination.
        """
        each = self.usable_blocks(cache_bytes) // sequences
        choices = product(*(tuple(dict.fromkeys(rules)) for rules in self.groups))
        found = [Footprint.summed((1, rule) for rule in rules).max_tokens(each) for rules in choices]
        return least([*found, self.max_model_len])

    def max_sequences(self, tokens: int, cache_bytes: int) -> int | None:
        """Blocks by those of a request."""
        blocks = self._blocks_of(tokens)
        return self.usable_blocks(cache_bytes) // blocks if blocks else None

    def blocks(self, tokens: int | None, cache_bytes: int) -> Blocks:
        """The pool of cache_bytes on each rank, and what a request takes of it."""
        asked = None if tokens is None else self.request_blocks(tokens)
        return Blocks(self.blocks_in(max(0, cache_bytes)), self.block_bytes, asked)

    def request_blocks(self, tokens: int) -> int:
        """Blocks of one request: the sum over groups of the most that a rule takes."""
        return sum(max(rule.slots(tokens) for rule in rules) for rules in self.groups)

    def blocks_in(self, cache_bytes: int) -> int:
        """Blocks of a pool of cache_bytes on each rank: of the stage whose blocks are largest, or as a setting says."""
        return cache_bytes // max(self.block_bytes) if self.num_blocks is None else self.num_blocks

    @abstractmethod
    def fit(self, available_bytes: Sequence[int], longest: int | None = None) -> Fitted:
        """The engine's own report of so much memory on a rank of each stage."""

    def usable_blocks(self, cache_bytes: int) -> int:
        """Blocks that requests can get of a pool of cache_bytes on each rank."""
        return max(0, self.blocks_in(max(0, cache_bytes)) - self.spare_blocks)

    def _blocks_of(self, tokens: int) -> int:
        longest = self.max_model_len
        if longest is not None and tokens > longest:
            raise NotApplicableError(
                f"a request of {count(tokens)} tokens is longer than max_model_len ({count(longest)})",
                help=f"ask for at most {count(longest)} tokens",
            )
        return self.request_blocks(tokens)
