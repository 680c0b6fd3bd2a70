"""What a log or a server prints about its cache, and how an engine's file judges it."""

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
"""Engines that print GB and MB mean binary units."""
MOST_WAYS = 3
"""Number of fixes shown for an error."""


class Printed(NamedTuple):
    """A number as printed in a log. text: its digits; unit: GiB, MiB, or empty for a count; line: in the log.

    decimals: to which it was rounded, if more than it shows, since some engines drop trailing zeros.
    """

    text: str
    unit: str
    line: int
    decimals: int = 0

    @property
    def value(self) -> Fraction:
        """In bytes, or as a count."""
        return Fraction(self.text.replace(",", "")) * _UNITS.get(self.unit, 1)

    @property
    def rounding(self) -> Fraction:
        """Half of the last digit: the largest distance of the exact number."""
        decimals = max(len(self.text.partition(".")[2]), self.decimals)
        return Fraction(_UNITS.get(self.unit, 1), 2 * 10**decimals) if "." in self.text else Fraction(0)

    @property
    def least(self) -> int:
        """The smallest whole number printed like this; at least 0."""
        return max(0, -int(-(self.value - self.rounding) // 1))

    @property
    def most(self) -> int:
        """The largest whole number printed like this; at least 0."""
        return max(0, int((self.value + self.rounding) // 1))

    def is_print_of(self, number: int | Fraction) -> bool:
        """Whether `number` would be printed like this."""
        return abs(self.value - number) <= self.rounding

    def shown(self, number: int | Fraction) -> str:
        """`number` in the same unit, with the same number of digits."""
        decimals = len(self.text.partition(".")[2])
        return f"{float(Fraction(number) / _UNITS.get(self.unit, 1)):,.{decimals}f} {self.unit}".strip()

    def compared(self, what: str, number: int | Fraction, *, decides: bool = True) -> Compared:
        """This number next to the predicted one."""
        equal = self.is_print_of(number)
        return Compared(what, str(self), self.shown(number), equal, self.line, decides and self.decides)

    @property
    def decides(self) -> bool:
        """Whether the printed number is significant; anything small enough is printed as 0.00."""
        return self.value > self.rounding

    def __str__(self) -> str:
        return f"{self.text} {self.unit}".strip()


class Refusal(NamedTuple):
    """An error that ended a start-up. words: its name; line: in the log; numbers: stated by it, by name.

    The names are those below, and others that an engine's two files agree on.
    """

    words: str
    line: int
    numbers: Mapping[str, Printed] = {}


NEEDED, AVAILABLE, LENGTH, LONGEST, STORED = "needed", "available", "length", "longest", "stored tokens"
"""Numbers of a refusal: bytes needed by a request and available, its tokens, and the tokens that would fit."""


class Load(NamedTuple):
    """Load of a running server. used: blocks or tokens in use, or a share, by name; running, waiting: requests."""

    used: Mapping[str, Printed] = {}
    running: int | None = None
    waiting: int | None = None


class Reading(NamedTuple):
    """What a log says about its cache.

    caches: one for each reported cache, its numbers by name. settings: by the engine's names. ranks: degrees of
    parallelism. model: the log's name for the model, if any. heard: ranks that stated their memory. weights_bytes,
    reserve_bytes: of the whole model, and other memory on each GPU; not in logs, given by the user. refusal: the error
    that ended the start-up. load: of a running server. metadata: of the model's GGUF file, if a server reports it.
    device: total and free memory of the GPU. notes: remarks that are not judged. seen: ranks whose names occur, which
    are no fewer than there are. supposed: settings that the form of a log suggests, of which others may be true.
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
    seen: Mapping[str, int] = {}
    supposed: Mapping[str, Json] = {}

    def numbers(self) -> dict[str, Printed]:
        """The numbers of all caches as one."""
        return {name: printed for cache in self.caches for name, printed in cache.items()}

    @property
    def stated(self) -> str:
        """Its numbers, or those of its error, in words; empty for none."""
        found = self.refusal.numbers if self.refusal else self.numbers()
        return ", ".join(f"{name} {printed}" for name, printed in found.items())


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


class Balance(NamedTuple):
    """What a start-up that failed needed, and what it had, in words; empty for what is not known."""

    needed: str = ""
    available: str = ""


def stated_balance(reading: Reading) -> Balance:
    """The balance as an error states it."""
    stated = reading.refusal.numbers if reading.refusal else {}
    of_tokens = f" for {int(stated[LENGTH].value):,} tokens" if LENGTH in stated else ""
    return Balance(
        f"{stated[NEEDED]}{of_tokens}" if NEEDED in stated else "", str(stated.get(AVAILABLE, "")) if stated else ""
    )


def _as_stated(model: Model, reading: Reading, settings: Settings, ranks: Parallel) -> Balance:
    del model, settings, ranks
    return stated_balance(reading)


class Alone(NamedTuple):
    """An error that concerns no model: its numbers, and its fixes."""

    compared: tuple[Compared, ...]
    ways: tuple[Way, ...]


def _no_unnamed(reading: Reading) -> tuple[Way, ...]:
    del reading
    return ()


def _not_alone(reading: Reading) -> Alone | None:
    del reading
    return None


class Explainer(NamedTuple):
    """How an engine's log is compared, and what can explain a difference.

    undecided: why no number of the log is evidence, and what would be.

    compare: the logged numbers next to the predicted ones. others: settings that change a cache and may be missing in a
    log, each with the values to try. of_weights: those that matter only if the cache's memory is derived from the
    weights. ranks: degrees of parallelism to try. given: numbers of a reading that are inputs, not predictions.
    ways: fixes for an error, the cheapest first. room: remaining capacity of a running server. excuse: why numbers may
    differ although the prediction is right, in words; empty without a reason. usual: settings tried three at a time.
    balance: what a start-up needed and had.
    alone: an error that concerns no model, judged without one. unnamed: fixes for an error of an unknown model, by its
    own numbers.
    """

    compare: Judge
    others: Mapping[str, tuple[Json, ...]]
    ranks: Mapping[str, tuple[int, ...]]
    undecided: Callable[[Reading], str]
    given: tuple[str, ...] = ()
    of_weights: Mapping[str, tuple[Json, ...]] = {}
    ways: Callable[[Model, Reading, Settings, Parallel], Iterator[Way]] = _no_ways
    room: Callable[[Model, Reading, Settings, Parallel], Room | None] = _no_room
    excuse: Callable[[Model, Reading, Settings, Parallel], str] = _no_excuse
    balance: Callable[[Model, Reading, Settings, Parallel], Balance] = _as_stated
    alone: Callable[[Reading], Alone | None] = _not_alone
    usual: tuple[str, ...] = ()
    unnamed: Callable[[Reading], tuple[Way, ...]] = _no_unnamed
