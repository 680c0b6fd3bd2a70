"""Block tables of recurrent layers: one state per request, and those that later prompts resume from.

Without prefix caching a request has one block, as long as the longest request, and one more for each draft token. With
it (`align`), a block stands for as many tokens as one of attention does and holds the state after the last of them: a
table of such blocks has holes: only the current state, the one before it and those at the end of a chunk exist.
Source: vLLM, v1/core/single_type_kv_cache_manager.py (MambaManager), v1/kv_cache_interface.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kvcalc.engines.vllm.scheduling.pool import NULL, Block
from kvcalc.engines.vllm.scheduling.sequence import Held
from kvcalc.engines.vllm.scheduling.sequence import Sequence as Running
from kvcalc.engines.vllm.scheduling.tables import Table, Wanted, idle
from kvcalc.engines.vllm.specs import ceil_div


class Checkpoints:
    """Where a prompt leaves states behind.

    step: interval in tokens at which the kernels can leave one inside a chunk; None: only at the end of a chunk.
    """

    def __init__(self, block_size: int, unit_tokens: int, step: int | None, *, drops_last: bool) -> None:
        self.block_size = block_size
        self.unit_tokens = unit_tokens
        self.step = step
        self.drops_last = drops_last

    def last(self, tokens: int, unit: int) -> int:
        """The last multiple of `unit` at which a prompt of this many tokens can be resumed."""
        if self.drops_last:
            return max(0, tokens // unit * unit - unit)
        return (tokens - 1) // unit * unit

    def can_leave(self, start: int, end: int, tokens: int) -> bool:
        """Whether a chunk from `start` to `end` can leave the state after `tokens` behind."""
        return (
            self.step is not None
            and start % self.unit_tokens == 0
            and ceil_div(end, self.block_size) - 2 > (start - 1) // self.block_size
            and start + self.unit_tokens <= tokens < end
            and (tokens - start) % self.step == 0
        )


class StateTable(Table):
    """One state for each request, and one for each draft token."""

    def __init__(self, *place: object, drafts: int) -> None:
        super().__init__(*place)  # type: ignore[arg-type]
        self.drafts = drafts

    def unseen(self, computed: int) -> int:  # noqa: D102
        return computed - 1

    def held_blocks(self, tokens: int, done: int) -> int:  # noqa: D102
        del tokens, done
        return 1 + self.drafts

    def wanted(self, held: Held, hits: Sequence[Block], ask: Wanted) -> int:  # noqa: D102
        return super().wanted(held, hits, ask._replace(slots=ask.slots + self.block_size * self.drafts))

    def extend(self, held: Held, ask: Wanted) -> list[Block]:  # noqa: D102
        return super().extend(held, ask._replace(slots=ask.slots + self.block_size * self.drafts))


class AlignedStateTable(StateTable):
    """States of prompts, by the blocks they end. fresh: keys of this step, which cannot be hit yet."""

    is_sparse = True

    def __init__(self, *place: object, drafts: int, checkpoints: Checkpoints) -> None:
        super().__init__(*place, drafts=drafts)
        self.checkpoints = checkpoints
        self.fresh: set[int] = set()

    def held_blocks(self, tokens: int, done: int) -> int:
        """The current state; if it moved to a new block, also the one before, until that step is done."""
        return 1 + self.drafts + (ceil_div(tokens, self.block_size) > ceil_div(max(done, 1), self.block_size))

    def kept_blocks(self, resumed: int) -> int:
        """The state from which a prompt continues."""
        return int(resumed > 0)

    def eventful(self) -> set[int] | None:
        """Any number: a state counts as new at each step until the next block."""
        return None

    def retire(self, held: Held, done: int) -> None:
        """Free all states but the last two: the current one, and the one it is copied from."""
        blocks, unseen = held.blocks, done - 1
        if unseen > 0:
            last = min(unseen // self.block_size, len(blocks))
            if last > held.retired:
                self._give_back(held, range(last - 1, held.retired - 1, -1))
                held.retired = last
        if held.previous is not None and held.previous < ceil_div(done, self.block_size) - 1:
            self._give_back(held, (held.previous,))

    def _give_back(self, held: Held, places: Iterable[int]) -> None:
        freed = []
        for place in places:
            if held.blocks[place] is not NULL:
                freed.append(held.blocks[place])
                held.blocks[place] = NULL
        self.pool.release(freed)

    def wanted(self, held: Held, hits: Sequence[Block], ask: Wanted) -> int:
        """At most one new state in a chunk, one left behind, one to copy a hit to; once, those of drafts."""
        if hits and hits[-1].keys and hits[-1].keys[0] in self.fresh:
            return self.pool.num_blocks + 2
        new = ceil_div(ask.tokens, self.block_size) + self.drafts - len(hits) - len(held.blocks)
        copied = (bool(hits) and ask.hit_tokens % self.block_size != 0) or held.shared is not None
        if copied:
            new = max(new, 0) + 1
        leaves = self._leaves(held, ask)
        if new > 0:
            new = min(new, 1 + copied + leaves + (0 if held.started else self.drafts))
        return new + idle(hits)

    def _leaves(self, held: Held, ask: Wanted) -> bool:
        """Whether this chunk leaves a state behind; recorded for the chunk that is scheduled."""
        at = self.checkpoints.last(ask.tokens, self.reach.hit_tokens)
        place = ceil_div(ask.tokens, self.block_size) - 2
        leaves = (
            ask.tokens >= ask.prefill_end
            and self.checkpoints.can_leave(ask.computed, ask.tokens, at)
            and place >= 0
            and self._is_vacant(held, place)
            and at > 0
        )
        if not ask.whole:
            held.checkpoint = (at, place) if leaves else None
        return leaves

    def _is_vacant(self, held: Held, place: int) -> bool:
        blocks = held.blocks
        if place >= len(blocks) or blocks[place] is NULL:
            return True
        return held.started and place >= len(blocks) - self.drafts

    def extend(self, held: Held, ask: Wanted) -> list[Block]:  # noqa: D102
        needed, before = ceil_div(ask.tokens, self.block_size) + self.drafts, len(held.blocks)
        leaves = held.checkpoint is not None
        if needed <= before and held.shared is None and not leaves:
            held.started = True
            return []
        if held.started:
            held.previous = before - 1 - self.drafts
        elif before:
            held.previous = before - 1
        self._pass_over(held, needed - self.drafts - 1, leaves=leaves)
        new = self.pool.take(max(needed - len(held.blocks), 0) + (held.shared is not None))
        copied: list[Block] = []
        if held.shared is not None:
            place, source = held.shared
            copied = self._copied(held, place, source, new.pop(0))
        held.blocks += new
        held.started = True
        held.shared = None
        return copied

    def _pass_over(self, held: Held, last: int, *, leaves: bool) -> None:
        """Holes up to the block before the last; blocks of drafts move behind them."""
        blocks, before = held.blocks, len(held.blocks)
        end = last - leaves
        if before < last:
            blocks += [NULL] * (end - before)
        if not held.started:
            return
        for place in range(before - self.drafts, before):
            if place >= end:
                break
            blocks.append(blocks[place])
            blocks[place] = NULL

    def _copied(self, held: Held, place: int, source: Block, copy: Block) -> list[Block]:
        if not held.started:
            return self._copy(held, place, source, copy)
        self.pool.move(source, copy)
        source.refs += 1
        if copy.keys:
            self.fresh.add(copy.keys[0])
        return [source, copy]

    def kept(self, first: int, last: int, resumed: Sequence[int]) -> Iterable[int]:
        """The state at which a prompt can be resumed, and one at each interval."""
        reach = self.reach
        if reach.interval is None:
            return range(first, last)
        each = reach.interval // self.block_size
        if reach.interval and each <= 1:
            return range(first, last)
        kept = set(range((first + each) // each * each - 1, last, each)) if each else set()
        places = (tokens // reach.hit_tokens * reach.hit_tokens // self.block_size - 1 for tokens in resumed)
        return sorted(kept.union(place for place in places if first <= place < last))

    def register(self, request: Running, held: Held, tokens: int, resumed: Sequence[int]) -> None:  # noqa: D102
        before = held.registered
        super().register(request, held, tokens, resumed)
        after = held.registered
        end = self._register_end(request, held, tokens)
        if end is not None:
            self.fresh.add(end)
        for block in held.blocks[before:after]:
            if block is not NULL and block.keys:
                self.fresh.add(block.keys[0])

    def _register_end(self, request: Running, held: Held, tokens: int) -> int | None:
        """Register the state from which the prompt is resumed; returns its key."""
        if held.checkpoint is not None:
            return self._register_checkpoint(request, held, *held.checkpoint)
        unit = self.reach.unit_tokens
        if tokens <= 0 or tokens % unit or tokens != self.checkpoints.last(request.prompt, unit):
            return None
        place = ceil_div(tokens, self.block_size) - 1
        block = held.blocks[place] if place < len(held.blocks) else NULL
        if block is NULL:
            return None
        key = self._known_as(block, request, tokens)
        if tokens % self.block_size:
            held.shared = (place, block)
            held.registered = place
        return key

    def _register_checkpoint(self, request: Running, held: Held, at: int, place: int) -> int | None:
        block = held.blocks[place]
        reach = self.reach
        of_prompt = at == self.checkpoints.last(request.prompt, reach.hit_tokens)
        full = at // self.block_size - 1
        retained = at % self.block_size == 0 and bool(list(self.kept(full, full + 1, ())))
        if not of_prompt and not retained and at != request.junction:
            self.pool.forget(block)
            return None
        if block.keys and block.tokens == at:
            return None
        self.pool.forget(block)
        return self._known_as(block, request, at)

    def _known_as(self, block: Block, request: Running, tokens: int) -> int:
        key = self.key(request, tokens)
        if block.keys and block.tokens < tokens and key not in block.keys:
            self.pool.forget(block)
        self.pool.register(block, key, tokens)
        return key
