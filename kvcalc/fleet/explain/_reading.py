"""What a log or a server says of its cache, as text that was printed, and how an engine's file judges it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from typing import NamedTuple

from kvcalc.model import Model
from kvcalc.parallel import Parallel
from kvcalc.report.log import Compared, Room, Way
from kvcalc.report.sheet import Json
from kvcalc.units import GIB, KIB, MIB

_UNITS = {"GiB": GIB, "GB": GIB, "MiB": MIB, "MB": MIB, "KiB": KIB}
"""Engines that print GB and MB mean binary units by it."""
MOST_WAYS = 3
"""Ways out of an error that are named."""


class Printed(NamedTuple):
    """A number as a log prints it. text: its digits; unit: GiB, MiB, or empty for a count; line: where it stands."""

    text: str
    unit: str
    line: int

    @property
    def value(self) -> Fraction:
        """In bytes, or as a count."""
        return Fraction(self.text.replace(",", "")) * _UNITS.get(self.unit, 1)

    @property
    def rounding(self) -> Fraction:
        """Half of the last digit: how far the exact number may be away."""
        decimals = len(self.text.partition(".")[2])
        return Fraction(_UNITS.get(self.unit, 1), 2 * 10**decimals) if "." in self.text else Fraction(0)

    @property
    def least(self) -> int:
        """The smallest whole number that is printed so; no less than 0."""
        return max(0, -int(-(self.value - self.rounding) // 1))

    @property
    def most(self) -> int:
        """The largest whole number that is printed so; no less than 0."""
        return max(0, int((self.value + self.rounding) // 1))

    def is_print_of(self, number: int | Fraction) -> bool:
        """Whether `number` may have been printed so."""
        return abs(self.value - number) <= self.rounding

    def shown(self, number: int | Fraction) -> str:
        """`number` in the same unit, with as many digits."""
        decimals = len(self.text.partition(".")[2])
        return f"{float(Fraction(number) / _UNITS.get(self.unit, 1)):,.{decimals}f} {self.unit}".strip()

    def compared(self, what: str, number: int | Fraction, *, decides: bool = True) -> Compared:
        """This number beside the predicted one."""
        equal = self.is_print_of(number)
        return Compared(what, str(self), self.shown(number), equal, self.line, decides and self.decides)

    @property
    def decides(self) -> bool:
        """Whether another number would be printed otherwise; everything that is small enough is printed as 0.00."""
        return self.value > self.rounding

    def __str__(self) -> str:
        return f"{self.text} {self.unit}".strip()


class Refusal(NamedTuple):
    """An error that ended a start-up. words: its name; line: where it stands; numbers: that it states, by name.

    Their names are those below, and what an engine's two files agree on.
    """

    words: str
    line: int
    numbers: Mapping[str, Printed] = {}


NEEDED, AVAILABLE, LENGTH, LONGEST, STORED = "needed", "available", "length", "longest", "stored tokens"
"""Numbers of a refusal: bytes that a request needs and that there are, its tokens, and those that would fit."""


class Load(NamedTuple):
    """What a running server holds. used: blocks or tokens in use, or a share, by name; running, waiting: requests."""

    used: Mapping[str, Printed] = {}
    running: int | None = None
    waiting: int | None = None


class Reading(NamedTuple):
    """What a log says of its cache.

    caches: one for each cache that it reports, its numbers by name. settings: by the engine's names. ranks: degrees of
    parallelism. model: what the log calls the model, where it does. heard: ranks that stated their memory.
    weights_bytes, reserve_bytes: what lies beside the cache, of the whole model and on each GPU, which no log says and
    a user may. refusal: the error that ended the start-up. load: what a server holds that runs.
    metadata: what the model is made of, as a GGUF file has it, where a server says.
    device: numbers that say how large the GPU is, and what was free. notes: what was seen and is not judged.
    """

    engine: str
    caches: tuple[Mapping[str, Printed], ...]
    settings: Mapping[str, Json]
    ranks: Mapping[str, int]
    model: str = ""
    weights_bytes: int | None = None
    reserve_bytes: int = 0
    refusal: Refusal | None = None
    load: Load | None = None
    device: Mapping[str, Printed] = {}
    heard: int = 0
    notes: tuple[str, ...] = ()
    metadata: Mapping[str, object] = {}

    def numbers(self) -> dict[str, Printed]:
        """The numbers of all caches as one."""
        return {name: printed for cache in self.caches for name, printed in cache.items()}


Settings = Mapping[str, Json]
Judge = Callable[[Model, Reading, Settings, Parallel], tuple[Compared, ...]]


def _no_ways(model: Model, reading: Reading, settings: Settings, ranks: Parallel) -> Iterator[Way]:
    del model, reading, settings, ranks
    yield from ()


def _no_room(model: Model, reading: Reading, settings: Settings, ranks: Parallel) -> Room | None:
    del model, reading, settings, ranks
    return None


def _no_excuse(model: Model, reading: Reading, settings: Settings, ranks: Parallel) -> str:
    del model, reading, settings, ranks
    return ""


class Explainer(NamedTuple):
    """How an engine's log is compared, and what may explain a difference.

    compare: the logged numbers beside the predicted ones. others: settings that change a cache and that a log may not
    say, each with the values to try. of_weights: those that matter only where the cache's memory is worked out from
    weights; none where it never is. ranks: which degrees of parallelism to try. given: numbers of a reading that are
    asked with, not predicted. undecided: why no number of a log decides anything, and what would.
    ways: out of an error, the cheapest first. room: what a running server still takes. excuse: why numbers may differ
    although the prediction is right, in words; empty where nothing says so.
    """

    compare: Judge
    others: Mapping[str, tuple[Json, ...]]
    ranks: Mapping[str, tuple[int, ...]]
    undecided: str
    given: tuple[str, ...] = ()
    of_weights: Mapping[str, tuple[Json, ...]] = {}
    ways: Callable[[Model, Reading, Settings, Parallel], Iterator[Way]] = _no_ways
    room: Callable[[Model, Reading, Settings, Parallel], Room | None] = _no_room
    excuse: Callable[[Model, Reading, Settings, Parallel], str] = _no_excuse
