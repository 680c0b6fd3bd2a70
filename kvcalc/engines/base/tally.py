"""Counts of a replay, for single steps or many at once: sums and distributions, never a list of all steps."""

from __future__ import annotations

from collections import Counter


class Tally:
    """Counts of a replay. Each counter maps a number to its frequency.

    used: blocks in use, by steps. waits: steps from a request's arrival to its first admission, by requests.
    spans: steps from arrival to the last token, by requests. waiting_steps: total steps that requests waited.
    """

    def __init__(self) -> None:
        self.used: Counter[int] = Counter()
        self.waits: Counter[int] = Counter()
        self.spans: Counter[int] = Counter()
        self.steps = self.last_step = self.requests = self.finished = self.admissions = 0
        self.preemptions = self.evicted_blocks = self.scheduled_tokens = 0
        self.prompt_tokens = self.output_tokens = self.hit_tokens_first = self.hit_tokens_all = 0
        self.peak_running = self.peak_waiting = self.running_steps = self.waiting_steps = 0
        self.stalled = False

    def turns(self, count: int, used: int, running: int, waiting: int) -> None:
        """Adds a number of steps with the same use."""
        self.steps += count
        self.used[used] += count
        self.running_steps += count * running
        self.waiting_steps += count * waiting
        self.peak_running = max(self.peak_running, running)
        self.peak_waiting = max(self.peak_waiting, waiting)

    def admitted(self, hit_tokens: int, wait: int, *, first: bool) -> None:
        """Adds a request that starts to run, for the first time or after a preemption."""
        self.admissions += 1
        self.hit_tokens_all += hit_tokens
        if first:
            self.hit_tokens_first += hit_tokens
            self.waits[wait] += 1
