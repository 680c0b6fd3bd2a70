"""Which cache would hit how much: for every size, from one pass over a trace.

A block is hit by a cache that holds as many blocks as were used since it was used last, itself among them: its stack
distance. What one request used last is a stretch of its prompt, since prefixes share from their start, so distances are
counted by requests, not by blocks: those used after it, and its place among what is left of its own.

Exact, to a block, for requests one after another in one group of full attention; an estimate for requests that run
together, whose blocks in use cannot be evicted, and which may arrive before what they would hit is there.
Source: Mattson et al., Evaluation techniques for storage hierarchies, 1970.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from fractions import Fraction

from kvcalc.engines.base.tokens import Paths, Tokens
from kvcalc.engines.base.traffic import Request, Scheduler
from kvcalc.errors import NotApplicableError


class _Sums:
    """Numbers one after another, of which any may change, and the sum of those after a place (a Fenwick tree)."""

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


class Distances:
    """Stack distances of a trace, request by request. prompt_tokens: seen so far."""

    def __init__(self, block_size: int) -> None:
        self.block_size = block_size
        self.prompt_tokens = 0
        self.found: Counter[int] = Counter()
        self._paths = Paths()
        self._last: dict[int, tuple[int, int]] = {}
        self._left = _Sums()
        self._first: list[int] = []

    def add(self, request: Request) -> None:
        """The next request of the trace: what it would hit, and what it leaves behind."""
        size, number = self.block_size, len(self._first)
        prompt = request.prompt_tokens
        self.prompt_tokens += prompt
        named = self._named(request)
        sought = (prompt - 1) // size
        moved: Counter[int] = Counter()
        for place, key in enumerate(named):
            last = self._last.get(key)
            if last is None:
                break
            owner, at = last
            if place < sought:
                self.found[self._left.after(owner) + at - self._first[owner] + 1] += 1
            moved[owner] += 1
        for owner, blocks in moved.items():
            self._first[owner] += blocks
            self._left.add(owner, -blocks)
        for place, key in enumerate(named):
            self._last[key] = (number, place)
        self._first.append(0)
        self._left.append((prompt + request.output_tokens - 1) // size)

    def _named(self, request: Request) -> list[int]:
        """A number for each full block that another request may have, too."""
        blocks = common_tokens(request) // self.block_size
        if not blocks:
            return []
        tokens = Tokens(self._paths, request.prompt, request.output_segment, self.block_size)
        return [tokens.prefix(place) for place in range(1, blocks + 1)]

    def hit_rate(self, num_blocks: int) -> Fraction:
        """Share of prompt tokens that a cache of so many blocks hits."""
        hits = sum(times for distance, times in self.found.items() if distance <= num_blocks)
        return Fraction(hits * self.block_size, self.prompt_tokens) if self.prompt_tokens else Fraction(0)


def common_tokens(request: Request) -> int:
    """Tokens that come before the first one of a segment that no other request has."""
    found = 0
    for segment, tokens in (*request.prompt, (request.output_segment, request.output_tokens - 1)):
        if segment is None:
            break
        found += tokens
    return found


_SIZES = tuple(Fraction(2) ** power for power in range(-4, 4))
"""Sizes whose hit rate is shown, in times the pool."""


def distances_of(scheduler: Scheduler) -> Distances:
    """Distances in blocks of a scheduler's pool. Raises NotApplicableError where groups cache in different ways."""
    if scheduler.block_size is None:
        raise NotApplicableError(
            "hit rates by cache size are known for one group of full attention only", help="leave the curve out"
        )
    return Distances(scheduler.block_size)


def hit_rates(distances: Distances, num_blocks: int) -> tuple[tuple[int, Fraction], ...]:
    """The hit rate of caches from a sixteenth of the pool up to eight of them."""
    sizes = dict.fromkeys(max(1, int(size * num_blocks)) for size in _SIZES)
    return tuple((size, distances.hit_rate(size)) for size in sizes)


def watched(requests: Iterable[Request], distances: Distances) -> Iterator[Request]:
    """The same requests, each seen on its way."""
    for request in requests:
        distances.add(request)
        yield request
