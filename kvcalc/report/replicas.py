"""GPUs needed for users whose requests differ in length, by layout, and what one more GPU adds."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, NamedTuple

from kvcalc.report.notebooks import frame_of, html_of, text_of
from kvcalc.report.sheet import Cell, Column, Json, Line, Sheet, Styled, Table, in_version
from kvcalc.report.versions import named
from kvcalc.units import count, plural

MOST_SHOWN = 8
"""Rows shown in a table; files have all."""


class Fleet(NamedTuple):
    """Replicas of one layout. None: a replica does not hold even one user.

    replica_users: users of one replica at the quantile of the time. held: users of all replicas. share: share of the
    time without preemption on a replica, with the requested users; share_with_one_more: with one more replica.
    binds: the pool that limits the users.
    """

    gpu: str
    replica: str
    replica_gpus: int
    replica_users: int
    cache_bytes: int
    replicas: int | None
    gpus: int | None
    held: int
    share: float
    share_with_one_more: float
    binds: str


class Step(NamedTuple):
    """Users that a number of GPUs holds in its best layout; used: GPUs in whole replicas."""

    gpus: int
    used: int
    gpu: str
    parallel: str
    users: int
    share: float


class ReplicasReport(NamedTuple):
    """All layouts, fewest GPUs first. users: requested users; most_gpus: GPUs available."""

    model: str
    engine: str
    engine_version: str
    workload: tuple[tuple[str, str], ...]
    quantile: Fraction
    users: int
    most_gpus: int | None
    fleets: tuple[Fleet, ...]
    steps: tuple[Step, ...]
    notes: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether any layout holds the users on the available GPUs."""
        return bool(self.fleets) and self._holds(self.fleets[0])

    def _holds(self, fleet: Fleet) -> bool:
        return fleet.gpus is not None and (self.most_gpus is None or fleet.gpus <= self.most_gpus)

    def to_dict(self) -> dict[str, Json]:
        """Plain values."""
        return {
            **named("replicas"),
            "model": self.model,
            "engine": self.engine,
            **({"engine_version": self.engine_version} if self.engine_version else {}),
            "workload": dict(self.workload),
            "quantile": float(self.quantile),
            "users": self.users,
            "most_gpus": self.most_gpus,
            "fits": self.fits,
            "fleets": [dict(fleet._asdict()) for fleet in self.fleets],
            "steps": [dict(step._asdict()) for step in self.steps],
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        return text_of(self)

    def _repr_html_(self) -> str:
        return html_of(self)

    def to_frame(self) -> Any:
        """A data frame of what `--format csv` prints, in pandas, polars or pyarrow, whichever is there."""
        return frame_of(self)

    def table(self) -> Table:
        """One row for each layout, by the names that JSON has."""
        asked: dict[str, Cell] = {"model": self.model, "engine": self.engine, "engine_version": self.engine_version}
        return Table.of(
            {**asked, "users": self.users, **fleet._asdict(), "fits": self._holds(fleet)} for fleet in self.fleets
        )

    def sheets(self) -> tuple[Sheet, ...]:
        """One row for each layout, fewest GPUs first; then what other numbers of GPUs hold."""
        columns = (
            Column("GPUs"),
            Column("replicas", "count"),
            Column("layout"),
            Column("users each", "count"),
            Column("users", "count"),
            Column("of the time"),
            Column("one more"),
            Column("cache GB", "gigabytes", wide=True),
            Column("limited by", wide=True),
        )
        rows = tuple(self._cells(fleet) for fleet in self.fleets[:MOST_SHOWN])
        title = f"{self.model} in {in_version(self.engine, self.engine_version)}: GPUs for {plural(self.users, 'user')}"
        more = len(self.fleets) - MOST_SHOWN
        left_out = (f"{plural(more, 'more layout')}: --format json has all",) if more > 0 else ()
        asked = (("model", self.model), ("engine", self.engine), ("engine_version", self.engine_version))
        first = Sheet(title, columns, rows, tuple(self._lines()), (*left_out, *self.notes), asked=asked, label_width=9)
        return (first, self._more()) if self.steps else (first,)

    def _cells(self, fleet: Fleet) -> tuple[Cell, ...]:
        gpus = "none" if fleet.gpus is None else f"{count(fleet.gpus)} x {fleet.gpu}"
        return (
            Styled(gpus, "answer" if self._holds(fleet) else "alarm"),
            fleet.replicas,
            fleet.replica,
            fleet.replica_users,
            fleet.held,
            _percent(fleet.share),
            _percent(fleet.share_with_one_more),
            fleet.cache_bytes,
            fleet.binds,
        )

    def _lines(self) -> list[Line]:
        share = f"{100 * float(self.quantile):g}%"
        lines = [Line(name, words) for name, words in self.workload]
        if not self.fleets or self.fleets[0].gpus is None:
            return [*lines, Line("asked", "TOO LARGE: no layout tried holds even one user", "alarm")]
        best = self.fleets[0]
        needs = f"{count(best.gpus or 0)} x {best.gpu}: {plural(best.replicas or 0, 'replica')} of {best.replica}"
        if not self.fits:
            short = f"TOO LARGE for {plural(self.most_gpus or 0, 'GPU')}: needs {needs}"
            return [*lines, Line("fewest", short, "alarm")]
        return [*lines, Line("fewest", f"{needs}; no preemption {share} of the time", "answer")]

    def _more(self) -> Sheet:
        columns = (
            Column("GPUs", "count"),
            Column("in use", "count"),
            Column("layout"),
            Column("users", "count"),
            Column(f"{count(self.users)} users"),
        )
        rows = tuple(
            (step.gpus, step.used, f"{step.gpu}, {step.parallel}", step.users, _percent(step.share))
            for step in self.steps
        )
        return Sheet("Users by number of GPUs", columns, rows)


def _percent(share: float) -> str:
    """`99.21%`; shares just below 1 are not rounded to 100%."""
    return "100%" if share == 1 else f"{min(100 * share, 99.99):.2f}%"
