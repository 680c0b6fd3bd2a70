"""Start-up logs of engines: does the prediction agree with what they say of their cache, and if not, what would?

Each engine has a file here, with its `EXPLAINER`.

A number is equal where the prediction rounds to what was printed. What explains a difference is looked for among
single settings first, then among pairs of those that matter, and never against what the log itself says.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import combinations
from typing import NamedTuple

from kvcalc.engines import Engine
from kvcalc.errors import InvalidValueError, KvcalcError, NotApplicableError
from kvcalc.model import Model, with_draft_layers
from kvcalc.parallel import Parallel
from kvcalc.registry import Registry
from kvcalc.report.log import Compared, LogReport
from kvcalc.report.sheet import Json
from kvcalc.units import GIB, MIB

EXPLAINERS = Registry("kvcalc.fleet.explain", "engine whose logs kvcalc reads")
_UNITS = {"GiB": GIB, "GB": GIB, "MiB": MIB, "MB": MIB}
"""Engines that print GB and MB mean binary units by it."""
_MTP = "mtp"
Change = Mapping[str, Json]


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

    def is_print_of(self, number: int | Fraction) -> bool:
        """Whether `number` may have been printed so."""
        return abs(self.value - number) <= self.rounding

    def shown(self, number: int | Fraction) -> str:
        """`number` in the same unit, with as many digits."""
        decimals = len(self.text.partition(".")[2])
        return f"{float(Fraction(number) / _UNITS.get(self.unit, 1)):,.{decimals}f} {self.unit}".strip()

    @property
    def decides(self) -> bool:
        """Whether another number would be printed otherwise; everything that is small enough is printed as 0.00."""
        return self.value > self.rounding

    def __str__(self) -> str:
        return f"{self.text} {self.unit}".strip()


class Reading(NamedTuple):
    """What a log says of its cache.

    caches: one for each cache that it reports, its numbers by name. settings: by the engine's names. ranks: degrees of
    parallelism. model: what the log calls the model, where it does. weights_bytes, reserve_bytes: what lies beside the
    cache, of the whole model and on each GPU, which no log says and a user may.
    """

    engine: str
    caches: tuple[Mapping[str, Printed], ...]
    settings: Mapping[str, Json]
    ranks: Mapping[str, int]
    model: str = ""
    weights_bytes: int | None = None
    reserve_bytes: int = 0


class Explainer(NamedTuple):
    """How an engine's log is compared, and what may explain a difference.

    compare: the logged numbers beside the predicted ones. others: settings that change a cache and that a log may not
    say, each with the values to try. of_weights: those that matter only where the cache's memory is worked out from
    weights; none where it never is. ranks: which degrees of parallelism to try. given: numbers of a reading that are
    asked with, not predicted. undecided: why no number of a log decides anything, and what would.
    """

    compare: Callable[[Model, Reading, Mapping[str, Json], Parallel], tuple[Compared, ...]]
    others: Mapping[str, tuple[Json, ...]]
    ranks: Mapping[str, tuple[int, ...]]
    undecided: str
    given: tuple[str, ...] = ()
    of_weights: Mapping[str, tuple[Json, ...]] = {}


def explainer_of(engine: str) -> Explainer:
    """How logs of `engine` are compared. Raises UnknownNameError for one whose logs are not read."""
    found: Explainer = EXPLAINERS.module(engine).EXPLAINER
    return found


def explain(
    model: Model,
    reading: Reading,
    *,
    file: str = "log",
    settings: Mapping[str, Json] | None = None,
    ranks: Mapping[str, int] | None = None,
) -> LogReport:
    """The log's numbers beside those predicted for `model`; where they differ, which setting would make them equal.

    settings, ranks: of the engine, over those that the log says. Where the engine should have refused to start, no
    number agrees. Raises InvalidValueError, UnknownNameError where it cannot be asked with these settings.
    """
    explainer = explainer_of(reading.engine)
    if reading.weights_bytes is not None and not explainer.of_weights:
        raise InvalidValueError(
            f"a log of {reading.engine} states the bytes of its cache, whatever the weights leave",
            field="weights",
            help="leave weights and reserve out",
        )
    read, degrees = {**reading.settings, **(settings or {})}, {**reading.ranks, **(ranks or {})}
    notes = [*model.notes, *_of_another_version(reading.engine, read.get("version"))]
    refused = False
    try:
        compared = explainer.compare(model, reading, read, Parallel(**degrees))
    except NotApplicableError as refusal:  # the engine that wrote the log did start
        refused, compared = True, tuple(_refused(reading, explainer.given))
        notes.append(f"predicted as a refusal: {refusal}")
    report = LogReport(
        file=file,
        model=model.name,
        engine=reading.engine,
        read=tuple({**{name: n for name, n in degrees.items() if n > 1}, **read}.items()),
        compared=compared,
        notes=tuple(notes),
    )
    if report.outcome != "differs":
        return report._replace(missing=explainer.undecided if report.outcome == "undecided" else "")
    asked = _Asked(model, reading, read, degrees, explainer)
    explanations, tried = _explanations(asked, None if refused else compared)
    return report._replace(explanations=explanations, tried=tried)


def _of_another_version(engine: str, version: object) -> Iterator[str]:
    """A note where the log is of a version whose rules are not known; the nearest that is known predicts it."""
    release = Engine.of(engine).RELEASE
    if release is not None and version is not None and (nearest := release.nearest(str(version))) != version:
        yield f"the log is of {release.TITLE} {version}, predicted by the rules of {nearest}"


class _Asked(NamedTuple):
    """What was asked of a log, before any change."""

    model: Model
    reading: Reading
    settings: Mapping[str, Json]
    ranks: Mapping[str, int]
    explainer: Explainer

    def under(self, change: Change) -> tuple[Compared, ...] | None:
        """The numbers as they would be with `change`; None where the engine refuses it."""
        degrees = {name: self.ranks.get(name, 1) for name in ("tp", "pp", "dp", "dcp")}
        degrees |= {name: value for name, value in change.items() if name in degrees and isinstance(value, int)}
        changed = {name: value for name, value in change.items() if name not in (*degrees, _MTP)}
        try:
            model = with_draft_layers(self.model) if _MTP in change else self.model
            return self.explainer.compare(model, self.reading, {**self.settings, **changed}, Parallel(**degrees))
        except KvcalcError:
            return None


def _explanations(asked: _Asked, compared: tuple[Compared, ...] | None) -> tuple[tuple[str, ...], int]:
    """Single changes that make all numbers equal, or else pairs of them; and how many were tried.

    compared: without any; None where the engine refuses. A change that alone moves no number is no part of a pair; one
    that is refused alone may be, with one that moves something (dcp with tp).
    """
    single = [(change, asked.under(change)) for change in _changes(asked) if _is_another(asked, change)]
    found = [change for change, under in single if _agree(under)]
    if found:
        return tuple(map(_words, found)), len(single)
    pairs = [
        {**one, **other}
        for (one, moves), (other, moves_too) in combinations(_moving(single, compared), 2)
        if not one.keys() & other.keys() and (moves or moves_too)
    ]
    found = [change for change in pairs if _agree(asked.under(change))]
    return tuple(map(_words, found)), len(single) + len(pairs)


def _moving(
    single: Sequence[tuple[Change, tuple[Compared, ...] | None]], before: tuple[Compared, ...] | None
) -> Iterator[tuple[Change, bool]]:
    """Changes that may be part of a pair, and whether each moves a number, or the engine's refusal, by itself."""
    for change, under in single:
        moves = under is not None and (before is None or _predicted(under) != _predicted(before))
        if moves or under is None:
            yield change, moves


