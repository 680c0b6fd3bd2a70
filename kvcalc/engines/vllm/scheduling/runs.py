"""The pool of one group, by runs of blocks: as `pool`, without an object for each block.

A block is identified by its contents; only a second block of the same contents gets another number. Blocks with tokens
of only one request, which no other can hit, are only counted. The blocks that a request frees enter the queue as one
run.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence


class _Run:
    """Blocks that were freed together, in order of reuse.

    counted: blocks that no request will hit, which go first. first: index into `blocks`; those before are gone.
    """

    __slots__ = ("blocks", "counted", "first", "has_holes")

    def __init__(self, counted: int, blocks: list[int]) -> None:
        self.counted = counted
        self.blocks = blocks
        self.first = 0
        self.has_holes = False


class RunPool:
    """Blocks that can be allocated. free: held by no request. releases: how often blocks were freed."""

    def __init__(self, num_blocks: int) -> None:
        self.num_blocks = num_blocks
        self.free = num_blocks
        self.evicted = 0
        self.releases = 0
        self._blank = num_blocks
        self._runs: deque[_Run] = deque()
        self._idle: dict[int, _Run] = {}
        self._cached: set[int] = set()
        self._later: dict[int, list[int]] = {}
        self._key_of: dict[int, int] = {}
        self._shared: dict[int, int] = {}
        self._copies = 0

    def find(self, key: int) -> int | None:
        """The first registered block of these contents."""
        if key in self._cached:
            return key
        later = self._later.get(key)
        return later[0] if later else None

    def find_all(self, keys: Sequence[int]) -> list[int]:
        """Blocks of these contents, up to the first unregistered one."""
        if not self._later and self._cached.issuperset(keys):
            return list(keys)
        found = []
        for key in keys:
            block = self.find(key)
            if block is None:
                break
            found.append(block)
        return found

    def idle(self, blocks: Iterable[int]) -> int:
        """Blocks held by no request."""
        return 0 if self._idle.keys().isdisjoint(blocks) else sum(block in self._idle for block in blocks)

    def take(self, count: int) -> None:
        """Blocks from the front of the queue, this many."""
        self.free -= count
        if count <= self._blank:
            self._blank -= count
            return
        self._evict(count - self._blank)
        self._blank = 0

    def _evict(self, count: int) -> None:
        self.evicted += count
        idle, runs = self._idle, self._runs
        while count:
            run = runs[0]
            if run.counted > count:
                run.counted -= count
                return
            count -= run.counted
            run.counted = 0
            if not run.blocks:
                runs.popleft()
                continue
            victims = run.blocks[run.first : run.first + count]
            run.first += len(victims)
            if run.has_holes:
                victims = [block for block in victims if idle.get(block) is run]
            for block in victims:
                del idle[block]
            count -= len(victims)
            self._forget(victims)
            if run.first >= len(run.blocks):
                runs.popleft()

    def _forget(self, blocks: Sequence[int]) -> None:
        self._cached.difference_update(blocks)
        if not self._key_of or self._key_of.keys().isdisjoint(blocks):
            return
        for block in blocks:
            key = self._key_of.pop(block, None)
            if key is not None:
                self._later[key].remove(block)
                if not self._later[key]:
                    del self._later[key]

    def hold(self, blocks: Iterable[int]) -> None:
        """Add a request to the holders of cached blocks."""
        shared, get, pop = self._shared, self._shared.get, self._idle.pop
        for block in blocks:
            run = pop(block, None)
            if run is None:
                shared[block] = get(block, 0) + 1
            else:
                run.has_holes = True
                self.free -= 1

    def register(self, keys: Sequence[int], table: list[int]) -> None:
        """Register full blocks, and put them into a request's table."""
        if self._cached.isdisjoint(keys) and (not self._later or self._later.keys().isdisjoint(keys)):
            self._cached.update(keys)
            table.extend(keys)
            return
        for key in keys:
            if key not in self._cached and key not in self._later:
                self._cached.add(key)
                table.append(key)
                continue
            self._copies -= 1
            self._key_of[self._copies] = key
            self._later.setdefault(key, []).append(self._copies)
            table.append(self._copies)

    def release(self, table: list[int], counted: int, blank: int) -> None:
        """Free a request's blocks, the last ones first.

        counted: blocks after those of the table that no other request will hit. blank: blocks after these, without
        contents.
        """
        self.releases += 1
        self._blank += blank
        self.free += blank + counted
        blocks = table[::-1]
        if self._shared and not self._shared.keys().isdisjoint(blocks):
            blocks = self._held_no_more(blocks)
        if not blocks and not counted:
            return
        run = _Run(counted, blocks)
        self._runs.append(run)
        if blocks:
            self.free += len(blocks)
            self._idle.update(dict.fromkeys(blocks, run))

    def _held_no_more(self, blocks: list[int]) -> list[int]:
        """Blocks that no other request holds; the others lose one holder."""
        shared, found = self._shared, []
        for block in blocks:
            others = shared.get(block)
            if others is None:
                found.append(block)
            elif others == 1:
                del shared[block]
            else:
                shared[block] = others - 1
        return found
