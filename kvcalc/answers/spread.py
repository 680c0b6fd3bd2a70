"""Work in parts, in this process or on any executor of concurrent.futures: processes, or a cluster.

Results come in the order of their parts, and only a limited number is in flight, so that memory is bounded whatever
there is to do. A part that its worker does not bring is done here, and `Redone` says so; a part that is refused raises
what refused it, with its words and its place.
"""

from __future__ import annotations

import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import Generic, NamedTuple, TypeVar

from kvcalc.errors import KvcalcError
from kvcalc.errors.foreign import listed
from kvcalc.units import count, plural

Part = TypeVar("Part")
Result = TypeVar("Result")

UNDER_WAY = 64
"""Parts in flight: enough for the workers of several machines."""


class Redone:
    """Parts that failed on workers and were done here instead. parts: all of them; failed: how many, by what failed."""

    def __init__(self) -> None:
        self.parts = 0
        self.failed: Counter[str] = Counter()

    def add(self, error: BaseException) -> None:
        """One more, with what its worker or its executor raised: only its kind, since the message is foreign text."""
        self.failed[type(error).__name__] += 1

    @property
    def notes(self) -> tuple[str, ...]:
        """What failed, in a sentence; empty where nothing did."""
        if not self.failed:
            return ()
        parts = f"{count(self.failed.total())} of {plural(self.parts, 'part')}"
        return (f"{parts} failed on workers ({listed(list(self.failed))}) and had to be computed on this machine",)

    def warn(self) -> None:
        """Say it where an answer has no notes."""
        for note in self.notes:
            warnings.warn(note, RuntimeWarning, stacklevel=3)


class _Refused(NamedTuple):
    """A part that is refused: an error as a value, which reaches the caller as it was raised."""

    error: KvcalcError


class _Handed(NamedTuple, Generic[Part, Result]):
    """A part and its result to come; None if the executor accepts no more."""

    part: Part
    cost: int
    future: Future[Result | _Refused] | None


def spread(
    function: Callable[[Part], Result],
    parts: Iterable[Part],
    executor: Executor | None = None,
    redone: Redone | None = None,
    *,
    under_way: int = UNDER_WAY,
    cost: Callable[[Part], int] = lambda _part: 1,
) -> Iterator[Result]:
    """The function's result for each part, in order. function, parts: must be picklable.

    redone: called with parts whose workers failed. under_way: of parts that are handed out, by what each costs; a part
    that costs more than that goes alone.
    """
    if executor is None:
        yield from map(function, parts)
        return
    noted = Redone() if redone is None else redone
    waiting: deque[_Handed[Part, Result]] = deque()
    held = 0
    try:
        for part in parts:
            each = cost(part)
            while waiting and held + each > under_way:
                held -= waiting[0].cost
                yield _done(function, waiting.popleft(), noted)
            waiting.append(_Handed(part, each, _handed_out(function, part, executor, noted)))
            held += each
        while waiting:
            yield _done(function, waiting.popleft(), noted)
    finally:
        for each_handed in waiting:
            if each_handed.future is not None:
                each_handed.future.cancel()


def _handed_out(
    function: Callable[[Part], Result], part: Part, executor: Executor, redone: Redone
) -> Future[Result | _Refused] | None:
    """The part's result to come; None if the executor accepts no more, for any reason."""
    redone.parts += 1
    try:
        return executor.submit(_attempt, function, part)
    except Exception as error:
        redone.add(error)
        return None


def _attempt(function: Callable[[Part], Result], part: Part) -> Result | _Refused:
    """A part, on a worker."""
    try:
        return function(part)
    except KvcalcError as error:
        return _Refused(error)


def _done(function: Callable[[Part], Result], handed: _Handed[Part, Result], redone: Redone) -> Result:
    """The result; done here where its worker did not bring it, and what is wrong with the part itself is raised."""
    if handed.future is None:
        return function(handed.part)
    try:
        found = handed.future.result()
    except Exception as error:
        redone.add(error)
        return function(handed.part)
    if isinstance(found, _Refused):
        raise found.error
    return found