def _agree(compared: tuple[Compared, ...] | None) -> bool:
    return compared is not None and all(one.agrees for one in compared)


def _predicted(compared: Sequence[Compared]) -> list[str]:
    return [one.predicted for one in compared]


def _refused(reading: Reading, given: Collection[str]) -> Iterator[Compared]:
    """The numbers of a log of an engine that should not have started."""
    for cache in reading.caches:
        for what, printed in ((what, printed) for what, printed in cache.items() if what not in given):
            yield Compared(what, str(printed), "a refusal", agrees=False, line=printed.line)


def _changes(asked: _Asked) -> Iterator[Change]:
    """Every single change: of a setting, of the ranks, or the layers that predict further tokens."""
    explainer, of_weights = asked.explainer, asked.reading.weights_bytes is not None
    for names in (explainer.others, explainer.of_weights if of_weights else {}, explainer.ranks):
        for name, values in names.items():
            yield from ({name: value} for value in values)
    if asked.model.draft_groups:
        yield {_MTP: True}


def _is_another(asked: _Asked, change: Change) -> bool:
    """Whether a change is one, and does not contradict what the log says."""
    ((name, value),) = change.items()
    said = {**asked.reading.settings, **asked.reading.ranks}
    contradicts = name in said and said[name] not in ("auto", value)
    return not contradicts and bool(value != {**asked.settings, **asked.ranks}.get(name))


def _words(change: Change) -> str:
    return " and ".join(name if name == _MTP else f"{name}={value}" for name, value in change.items())
