"""The pool of blocks: which are free, in which order they are allocated, and what the cached ones hold.

A freed block without a key goes to the front of the queue, one with a key to the back; so the queue is always blocks
without contents, which are only counted, followed by cached ones, the least recently used first.
Source: vLLM, v1/core/block_pool.py (BlockPool), kv_cache_utils.py (FreeKVCacheBlockQueue).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence


class Block:
    """A block. refs: requests that hold it. keys: by which it is found, the first for `tokens` tokens."""

    __slots__ = ("keys", "refs", "tokens")

    def __init__(self) -> None:
        self.refs = 1
        self.keys: tuple[int, ...] = ()
        self.tokens = 0


NULL = Block()
"""Stands in a table for a block out of reach; never allocated, never freed."""


class Pool:
    """Blocks that can be allocated. evicted: cached blocks overwritten so far."""

    def __init__(self, num_blocks: int) -> None:
        self.num_blocks = num_blocks
        self.evicted = 0
        self._blank = num_blocks
        self._queue: OrderedDict[Block, None] = OrderedDict()
        self._cached: dict[int, Block | list[Block]] = {}

    @property
    def free(self) -> int:
        """Blocks held by no request."""
        return self._blank + len(self._queue)

    @property
    def used(self) -> int:
        """Blocks held by requests."""
        return self.num_blocks - self.free

    def find(self, key: int) -> Block | None:
        """The first registered block of that key."""
        found = self._cached.get(key)
        return found[0] if isinstance(found, list) else found

    def take(self, count: int) -> list[Block]:
        """Blocks from the front of the queue, this many."""
        blank = min(count, self._blank)
        self._blank -= blank
        taken = [Block() for _ in range(blank)]
        for _ in range(count - blank):
            block, _ = self._queue.popitem(last=False)
            self.forget(block)
            self.evicted += 1
            block.refs = 1
            taken.append(block)
        return taken

    def hold(self, blocks: Iterable[Block]) -> None:
        """Add a request to the holders of cached blocks."""
        for block in blocks:
            if block is NULL:
                continue
            if not block.refs:
                del self._queue[block]
            block.refs += 1

    def release(self, blocks: Iterable[Block]) -> None:
        """Remove a request from the holders of blocks, in the order in which they are to be reused."""
        for block in blocks:
            if block is NULL:
                continue
            block.refs -= 1
            if block.refs:
                continue
            if block.keys:
                self._queue[block] = None
            else:
                self._blank += 1

    def register(self, block: Block, key: int, tokens: int) -> None:
        """Register a block by a key for its first `tokens` tokens, or by a further key."""
        if key in block.keys:
            return
        if not block.keys:
            block.tokens = tokens
        block.keys += (key,)
        others = self._cached.get(key)
        if others is None:
            self._cached[key] = block
        elif isinstance(others, list):
            others.append(block)
        else:
            self._cached[key] = [others, block]

    def promote(self, block: Block, key: int, tokens: int) -> None:
        """Register a block for more tokens than before; its former keys are removed."""
        if block.keys and key not in block.keys:
            self.forget(block)
        self.register(block, key, tokens)

    def forget(self, block: Block) -> Sequence[int]:
        """Remove all keys of a block."""
        keys = block.keys
        for key in keys:
            found = self._cached[key]
            if isinstance(found, list):
                found.remove(block)
                if len(found) == 1:
                    self._cached[key] = found[0]
            else:
                del self._cached[key]
        block.keys = ()
        return keys

    def move(self, source: Block, target: Block) -> None:
        """Move the keys of `source` to `target`, which holds a copy."""
        tokens = source.tokens
        for key in self.forget(source):
            self.register(target, key, tokens)
