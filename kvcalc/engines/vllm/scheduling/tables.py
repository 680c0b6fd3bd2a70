"""Block tables of one group, by what its layers see: all tokens, a window, or a chunk.

A table counts the blocks that tokens need, allocates them, frees those out of reach, and offers full blocks to the
prefix cache. States are in `states`.
Source: vLLM, v1/core/single_type_kv_cache_manager.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from kvcalc.engines.vllm.scheduling.pool import NULL, Block, Pool
from kvcalc.engines.vllm.scheduling.sequence import Held
from kvcalc.engines.vllm.scheduling.sequence import Sequence as Running
from kvcalc.engines.vllm.specs import ceil_div


class Reach(NamedTuple):
    """Common settings of all tables of a run.

    step_tokens: lcm of the groups' blocks, the unit of hits. unit_tokens: tokens per key; gcd of the blocks, or less.
    hit_tokens: a hit is a multiple of this, one of the two. interval: in tokens, at which windows and states are kept,
    0: only where a prompt can be resumed, None: all. drops_last: whether drafts recompute the last block of a hit.
    """

    step_tokens: int
    unit_tokens: int
    hit_tokens: int
    interval: int | None
    keeps_prefixes: bool
    drops_last: bool = False


class Wanted(NamedTuple):
    """A request to a table: slots for `slots` tokens, `tokens` of them the model's own.

    hits: cached blocks; hit_tokens: their tokens. computed: tokens cached by then.
    whole: whether this is the test for all known tokens, before a request is admitted.
    """

    slots: int
    tokens: int
    computed: int
    hit_tokens: int
    prefill_end: int
    whole: bool = False


class Table:
    """Tables of one group: full attention, and latents."""

    def __init__(self, group: int, num_groups: int, block_size: int, pool: Pool, reach: Reach) -> None:
        self.group = group
        self.num_groups = num_groups
        self.block_size = block_size
        self.pool = pool
        self.reach = reach
        self.most_blocks: int | None = None
        self.units = block_size // reach.unit_tokens if reach.keeps_prefixes else 1

    def eventful(self) -> set[int] | None:
        """Computed tokens, modulo a block, near which one more token may change a table; None: any.

        A block is allocated at its first token, and registered at its last or, if tokens come a step later, at the
        next.
        """
        return {0, 1, 2, self.block_size - 1}

    # what a prefix is known by

    def key(self, request: Running, tokens: int) -> int:
        """Key of the block that ends after this many tokens."""
        return request.tokens.prefix(tokens // self.reach.unit_tokens) * self.num_groups + self.group

    def find(self, request: Running, tokens: int) -> Block | None:
        """The cached block that ends after this many tokens."""
        return self.pool.find(self.key(request, tokens))

    # what is out of sight

    def unseen(self, computed: int) -> int:
        """Tokens that nothing reads any more once this many are computed."""
        del computed
        return 0

    def retire(self, held: Held, done: int) -> None:
        """Free blocks out of reach of all tokens after `done`, the last ones first."""
        unseen = self.unseen(done)
        if unseen <= 0:
            return
        blocks, freed = held.blocks, []
        for place in range(min(unseen // self.block_size, len(blocks)) - 1, -1, -1):
            if blocks[place] is NULL:
                break
            freed.append(blocks[place])
            blocks[place] = NULL
        self.pool.release(freed)

    def held_blocks(self, tokens: int, done: int) -> int:
        """Blocks of a request that generates: `tokens` tokens are written, `done` of them before this step."""
        return ceil_div(tokens, self.block_size) - max(0, self.unseen(done)) // self.block_size

    is_sparse = False
    """Whether only some blocks are kept for later prompts."""

    def kept_blocks(self, resumed: int) -> int:
        """Blocks that a prompt needs after `resumed` cached tokens."""
        return resumed // self.block_size - max(0, self.unseen(resumed)) // self.block_size

    # taking blocks

    def wanted(self, held: Held, hits: Sequence[Block], ask: Wanted) -> int:
        """Blocks that must be free: new ones, and hits that no request holds."""
        needed = ceil_div(ask.slots, self.block_size)
        if ask.whole and self.most_blocks is not None:
            needed = min(needed, self.most_blocks)
        unseen = max(0, self.unseen(ask.computed)) // self.block_size
        missing = max(0, needed - max(unseen, len(hits) + len(held.blocks)))
        copied = bool(hits) and ask.hit_tokens % self.block_size != 0
        return missing + idle(hits[unseen:]) + copied

    def adopt(self, held: Held, hits: Sequence[Block], hit_tokens: int) -> None:
        """Hold the hit blocks."""
        unseen = max(0, self.unseen(hit_tokens)) // self.block_size
        seen = hits[unseen:]
        self.pool.hold(seen)
        held.blocks = [NULL] * unseen + list(seen)
        held.registered = len(held.blocks)
        if seen and hit_tokens % self.block_size:
            place = hit_tokens // self.block_size
            held.shared = (place, seen[-1])
            held.registered = place

    def extend(self, held: Held, ask: Wanted) -> list[Block]:
        """Allocate missing blocks; returns blocks that a copy needs until the step is scheduled."""
        copied: list[Block] = []
        if held.shared is not None:
            place, source = held.shared
            held.shared = None
            copied = self._copy(held, place, source, self.pool.take(1)[0])
        missing = ceil_div(ask.slots, self.block_size) - len(held.blocks)
        if missing > 0:
            held.blocks += self.pool.take(missing)
        return copied

    @staticmethod
    def _copy(held: Held, place: int, source: Block, copy: Block) -> list[Block]:
        """Continue in a copy of a block that others share."""
        held.blocks[place] = copy
        copy.refs += 1
        return [source, copy]

    # offering blocks to the prefix cache

    def register(self, request: Running, held: Held, tokens: int, resumed: Sequence[int]) -> None:
        """Register full blocks of the first `tokens` tokens. resumed: tokens after which a prompt can be resumed."""
        first, last = held.registered, tokens // self.block_size
        if last <= first:
            return
        for place in self.kept(first, last, resumed):
            block = held.blocks[place]
            if block is not NULL:
                end = (place + 1) * self.block_size
                self.pool.promote(block, self.key(request, end), end)
        held.registered = last

    def kept(self, first: int, last: int, resumed: Sequence[int]) -> Iterable[int]:
        """Which of these blocks are worth keeping."""
        del resumed
        return range(first, last)


class FullTable(Table):
    """Tables of layers that see every token."""

    def register(self, request: Running, held: Held, tokens: int, resumed: Sequence[int]) -> None:  # noqa: D102
        super().register(request, held, tokens, resumed)
        self._register_end(request, held, tokens)

    def _register_end(self, request: Running, held: Held, tokens: int) -> None:
        """The prompt's last unit, if it ends inside a block."""
        unit = self.reach.unit_tokens
        if unit == self.block_size:
            return
        end = (request.prompt - (not self.reach.drops_last)) // unit * unit
        place = end // self.block_size
        if not 0 < end <= tokens or end % self.block_size == 0 or place >= len(held.blocks):
            return
        block, key = held.blocks[place], self.key(request, end)
        if block is NULL:
            return
        if block.keys and block.tokens < end and key not in block.keys:
            self.pool.forget(block)
        self.pool.register(block, key, end)


