"""An estimator checked against measured engines."""

from collections.abc import Iterable
from typing import NamedTuple

from kvcalc.report.sheet import Cell, Column, Json, Point, Sheet, Table
from kvcalc.report.versions import named
from kvcalc.units import plural

AGREED, DISAGREED, REFUSES, UNANSWERED = "agreed", "disagreed", "refused", "unanswered"
VERDICTS = (AGREED, DISAGREED, REFUSES, UNANSWERED)
_SHOWN = 10
"""Failed vectors shown in a table; JSON has all."""


class Outcome(NamedTuple):
    """Result of one vector. verdict: one of VERDICTS; why: what differs, or why there is no answer."""

    id: str
    engine: str
    version: str
    verdict: str
    why: str = ""


class VectorsReport(NamedTuple):
    """Results of all vectors. command: of the estimator."""

    command: str
    outcomes: tuple[Outcome, ...]

    @property
    def agrees(self) -> bool:
        """Whether every answer agrees; refusals do not count, missing answers fail."""
        return not any(outcome.verdict in (DISAGREED, UNANSWERED) for outcome in self.outcomes)

    def _counts(self) -> dict[tuple[str, str], dict[str, int]]:
        """Counts of verdicts by engine and version."""
        found: dict[tuple[str, str], dict[str, int]] = {}
        for outcome in self.outcomes:
            own = found.setdefault((outcome.engine, outcome.version), dict.fromkeys(VERDICTS, 0))
            own[outcome.verdict] += 1
        return found

    def _all(self) -> dict[str, int]:
        return {verdict: sum(outcome.verdict == verdict for outcome in self.outcomes) for verdict in VERDICTS}

    def to_dict(self) -> dict[str, Json]:
        """Plain values: counts, and each vector that does not agree."""
        others = [outcome for outcome in self.outcomes if outcome.verdict != AGREED]
        return {
            **named("vectors"),
            "command": self.command,
            "agrees": self.agrees,
            **self._all(),
            "engines": [
                {"engine": engine, "version": version, **counts} for (engine, version), counts in self._counts().items()
            ],
            "others": [outcome._asdict() for outcome in others],
        }

    def table(self) -> Table:
        """One row for each vector."""
        return Table.of({**outcome._asdict()} for outcome in self.outcomes)

    def sheets(self) -> tuple[Sheet, ...]:
        """One row for each engine and version, then the first failures."""
        columns = (Column("engine", once=True), Column("version"), *(Column(each, "count") for each in VERDICTS))
        rows: tuple[tuple[Cell, ...], ...] = tuple(
            (engine, version, *own.values()) for (engine, version), own in self._counts().items()
        )
        counts = self._all()
        words = ", ".join(f"{number:,} {verdict}" for verdict, number in counts.items() if number)
        title = f"{plural(len(self.outcomes), 'vector')}: {words}"
        wrong = [o for verdict in (UNANSWERED, DISAGREED) for o in self.outcomes if o.verdict == verdict]
        points = tuple(Point(f"{o.id} ({o.engine} {o.version}): {o.verdict}", (o.why,)) for o in wrong[:_SHOWN])
        more = len(wrong) - len(points)
        notes = (f"{more:,} more: --format json has all",) if more > 0 else ()
        return (Sheet(title, columns, rows, points=points, notes=notes),)


class Measured(NamedTuple):
    """Vectors of one version of an engine. how: ways of measuring, each once."""

    engine: str
    version: str
    vectors: int
    refused: int
    how: tuple[str, ...]


class VectorsList(NamedTuple):
    """The measured vectors."""

    rows: tuple[Measured, ...]

    @classmethod
    def of(cls, measured: Iterable[tuple[str, str, bool, str]]) -> "VectorsList":
        """List of vectors: engine, version, whether the engine refused, how it was measured."""
        by_version: dict[tuple[str, str], list[tuple[bool, str]]] = {}
        for engine, version, refused, how in measured:
            by_version.setdefault((engine, version), []).append((refused, how))
        return cls(
            tuple(
                Measured(
                    *key, len(own), sum(refused for refused, _ in own), tuple(dict.fromkeys(how for _, how in own))
                )
                for key, own in by_version.items()
            )
        )

    def to_dict(self) -> list[Json]:
        """Plain values."""
        return [{**row._asdict(), "how": list(row.how)} for row in self.rows]

    def sheets(self) -> tuple[Sheet, ...]:
        """One row for each engine and version."""
        columns = (
            Column("engine", once=True),
            Column("version"),
            Column("vectors", "count"),
            Column("refused", "count"),
            Column("how measured", once=True),
        )
        rows = tuple((row.engine, row.version, row.vectors, row.refused, "; ".join(row.how)) for row in self.rows)
        return (Sheet(f"{plural(sum(row.vectors for row in self.rows), 'vector')}", columns, rows),)
