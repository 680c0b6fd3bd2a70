"""vLLM's scheduler: which requests compute how many tokens in a step.

It does not separate prefill and decode: each request has known and computed tokens, and a step distributes a budget of
tokens, first to running requests in order of admission, then to waiting ones. If blocks are missing, the last running
request is preempted.
Source: vLLM, v1/core/sched/scheduler.py, async_scheduler.py, v1/engine/core.py (step_with_batch_queue).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Mapping
from typing import NamedTuple

from kvcalc.engines.base.tokens import Paths, Tokens
from kvcalc.engines.base.traffic import Admission, Request
from kvcalc.engines.vllm.scheduling.cache import Cache
from kvcalc.engines.vllm.scheduling.events import EventScheduler
from kvcalc.engines.vllm.scheduling.prefixes import Hit
from kvcalc.engines.vllm.scheduling.queue import Arrivals, Priorities
from kvcalc.engines.vllm.scheduling.sequence import Sequence as Running
from kvcalc.engines.vllm.scheduling.settings import Rules
from kvcalc.engines.vllm.scheduling.states import Checkpoints
from kvcalc.engines.vllm.scheduling.tables import FullTable
from kvcalc.report.replay import Step

_CALM = 3
"""Steps after which a generating request has only single tokens in flight."""


class Share(NamedTuple):
    """A request's part of a step. drafts: its tokens to be verified. samples: whether it yields a token.

    padded: whether its drafts only fill the batch, and none is accepted.
    """

    request: Running
    tokens: int
    drafts: int
    samples: bool
    padded: bool = False


class VllmScheduler:
    """The running scheduler of one engine."""

    def __init__(
        self, rules: Rules, cache: Cache, checkpoints: Checkpoints | None, unit_tokens: int, block_bytes: int
    ) -> None:
        self.rules = rules
        self.settings: Mapping[str, object] = rules.by_name
        self.max_model_len = rules.max_model_len
        self.max_requests = rules.max_num_seqs
        self.block_bytes = block_bytes
        only = cache.tables[0] if len(cache.tables) == 1 else None
        self.block_size = only.block_size if isinstance(only, FullTable) else None
        self.cache = cache
        self.checkpoints = checkpoints
        self.num_blocks = cache.pool.num_blocks
        self.admissions: list[Admission] = []
        self.waiting: Arrivals = Priorities() if rules.by_priority else Arrivals()
        self.running: list[Running] = []
        self._paths = Paths()
        self._unit = unit_tokens
        self._added = 0
        self._unfinished = 0
        self._ended: list[Hashable] = []
        self._in_flight: deque[list[Share]] = deque()
        self._number = 0
        self._shares: dict[Running, Share] = {}
        self._budget = 0
        self._ran_before = self._idle_turn = False
        self._guesses = bool(rules.num_speculative_tokens)
        self._preempted: list[Running] = []

    @property
    def busy(self) -> bool:
        """Whether a request is unfinished, or a batch is in flight."""
        return bool(self._unfinished or self._in_flight or (self.rules.batches > 1 and self._ended))

    @property
    def stuck(self) -> bool:
        """Whether requests wait, and no running one would make room for them."""
        return self._idle_turn and not self.running and not any(self._in_flight)

    def by_events(self) -> EventScheduler | None:
        """The same by events, if one group of full attention is served in order of arrival."""
        table, rules = self.cache.tables[0], self.rules
        plain = len(self.cache.tables) == 1 and isinstance(table, FullTable) and not rules.by_priority
        whole = not (rules.num_speculative_tokens or rules.long_prefill_token_threshold)
        if not (plain and whole and rules.max_num_seqs <= rules.max_num_batched_tokens):
            return None
        keeps = self.cache.reach.keeps_prefixes
        watermark = self.cache.watermark_blocks
        return EventScheduler(rules, self.num_blocks, table.block_size, watermark, keeps_prefixes=keeps)

    def held_blocks(self, tokens: int) -> int:
        """Blocks that a generating request holds once this many of its tokens are written."""
        before = tokens - self.rules.batches  # what is done of it: all but the batches in flight
        return sum(table.held_blocks(tokens, max(0, before)) for table in self.cache.tables)

    def shared_blocks(self, tokens: int) -> int:
        """Blocks of a prefix common to all requests: of full attention, as far as a hit reaches."""
        hit = self.shared_tokens(tokens)
        return sum(hit // table.block_size for table in self.cache.tables if isinstance(table, FullTable))

    def shared_tokens(self, tokens: int) -> int:
        """Tokens of it that a hit reaches, if a group of full attention keeps them."""
        reach = self.cache.reach
        full = any(isinstance(table, FullTable) for table in self.cache.tables)
        return tokens // reach.step_tokens * reach.step_tokens if reach.keeps_prefixes and full else 0

    def kept_blocks(self, prompt: int, tokens: int) -> int:
        """Cached blocks of a finished request that its next turn reuses: as far as all groups are kept."""
        if not self.cache.reach.keeps_prefixes:
            return 0
        return sum(table.kept_blocks(self.resumed_tokens(prompt, tokens)) for table in self.cache.tables)

    def kept_tokens(self, prompt: int, tokens: int) -> int:
        """Tokens of a finished request that its next turn hits."""
        return self.resumed_tokens(prompt, tokens) if self.cache.reach.keeps_prefixes else 0

    def resumed_tokens(self, prompt: int, tokens: int) -> int:
        """Tokens that the next turn hits: only the prompt's if windows or states are kept only at its end."""
        reach = self.cache.reach
        sparse = reach.interval is not None and any(table.is_sparse for table in self.cache.tables)
        end = (prompt - (not reach.drops_last)) // reach.hit_tokens if sparse else tokens // reach.hit_tokens
        if sparse and reach.interval:
            end = max(end, tokens // reach.interval * reach.interval // reach.hit_tokens)
        return max(0, end - reach.drops_last) * reach.hit_tokens

    def add(self, request: Request) -> None:
        """Add a request that arrives before the next step."""
        tokens = Tokens(self._paths, request.prompt, request.output_segment, self._unit)
        self.waiting.add(Running(request, self._added, tokens, len(self.cache.tables)))
        self._added += 1
        self._unfinished += 1

    def step(self, number: int, *, counts_groups: bool = True) -> Step:
        """Schedule a batch, and take the tokens of the oldest one in flight."""
        self._number = number
        evicted = self.cache.pool.evicted
        self._preempted = []
        batch: list[Share] = []
        asks = bool(self._unfinished or self._ended)
        if asks:
            batch = self._schedule()
            self._in_flight.append(batch)
        used = self.cache.pool.used
        blocks = self.cache.group_blocks(self.running) if asks and counts_groups else None
        running, waiting = len(self.running), len(self.waiting)
        finished: list[Hashable] = []
        room = asks and len(self._in_flight) < self.rules.batches
        if not (room and (batch or self._unfinished)):
            finished = self._update(self._in_flight.popleft())
        self._idle_turn = not batch and not finished and not self._preempted
        return Step(
            number,
            used,
            running,
            waiting,
            tuple(request.id for request in self._preempted),
            sum(share.tokens for share in batch),
            self.cache.pool.used,
            blocks,
            self.cache.pool.evicted - evicted,
            tuple(finished),
            {share.request.id: share.tokens for share in batch},
        )

    # a batch

    def _schedule(self) -> list[Share]:
        rules = self.rules
        self.cache.start_step()
        self._ended = []
        self._shares = {}
        self._budget = rules.max_num_batched_tokens
        alone = len(self.running) + len(self.waiting) <= 1
        threshold = 0 if alone else rules.long_prefill_token_threshold
        reads = self._schedule_running(threshold)
        self._ran_before = bool(self._shares)
        if not self._preempted:
            self._admit(threshold, reads=reads)
        self.cache.end_scheduling()
        batch = list(self._shares.values())
        for share in batch:
            self._advance(share)
        return [share._replace(samples=not share.request.is_chunk) for share in batch]

    def _schedule_running(self, threshold: int) -> bool:
        """Whether a prompt was read further."""
        place, reads = 0, False
        while place < len(self.running) and self._budget > 0:
            request = self.running[place]
            tokens = self._next_tokens(request, threshold)
            if not tokens:
                place += 1
                continue
            if not self._make_room(request, tokens):
                break
            place = self.running.index(request) if self.rules.by_priority else place
            reads |= request.is_chunk
            drafts = max(0, tokens + request.computed - request.known - request.placeholders) if request.drafts else 0
            request.drafts = 0
            self._shares[request] = Share(request, tokens, drafts, samples=False)
            self._budget -= tokens
            place += 1
        return reads

    def _next_tokens(self, request: Running, threshold: int) -> int:
        """Tokens that a running request computes next; 0: none in this step."""
        if request.placeholders and request.computed + 2 - request.placeholders >= request.most_tokens:
            return 0
        tokens = request.known + request.drafts + request.placeholders - request.computed
        if 0 < threshold < tokens:
            tokens = threshold
        tokens = min(tokens, self._budget, self.rules.max_model_len - request.computed - 1)
        return self._aligned(request, tokens, request.computed)

    def _make_room(self, request: Running, tokens: int) -> bool:
        """Take blocks, from other requests if none are free; False if the request itself had to give up its own."""
        if tokens == 1 and self._is_quiet(request):
            return True
        while not self.cache.allocate(request, tokens, self.rules.lookahead_tokens):
            victim = max(self.running, key=_least_urgent) if self.rules.by_priority else self.running[-1]
            self._preempt(victim)
            if victim is request:
                return False
        return True

    def _is_quiet(self, request: Running) -> bool:
        """Whether one more token cannot change its blocks."""
        return request.calm > _CALM and self.cache.is_quiet(request.computed)

    def _preempt(self, victim: Running) -> None:
        self.running.remove(victim) if self.rules.by_priority else self.running.pop()
        share = self._shares.pop(victim, None)
        if share is not None:
            self._budget += share.tokens
        self.cache.free(victim)
        victim.running = False
        victim.computed = victim.drafts = victim.placeholders = victim.calm = 0
        victim.stale = victim.in_flight
        self.waiting.put_back((victim,))
        self._preempted.append(victim)

    def _admit(self, threshold: int, *, reads: bool) -> None:
        """Requests from the head of the queue, as long as there are tokens, places and blocks."""
        passed: deque[Running] = deque()
        while self._budget > 0 and self.waiting and len(self.running) < self.rules.max_num_seqs:
            request = self.waiting.first()
            if request.stale:
                passed.appendleft(self.waiting.pop())
                continue
            hit = self.cache.find(request)
            request.junction = hit.longest if hit.longest > hit.tokens else 0
            share = self._first_share(request, hit, threshold, reads=reads)
            if share is None or not self._has_blocks(request, hit, share.tokens):
                break
            self.waiting.pop()
            self.running.append(request)
            request.running = True
            request.computed = hit.tokens
            self.admissions.append(Admission(self._number, request.id, hit.tokens))
            self._shares[request] = share
            self._budget -= share.tokens
        self.waiting.put_back(passed)

    def _has_blocks(self, request: Running, hit: Hit, tokens: int) -> bool:
        return self.cache.allocate(
            request,
            tokens,
            self.rules.lookahead_tokens,
            hit,
            whole=self.rules.scheduler_reserve_full_isl,
            others=bool(self.running),
        )

    def _first_share(self, request: Running, hit: Hit, threshold: int, *, reads: bool) -> Share | None:
        """Tokens that an admitted request computes first; None if it has to wait."""
        rules, tokens, drafts = self.rules, request.known - hit.tokens, 0
        pads = rules.num_speculative_tokens and tokens == 1 and not reads and (self._ran_before or hit.tokens)
        if pads and hit.tokens + 1 + rules.num_speculative_tokens + 1 <= rules.max_model_len:
            drafts = rules.num_speculative_tokens
            tokens = 1 + drafts
            if tokens > self._budget:
                return None
        if 0 < threshold < tokens:
            tokens = threshold
        if tokens > self._budget and not rules.enable_chunked_prefill:
            return None
        tokens = self._aligned(request, min(tokens, self._budget), hit.tokens)
        if drafts and tokens != 1 + drafts and self.checkpoints is not None:
            tokens, drafts = min(tokens, 1), 0
        return Share(request, tokens, drafts, samples=False, padded=bool(drafts)) if tokens else None

    def _advance(self, share: Share) -> None:
        """Count scheduled tokens as computed."""
        request = share.request
        request.computed += share.tokens
        request.in_flight += share.tokens
        request.calm = request.calm + 1 if share.tokens == 1 and not self._guesses else 0
        request.is_chunk = request.computed < request.known + request.placeholders
        if self.rules.batches > 1 and not request.is_chunk:
            request.placeholders += 1 + share.drafts

    # states of prompts

    def _aligned(self, request: Running, tokens: int, start: int) -> int:
        """Tokens of a chunk that ends where a state must be kept."""
        at = self.checkpoints
        end_of_prefill = request.prefill_end
        if at is None or start >= end_of_prefill:
            return tokens
        size, rules = at.block_size, self.rules
        end = start + tokens
        last = at.last(request.known, size)
        fine = rules.partial_hits
        inside = end >= end_of_prefill and at.can_leave(
            start, end, at.last(end_of_prefill, at.unit_tokens if fine else rules.step_tokens)
        )
        if inside:
            last = 0
        if end < end_of_prefill:
            most = min(rules.max_num_batched_tokens, rules.long_prefill_token_threshold or rules.max_num_batched_tokens)
            whole = end // size * size
            if whole > start or size <= most:
                end = whole
        stops = [last]
        if start % size and not inside:
            stops.append((start // size + 1) * size)
        if fine and not inside:
            tail = at.last(request.prompt, at.unit_tokens)
            if last < tail < request.prompt:
                stops.append(tail)
        if start < request.junction < end:
            stops.append(start + (request.junction - start) // size * size)
        return max(min((stop for stop in stops if start < stop < end), default=end) - start, 0)

    # its tokens

    def _update(self, batch: list[Share]) -> list[Hashable]:
        """Give each request its sampled tokens; ids of finished ones."""
        finished: list[Running] = []
        for share in batch:
            request = share.request
            request.in_flight -= share.tokens
            stale = request.stale > 0
            if stale:
                request.stale -= share.tokens
            if request.finished or not share.samples:
                continue
            accepted = 0 if share.padded else self.rules.accepted(request, share.drafts)
            rejected = share.drafts - accepted
            if share.drafts and not stale:
                request.computed -= rejected
                request.placeholders = max(0, request.placeholders - rejected)
            if self._takes(request, accepted + 1, stale=stale):
                finished.append(request)
            elif self.rules.num_speculative_tokens and not request.is_chunk:
                request.drafts = self.rules.num_speculative_tokens
        if finished:
            self.running = [request for request in self.running if not request.finished]
        return [request.id for request in finished]

    def _takes(self, request: Running, tokens: int, *, stale: bool) -> bool:
        """Whether a request ends with these tokens."""
        most = min(request.most_tokens, self.rules.max_model_len)
        new = max(1, min(tokens, most - request.known))
        request.known += new
        ends = request.known >= most
        if self.rules.batches > 1:
            if not stale:
                request.placeholders -= new
            if request.running and not self._is_quiet(request):
                self.cache.register(request, request.computed - request.placeholders)
        if ends:
            self._end(request)
        return ends

    def _end(self, request: Running) -> None:
        request.finished = True
        if not request.running:
            self.waiting.remove(request)
        self.cache.free(request)
        self._unfinished -= 1
        self._ended.append(request.id)


def _least_urgent(request: Running) -> tuple[float, float]:
    return request.order[:2]
