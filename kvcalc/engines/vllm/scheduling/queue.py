"""Waiting requests: first come, first served, or by priority.

Source: vLLM, v1/core/sched/request_queue.py.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Iterable

from kvcalc.engines.vllm.scheduling.sequence import Sequence as Running


class Arrivals:
    """In order of arrival; a preempted request goes first."""

    def __init__(self) -> None:
        self._waiting: deque[Running] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, request: Running) -> None:
        """Add an arriving request."""
        self._waiting.append(request)

    def put_back(self, requests: Iterable[Running]) -> None:
        """Put requests back at the front, the last of them first."""
        self._waiting.extendleft(requests)

    def first(self) -> Running:
        """The next one."""
        return self._waiting[0]

    def pop(self) -> Running:
        """Remove and return the next one."""
        return self._waiting.popleft()

    def remove(self, request: Running) -> None:
        """Remove a request that ended while waiting."""
        self._waiting.remove(request)


class Priorities(Arrivals):
    """By priority, then by arrival; a preempted request keeps its place."""

    def __init__(self) -> None:
        super().__init__()
        self._sorted: list[Running] = []

    def __len__(self) -> int:
        return len(self._sorted)

    def add(self, request: Running) -> None:  # noqa: D102
        insort(self._sorted, request, key=_last_first)

    def put_back(self, requests: Iterable[Running]) -> None:  # noqa: D102
        for request in requests:
            self.add(request)

    def first(self) -> Running:  # noqa: D102
        return self._sorted[-1]

    def pop(self) -> Running:  # noqa: D102
        return self._sorted.pop()

    def remove(self, request: Running) -> None:  # noqa: D102
        self._sorted.remove(request)


def _last_first(request: Running) -> tuple[float, float, int]:
    return (-request.order[0], -request.order[1], -request.number)
