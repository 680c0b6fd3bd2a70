"""Hit rates for every cache size, from one pass over a trace.

A block is hit by a cache that holds as many blocks as were used since its last use, including itself: its stack
distance. The blocks last used by one request are a contiguous range of its prompt, since prefixes share from their
start, so distances are counted by request, not by block: blocks used after it, and its position in the rest of its own
request.

Exact to the block for sequential requests in one group of full attention; an estimate for concurrent requests, whose
blocks in use cannot be evicted, and which may arrive before the blocks they would hit exist.
Source: Mattson et al., Evaluation techniques for storage hierarchies, 1970.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction

from kvcalc.engines.base.tokens import Paths, Tokens
from kvcalc.engines.base.traffic import Request, Scheduler
from kvcalc.errors import NotApplicableError


class _Sums:
    """A mutable sequence of numbers with fast suffix sums (a Fenwick tree)."""

    def __init__(self) -> None:
        self._tree = [0]
        self.total = 0

    def append(self, number: int) -> None:
        place = len(self._tree)
        below, end = place - 1, place - (place & -place)
        whole = number
        while below > end:
            whole += self._tree[below]
            below -= below & -below
        self._tree.append(whole)
        self.total += number

    def add(self, place: int, number: int) -> None:
        self.total += number
        place += 1
        while place < len(self._tree):
            self._tree[place] += number
            place += place & -place

    def after(self, place: int) -> int:
        place += 1
        found = self.total
        while place:
            found -= self._tree[place]
            place -= place & -place
        return found


class _Recency:
    """Blocks by when they were used last, a stretch of each request's; the least recently used go first."""

    def __init__(self) -> None:
        self._last: dict[int, tuple[int, int]] = {}
        self._left = _Sums()
        self._first: list[int] = []

    def distances(self, named: Sequence[int]) -> list[int]:
        """How large a cache has each of these blocks, up to the first that none has."""
        found = []
        for key in named:
            last = self._last.get(key)
            if last is None:
                break
            owner, at = last
            found.append(self._left.after(owner) + at - self._first[owner] + 1)
        return found

    def use(self, named: Sequence[int], blocks: int) -> None:
        """A request that used `blocks` blocks, the first of them known by these numbers."""
        number = len(self._first)
        moved = Counter(self._last[key][0] for key in named if key in self._last)
        for owner, blocks_moved in moved.items():
            self._first[owner] += blocks_moved
            self._left.add(owner, -blocks_moved)
        for place, key in enumerate(named):
            self._last[key] = (number, place)
        self._first.append(0)
        self._left.append(blocks)


class Distances:
    """Stack distances of a trace, request by request. prompt_tokens: seen so far.

    found: how often a block was so far away; hosted: how far those were in a host tier that a cache of num_blocks does
    not have. A host tier holds the full blocks of prompts, copied to it once they are computed.
    """

    def __init__(self, block_size: int, num_blocks: int = 0) -> None:
        self.block_size = block_size
        self.num_blocks = num_blocks
        self.prompt_tokens = 0
        self.found: Counter[int] = Counter()
        self.hosted: Counter[int] = Counter()
        self._paths = Paths()
        self._device, self._host = _Recency(), _Recency()

    def add(self, request: Request) -> None:
        """Adds the next request of the trace: its hits, and the blocks it leaves."""
        size, prompt = self.block_size, request.prompt_tokens
        self.prompt_tokens += prompt
        named = self._named(request)
        sought = (prompt - 1) // size
        own = self._device.distances(named[:sought])
        self.found.update(own)
        had = sum(distance <= self.num_blocks for distance in own)
        self.hosted.update(self._host.distances(named[:sought])[had:])
        self._device.use(named, (prompt + request.output_tokens - 1) // size)
        self._host.use(named[: prompt // size], prompt // size)

    def _named(self, request: Request) -> list[int]:
        """An id for each full block that another request may share."""
        blocks = common_tokens(request) // self.block_size
        if not blocks:
            return []
        tokens = Tokens(self._paths, request.prompt, request.output_segment, self.block_size)
        return [tokens.prefix(place) for place in range(1, blocks + 1)]

    def hit_rate(self, num_blocks: int, host_blocks: int = 0) -> Fraction:
        """Share of prompt tokens that hit a cache of this many blocks; with a host tier, the tier's, of num_blocks."""
        hits = sum(times for distance, times in self.found.items() if distance <= num_blocks)
        hits += sum(times for distance, times in self.hosted.items() if distance <= host_blocks)
        return Fraction(hits * self.block_size, self.prompt_tokens) if self.prompt_tokens else Fraction(0)


def common_tokens(request: Request) -> int:
    """Tokens before the first segment that no other request has."""
    found = 0
    for segment, tokens in (*request.prompt, (request.output_segment, request.output_tokens - 1)):
        if segment is None:
            break
        found += tokens
    return found


_HOSTS = (1, 2, 4, 8, 16, 32)
"""Sizes of host tiers whose hit rate is shown, in times the pool."""
_SIZES = tuple(Fraction(2) ** power for power in range(-4, 4))
"""Sizes whose hit rate is shown, as multiples of the pool."""


def distances_of(scheduler: Scheduler) -> Distances:
    """Distances in blocks of a scheduler's pool. Raises NotApplicableError if groups cache differently."""
    if scheduler.block_size is None:
        raise NotApplicableError(
            "hit rates by cache size need a single group of full attention", help="remove --curve (curve)"
        )
    return Distances(scheduler.block_size, scheduler.num_blocks)


def hit_rates(distances: Distances, num_blocks: int) -> tuple[tuple[int, Fraction], ...]:
    """The hit rate of caches from a sixteenth of the pool up to eight of them."""
    sizes = dict.fromkeys(max(1, int(size * num_blocks)) for size in _SIZES)
    return tuple((size, distances.hit_rate(size)) for size in sizes)


def host_hit_rates(distances: Distances, own: int | None) -> tuple[tuple[int, Fraction], ...]:
    """The hit rate of the pool with a host tier of one to 32 times its blocks, and of the engine's own size."""
    sizes = {times * distances.num_blocks for times in _HOSTS} | ({own} if own else set())
    return tuple((size, distances.hit_rate(distances.num_blocks, size)) for size in sorted(sizes))


def watched(requests: Iterable[Request], distances: Distances) -> Iterator[Request]:
    """The same requests, each recorded as it passes."""
    for request in requests:
        distances.add(request)
        yield request
