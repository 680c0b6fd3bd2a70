"""The scheduler by events: as `scheduler`, for one group of full attention, skipping steps without events.

A request that generates takes one token a step, so when it needs a block and when it ends follow from the step at which
its prompt was read: such requests stand in a ring by the step, modulo the block, at which their next block is due, and
in a calendar by their last one. A step costs what happens in it, and steps in which nothing happens are counted
together. The prompt still being read is always the last to run, since it takes all of a step's remaining tokens.

Every field of a Step equals `scheduler`'s at each step, except the order of requests that end in one step.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from heapq import heappop, heappush

from kvcalc.engines.base.tally import Tally
from kvcalc.engines.base.tokens import Paths, Tokens
from kvcalc.engines.base.traffic import Request, Turn
from kvcalc.engines.vllm.scheduling.runs import RunPool
from kvcalc.engines.vllm.scheduling.settings import Rules
from kvcalc.engines.vllm.specs import ceil_div

_FAR = 1 << 62
_TOLD_EVERY = 1024


class Job:
    """A running request.

    known: tokens known when it was last admitted, or will be. most: tokens at which it ends. computed: of a prompt
    being read. read: the step at which its prompt was complete. table: its registered blocks, up to the first that no
    other request can ask for, own_from; of these, own is how many are registered. slot: its place in the ring.
    last: its last step.
    """

    __slots__ = (
        *("arrival", "base", "computed", "id", "known", "last", "most", "new", "own", "own_from", "read", "slot"),
        *("table", "tokens"),
    )

    def __init__(self, request: Request, most: int, paths: Paths, unit: int) -> None:
        self.id = request.id
        self.arrival = request.arrival_step
        self.known = request.prompt_tokens
        self.most = min(self.known + request.output_tokens, most)
        self.new = True
        self.table: list[int] = []
        self.computed = self.read = self.slot = self.last = self.own = 0
        self.base = 0
        self.tokens: Tokens | None = None
        common = common_tokens(request)
        if common:
            self.tokens = Tokens(paths, request.prompt, request.output_segment, unit)
        else:
            self.base = paths.alone()
        self.own_from = common // unit

    def keys(self, first: int, last: int, unit: int) -> Sequence[int]:
        """Numbers of its blocks from `first` up to `last`."""
        if self.tokens is None:
            return range(self.base + (first + 1) * unit, self.base + last * unit + 1, unit)
        self.tokens.prefix(last)
        return self.tokens.units[first:last]

    def key(self, place: int, unit: int) -> int:
        """Number of one of them."""
        return self.base + (place + 1) * unit if self.tokens is None else self.tokens.prefix(place + 1)


def common_tokens(request: Request) -> int:
    """Tokens that come before the first one of a segment that no other request has."""
    found = 0
    for segment, tokens in request.prompt:
        if segment is None:
            return found
        found += tokens
    return found if request.output_segment is None else _FAR


class EventScheduler:
    """The scheduler of one engine; `run` is its only public method. lag: steps from a batch to its tokens."""

    def __init__(self, rules: Rules, num_blocks: int, block_size: int, watermark: int, *, keeps_prefixes: bool) -> None:
        self.rules = rules
        self.size = block_size
        self.watermark = watermark
        self.keeps_prefixes = keeps_prefixes
        self.lag = rules.batches - 1
        self.pool = RunPool(num_blocks)
        self.tally = Tally()
        self.hits: dict[Hashable, int] = {}
        self._paths = Paths()
        self._waiting: deque[Job] = deque()
        self._running: dict[Job, None] = {}
        self._ring: list[dict[Job, None]] = [{} for _ in range(block_size)]
        self._ends: defaultdict[int, dict[Job, None]] = defaultdict(dict)
        self._end_steps: list[int] = []
        self._chunk: Job | None = None
        self._decoding = 0
        self._preempted: list[Job] = []
        self._blocked: tuple[Job, int, int] | None = None

    def run(
        self, requests: Iterable[Request], told: Turn | None = None, progress: Callable[[int], None] | None = None
    ) -> None:
        """All requests, in order of arrival; told: called with each step. progress: called with the requests so far."""
        arrivals = _Arrivals(requests, self, progress)
        step = flush = 0
        while True:
            if not (self._waiting or self._running or flush):
                if arrivals.step == _FAR:
                    break
                step = max(step, arrivals.step)
            if arrivals.step <= step:
                arrivals.until(step)
            busy = bool(self._waiting or self._running)
            flush = self.lag * 2 if busy else flush - 1
            scheduled = self._turn(step)
            used = self.pool.num_blocks - self.pool.free
            running, waiting = len(self._running), len(self._waiting)
            preempted = self._preempted
            self._update(step)
            self.tally.turns(1, used, running, waiting)
            self.tally.scheduled_tokens += scheduled
            if told is not None:
                after = self.pool.num_blocks - self.pool.free
                told(step, 1, used, running, waiting, [job.id for job in preempted], scheduled, after)
            step += 1
            if preempted or not self._goes_on():
                continue
            alike = min(self._next_event(step), arrivals.step) - step
            if alike > 0:
                if alike > _FAR >> 1:
                    self.tally.stalled = True
                    break
                self._skip(step, alike, told)
                step += alike
        self.tally.last_step = step - 1
        self.tally.evicted_blocks = self.pool.evicted

    def add(self, request: Request) -> None:
        """Adds an arriving request."""
        job = Job(request, self.rules.max_model_len, self._paths, self.size)
        self.tally.requests += 1
        self.tally.prompt_tokens += job.known
        self.tally.output_tokens += job.most - job.known
        self._waiting.append(job)

    # a step

    def _turn(self, step: int) -> int:
        """Schedule a batch; its tokens."""
        self._preempted = []
        leaving = self._ends.get(step) if self.lag else None
        if leaving:
            for job in leaving:
                del self._ring[job.slot][job]
            self._decoding -= len(leaving)
        pool, slot = self.pool, step % self.size
        due = self._ring[slot]
        scheduled = self._decoding
        if due:
            if len(due) <= pool.free:
                pool.take(len(due))
            else:
                scheduled = self._take_in_turn(list(due), step)
        if self.keeps_prefixes:
            self._register_due(step)
        budget = self.rules.max_num_batched_tokens - scheduled
        chunk = self._chunk
        if chunk is not None and budget > 0 and not self._preempted:
            budget -= self._read_on(chunk, budget, step)
        if budget > 0 and self._waiting and not self._preempted:
            budget = self._admit(budget, step)
        return self.rules.max_num_batched_tokens - budget

    def _take_in_turn(self, due: list[Job], step: int) -> int:
        """A block for each in turn, from the last running request if none is free; requests that got a token."""
        for job in due:
            while not self.pool.free and job in self._running:
                self._preempt(next(reversed(self._running)), step)
            if job not in self._running:
                break
            self.pool.take(1)
        return self._decoding

    def _register_due(self, step: int) -> None:
        """Register the blocks filled by this step, or by the previous one if tokens come a step later."""
        size, pool, written = self.size, self.pool, step - self.lag
        for job in self._ring[(step + 1 - self.lag) % size]:
            place = len(job.table) + job.own
            if (place + 1) * size != job.known + written - job.read:
                continue
            if place >= job.own_from:
                job.own += 1
            else:
                pool.register((job.key(place, size),), job.table)

    def _register(self, job: Job, last: int) -> None:
        """Register its blocks up to `last`."""
        if not self.keeps_prefixes:
            return
        named = min(last, job.own_from)
        if named > len(job.table):
            self.pool.register(job.keys(len(job.table), named, self.size), job.table)
        job.own = max(0, last - named)

    def _computed(self, job: Job, step: int) -> int:
        """Tokens whose cache is written before a step."""
        return job.computed if job is self._chunk else job.known + step - job.read - 1

    def _preempt(self, job: Job, step: int) -> None:
        computed = self._computed(job, step)
        del self._running[job]
        if job.own:
            first = len(job.table)
            self.pool.register(job.keys(first, first + job.own, self.size), job.table)
            job.own = 0
        job.own_from = _FAR
        self.pool.release(job.table, 0, ceil_div(computed, self.size) - len(job.table))
        if job is self._chunk:
            self._chunk = None
        else:
            if self._ring[job.slot].pop(job, self) is None:
                self._decoding -= 1
            del self._ends[job.last][job]
            job.known = computed + 1
        job.table = []
        job.computed = 0
        self._waiting.appendleft(job)
        self._preempted.append(job)
        self.tally.preemptions += 1

    def _read_on(self, job: Job, budget: int, step: int) -> int:
        """The next chunk of the prompt being read; its tokens, 0 if it had to give up its blocks."""
        tokens = min(budget, job.known - job.computed)
        after = job.computed + tokens
        needed = ceil_div(after, self.size) - ceil_div(job.computed, self.size)
        if needed > self.pool.free:
            self._preempt(job, step)
            return 0
        self._computes(job, after, needed, step)
        return tokens

    def _computes(self, job: Job, after: int, needed: int, step: int) -> None:
        """Take blocks for a prompt up to `after` tokens."""
        self.pool.take(needed)
        job.computed = after
        self._register(job, after // self.size)
        if after < job.known:
            self._chunk = job
            return
        if self._chunk is job:
            self._chunk = None
        job.read = step
        job.slot = (step + 1 - job.known) % self.size
        job.last = step + job.most - job.known - 1 + self.lag
        self._ring[job.slot][job] = None
        self._decoding += 1
        if not self._ends[job.last]:
            heappush(self._end_steps, job.last)
        self._ends[job.last][job] = None

    def _admit(self, budget: int, step: int) -> int:
        """Requests from the head of the queue, as long as there are tokens, places and blocks; tokens left."""
        rules, size, pool = self.rules, self.size, self.pool
        while budget > 0 and self._waiting and len(self._running) < rules.max_num_seqs:
            job = self._waiting[0]
            if self._is_still_blocked(job):
                break
            self._blocked = None
            hits = self._find(job) if self.keeps_prefixes else []
            computed = len(hits) * size
            tokens = job.known - computed
            if tokens > budget and not rules.enable_chunked_prefill:
                break
            tokens = min(tokens, budget)
            held = pool.idle(hits) - len(hits) + (self.watermark if self._running else 0)
            needed = ceil_div(computed + tokens, size)
            whole = ceil_div(job.known, size) if rules.scheduler_reserve_full_isl else needed
            if whole + held > pool.free:
                self._blocked = (job, pool.releases, len(hits))
                break
            self._waiting.popleft()
            self._running[job] = None
            pool.hold(hits)
            job.table = hits
            self.tally.admitted(computed, step - job.arrival, first=job.new)
            if job.new:
                job.new = False
                self.hits[job.id] = computed
            self._computes(job, computed + tokens, needed - len(hits), step)
            budget -= tokens
        return budget

    def _is_still_blocked(self, job: Job) -> bool:
        """Whether nothing changed for the head of the queue: no block freed, no more of its prefix registered."""
        if self._blocked is None or self._blocked[:2] != (job, self.pool.releases):
            return False
        hits = self._blocked[2]
        more = self.keeps_prefixes and hits < (job.known - 1) // self.size
        return not (more and self.pool.find(job.key(hits, self.size)) is not None)

    def _find(self, job: Job) -> list[int]:
        """Registered blocks of its prefix, up to all but its last token."""
        most = min((job.known - 1) // self.size, job.own_from)
        return self.pool.find_all(job.keys(0, most, self.size)) if most else []

    def _update(self, step: int) -> None:
        """End the requests that end with this step."""
        if self.lag:
            for job in self._preempted:
                if job.known >= job.most:
                    self._waiting.remove(job)
                    self._count(job, step)
        ending = self._ends.pop(step, None)
        if ending is None:
            return
        for job in ending:
            if not self.lag:
                del self._ring[job.slot][job]
                self._decoding -= 1
            del self._running[job]
            self._free(job)
            self._count(job, step)

    def _free(self, job: Job) -> None:
        size, written = self.size, job.most - 1
        self._register(job, written // size)
        self.pool.release(job.table, job.own, ceil_div(written, size) - len(job.table) - job.own)
        job.table = []

    def _count(self, job: Job, step: int) -> None:
        self.tally.finished += 1
        self.tally.spans[step - job.arrival] += 1

    # steps alike

    def _goes_on(self) -> bool:
        """Whether running requests continue alone: no prompt is read, and none can be."""
        if self._chunk is not None or not (self._running or self._waiting):
            return False
        full = len(self._running) >= self.rules.max_num_seqs
        return full or not self._waiting or self._is_still_blocked(self._waiting[0])

    def _next_event(self, step: int) -> int:
        """The first step, from this one on, at which a block is due or filled, or a request ends."""
        while self._end_steps and not self._ends.get(self._end_steps[0]):
            self._ends.pop(heappop(self._end_steps), None)
        ends = self._end_steps[0] if self._end_steps else _FAR
        ahead = 1 - self.lag
        ring, size = self._ring, self.size
        for distance in range(size):
            if ring[(step + distance) % size] or (ahead and ring[(step + distance + 1) % size]):
                return min(ends, step + distance)
        return ends

    def _skip(self, step: int, count: int, told: Turn | None) -> None:
        """Advance by steps in which each running request gets a token and nothing else happens."""
        used = self.pool.num_blocks - self.pool.free
        running, waiting = len(self._running), len(self._waiting)
        self.tally.turns(count, used, running, waiting)
        self.tally.scheduled_tokens += count * self._decoding
        if told is not None:
            told(step, count, used, running, waiting, (), self._decoding, used)


class _Arrivals:
    """Requests in order of arrival. step: of the next arrival."""

    def __init__(
        self, requests: Iterable[Request], scheduler: EventScheduler, progress: Callable[[int], None] | None
    ) -> None:
        self._requests: Iterator[Request] = iter(requests)
        self._scheduler = scheduler
        self._progress = progress
        self._next = next(self._requests, None)

    @property
    def step(self) -> int:
        return _FAR if self._next is None else self._next.arrival_step

    def until(self, step: int) -> None:
        """Queue the requests that have arrived by a step."""
        scheduler = self._scheduler
        tally = scheduler.tally
        while self._next is not None and self._next.arrival_step <= step:
            request = self._next
            scheduler.add(request)
            self._next = next(self._requests, None)
            if self._progress is not None and not tally.requests % _TOLD_EVERY:
                self._progress(tally.requests)
