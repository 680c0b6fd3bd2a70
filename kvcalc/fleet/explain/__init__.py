"""Start-up logs of engines: does the prediction agree with the logged cache, and if not, which setting would?

Each engine has a file here, with its `EXPLAINER`. Start-up errors and answers of running servers are read like logs,
and judged by the same file.

A number is equal if the prediction rounds to what was printed. An explanation of a difference is searched first among
single settings, then among pairs of those that matter, and never contradicts the log.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from itertools import islice

from kvcalc.engines import Engine
from kvcalc.errors import InvalidValueError, NotApplicableError
from kvcalc.fleet.explain._reading import MOST_WAYS, Explainer, Load, Printed, Reading, Refusal, stated_balance
from kvcalc.fleet.explain._search import Asked, explanations
from kvcalc.model import Model
from kvcalc.parallel import Parallel
from kvcalc.registry import Registry
from kvcalc.report.log import Compared, LogReport, Way
from kvcalc.report.sheet import Json

__all__ = [
    "EXPLAINERS",
    "Explainer",
    "Load",
    "Printed",
    "Reading",
    "Refusal",
    "explain",
    "explain_alone",
    "explain_unnamed",
    "explainer_of",
]
_UNNAMED = "the log does not describe its model; name it to check these numbers, and for exact ones"
_SILENT = "the server does not report the size of its cache"
EXPLAINERS = Registry("kvcalc.fleet.explain", "engine with supported logs")


def explainer_of(engine: str) -> Explainer:
    """How logs of `engine` are compared. Raises UnknownNameError for an engine whose logs are not supported."""
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
    """The log's numbers next to those predicted for `model`; if they differ, the setting that would make them equal.

    settings, ranks: of the engine, overriding the log's. If the engine should have refused to start, no number agrees.
    Raises InvalidValueError, UnknownNameError if these settings are not valid.
    """
    explainer = explainer_of(reading.engine)
    if reading.weights_bytes is not None and not explainer.of_weights:
        raise InvalidValueError(
            f"a {reading.engine} log states the bytes of its cache, so weights and reserve are not used",
            field="weights",
            help="remove weights and reserve",
        )
    read = {**reading.supposed, **reading.settings, **(settings or {})}
    degrees = {**reading.seen, **reading.ranks, **(ranks or {})}
    layout = Parallel(**degrees)
    notes = [*model.notes, *reading.notes, *_of_another_version(reading.engine, read.get("version"))]
    refused = ""
    try:
        compared = explainer.compare(model, reading, read, layout)
    except NotApplicableError as refusal:  # the engine that wrote the log did start
        refused, compared = f"the prediction is a refusal: {refusal}", tuple(_refused(reading, explainer.given))
        notes += [refused] if compared else []
    report = LogReport(
        file=file,
        model=model.name,
        engine=reading.engine,
        read=tuple({**{name: n for name, n in degrees.items() if n > 1}, **read}.items()),
        compared=compared,
        notes=tuple(notes),
        refusal=reading.refusal.words if reading.refusal else "",
    )
    if reading.refusal is not None:
        balance = stated_balance(reading) if refused else explainer.balance(model, reading, read, layout)
        report = report._replace(needed=balance.needed, available=balance.available)
    if not refused and reading.load is not None:
        report = report._replace(room=explainer.room(model, reading, read, layout))
    if report.outcome != "differs":
        ways = () if refused else _ways(explainer, reading, model, read, layout)
        missing = refused or (_SILENT if reading.load and not compared else explainer.undecided(reading))
        return report._replace(missing=missing if report.outcome == "undecided" else "", ways=ways)
    if not refused and (excuse := explainer.excuse(model, reading, read, layout)):
        return report._replace(excuse=excuse, ways=_ways(explainer, reading, model, read, layout))
    asked = Asked(model, reading, read, {**reading.ranks, **(ranks or {})}, explainer)
    found = explanations(asked, asked.under({}) if reading.seen else None if refused else compared)
    ways = _ways(explainer, asked.reading, *asked.changed(found.changes[-1])) if found.changes else ()
    return report._replace(explanations=found.words, tried=found.tried, ways=ways)


def explain_alone(reading: Reading, *, file: str = "log") -> LogReport | None:
    """An error that concerns no model, such as memory held by other processes; None if the model decides."""
    alone = explainer_of(reading.engine).alone(reading)
    if alone is None or reading.refusal is None:
        return None
    balance = stated_balance(reading)
    return LogReport(
        file=file,
        model=reading.model,
        engine=reading.engine,
        read=tuple({**reading.ranks, **reading.settings}.items()),
        compared=alone.compared,
        refusal=reading.refusal.words,
        needed=balance.needed,
        available=balance.available,
        ways=alone.ways,
    )


def explain_unnamed(reading: Reading, *, file: str = "log") -> LogReport | None:
    """An error of an unknown model: what it needs and has, and fixes by its own numbers; None if it states too few."""
    ways = explainer_of(reading.engine).unnamed(reading)
    if not ways or reading.refusal is None:
        return None
    balance = stated_balance(reading)
    return LogReport(
        file=file,
        model=reading.model,
        engine=reading.engine,
        read=tuple({**reading.ranks, **reading.settings}.items()),
        compared=(),
        missing=_UNNAMED,
        refusal=reading.refusal.words,
        needed=balance.needed,
        available=balance.available,
        ways=ways,
    )


def _ways(
    explainer: Explainer, reading: Reading, model: Model, settings: Mapping[str, Json], ranks: Parallel
) -> tuple[Way, ...]:
    """The first fixes for an error, or ways to more capacity in a server, the cheapest first."""
    return tuple(islice(explainer.ways(model, reading, settings, ranks), MOST_WAYS))


def _of_another_version(engine: str, version: object) -> Iterator[str]:
    """A note if the log's version has unknown rules; the nearest known version is used."""
    release = Engine.of(engine).RELEASE
    if release is not None and version is not None and (nearest := release.nearest(str(version))) != version:
        yield f"the log is from {release.TITLE} {version}; the prediction uses the rules of {nearest}"


def _refused(reading: Reading, given: Collection[str]) -> Iterator[Compared]:
    """The numbers of a log whose engine should not have started."""
    for cache in reading.caches:
        for what, printed in ((what, printed) for what, printed in cache.items() if what not in given):
            yield Compared(what, str(printed), "a refusal", not printed.decides, printed.line, printed.decides)