class WindowTable(Table):
    """Tables of a sliding window."""

    is_sparse = True

    def __init__(self, *place: object, window: int, extra_tokens: int, most_blocks: int) -> None:
        super().__init__(*place)  # type: ignore[arg-type]
        self.window = window
        self.extra_tokens = extra_tokens
        self.most_blocks = most_blocks

    def unseen(self, computed: int) -> int:  # noqa: D102
        return max(0, computed - self.window + 1 - self.extra_tokens)

    def eventful(self) -> set[int] | None:
        """As for all tables, and where a block leaves the window, later by the steps of batches in flight."""
        leaves = self.window - 1 + self.extra_tokens
        size = self.block_size
        return {0, 1, 2, size - 1} | {(leaves + each) % size for each in range(4)}

    def run_blocks(self, *, one_more: bool) -> int:
        """Consecutive cached blocks that a hit needs."""
        return ceil_div(self.window - 1, self.block_size) + one_more

    def kept(self, first: int, last: int, resumed: Sequence[int]) -> Iterable[int]:
        """The run of blocks that ends where a prompt can be resumed, and at each interval."""
        reach, drops = self.reach, self.reach.drops_last
        need = self.run_blocks(one_more=drops)
        kept: set[int] = set()
        every = reach.hit_tokens if reach.interval is None else reach.interval
        if every:
            each = every // self.block_size
            if need >= each:
                return range(first, last)
            kept.update(p for p in range(first, last) if p >= drops and (p - drops) % each >= each - need)
        if reach.interval is not None:
            for tokens in resumed:
                end = tokens // reach.hit_tokens * (reach.hit_tokens // self.block_size) + drops
                kept.update(range(max(first, end - need), min(last, end)))
        return sorted(kept)


class ChunkTable(Table):
    """Tables of chunks of local attention."""

    def __init__(self, *place: object, chunk: int, most_blocks: int) -> None:
        super().__init__(*place)  # type: ignore[arg-type]
        self.chunk = chunk
        self.most_blocks = most_blocks

    def unseen(self, computed: int) -> int:  # noqa: D102
        return computed // self.chunk * self.chunk

    def eventful(self) -> set[int] | None:  # noqa: D102
        return None if self.chunk % self.block_size else super().eventful()


def idle(blocks: Iterable[Block]) -> int:
    """Blocks that no request holds: a hit takes them out of the queue."""
    return sum(not block.refs for block in blocks if block is not NULL)
