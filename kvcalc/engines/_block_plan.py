"""What requests take of a pool of blocks, for engines that give out nothing smaller."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

from kvcalc.slots.rule import SlotRule


class BlockPlan(NamedTuple):
    """A pool of blocks before any memory is known.

    block_bytes: of one block, on a rank of each pipeline stage. groups: for each group of layers that shares a block
    table, the rules by which a request takes blocks of it; the one that takes most decides. spare_blocks: that are
    never given out. max_model_len: longest request; None: nobody says. num_blocks: of the pool, where a setting fixes
    them whatever the memory is.
    """

    block_bytes: tuple[int, ...]
    groups: tuple[tuple[SlotRule, ...], ...]
    spare_blocks: int
    max_model_len: int | None
    num_blocks: int | None = None

    def request_blocks(self, tokens: int) -> int:
        """Blocks of one request: the sum over groups of the most that a rule takes."""
        return sum(max(rule.slots(tokens) for rule in rules) for rules in self.groups)

    def blocks_in(self, cache_bytes: int) -> int:
        """Blocks of a pool of cache_bytes on each rank: of the stage whose blocks are largest, or as a setting says."""
        return cache_bytes // max(self.block_bytes) if self.num_blocks is None else self.num_blocks

    def choices(self) -> Iterator[tuple[SlotRule, ...]]:
        """One rule of each group, in every combination: a request fits where it fits by all of them."""
        return product(*(tuple(dict.fromkeys(rules)) for rules in self.groups))
