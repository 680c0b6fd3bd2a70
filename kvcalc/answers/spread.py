"""Work in parts, here or spread over any executor of concurrent.futures: processes, or a cluster of machines.

Results come in the order of their parts, and only so many are under way at a time, so that memory is bounded whatever
there is to do. A part whose worker is lost is done here; a part that is refused raises what refused it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import TypeVar

from kvcalc.errors import KvcalcError

Part = TypeVar("Part")
Result = TypeVar("Result")

UNDER_WAY = 64
"""Parts that are handed out at a time: enough for the workers of some machines."""


def spread(
    function: Callable[[Part], Result],
    parts: Iterable[Part],
    executor: Executor | None = None,
    *,
    under_way: int = UNDER_WAY,
) -> Iterator[Result]:
    """The function's result for each part, in their order. function, parts: what can be sent to another process."""
    if executor is None:
        yield from map(function, parts)
        return
    waiting: deque[tuple[Part, Future[Result] | None]] = deque()
    try:
        for part in parts:
            waiting.append((part, _handed_out(function, part, executor)))
            if len(waiting) >= under_way:
                yield _done(function, *waiting.popleft())
        while waiting:
            yield _done(function, *waiting.popleft())
    finally:
        for _, future in waiting:
            if future is not None:
                future.cancel()


def _handed_out(function: Callable[[Part], Result], part: Part, executor: Executor) -> Future[Result] | None:
    """The part's result to come; None where the executor takes none any more."""
    try:
        return executor.submit(function, part)
    except RuntimeError:
        return None


def _done(function: Callable[[Part], Result], part: Part, future: Future[Result] | None) -> Result:
    """The result; done here where its worker did not bring it. An error of the part itself is raised by that, too."""
    if future is None:
        return function(part)
    try:
        return future.result()
    except KvcalcError:
        raise
    except Exception:
        return function(part)
