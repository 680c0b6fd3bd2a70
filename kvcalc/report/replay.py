"""A trace replayed by an engine's scheduler: its steps and their totals."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

from kvcalc.report.notebooks import frame_of, html_of, text_of
from kvcalc.report.sheet import Cell, Column, Json, Line, Sheet, Table, in_version, plain, table_of_sheet
from kvcalc.report.versions import named
from kvcalc.units import count, gibibytes, plural

if TYPE_CHECKING:
    from kvcalc.report.chart import Curves

SHOWN = (("p50", Fraction(1, 2)), ("p90", Fraction(9, 10)), ("p99", Fraction(99, 100)), ("peak", Fraction(1)))
"""Quantiles shown, by name."""
OF_A_CURVE = (*(Fraction(part, 20) for part in range(1, 20)), Fraction(99, 100), Fraction(999, 1000), Fraction(1))
"""Shares of the time at which a curve says what is held."""
_MOST_POINTS = 400
"""Steps that are drawn; of more, the fullest of each few."""


class Step(NamedTuple):
    """One step of the scheduler. Blocks are those in use, without the block that is never given out.

    used_blocks, running, waiting: after the batch is scheduled. used_after_update: after its tokens are generated.
    preempted: ids, in order. group_blocks: of each group, shared blocks once per request; None if nothing was
    scheduled. evicted_blocks: cached blocks that were overwritten. finished: ids. tokens: of each scheduled request.
    """

    step: int
    used_blocks: int
    running: int
    waiting: int
    preempted: tuple[Hashable, ...]
    scheduled_tokens: int
    used_after_update: int
    group_blocks: tuple[int, ...] | None
    evicted_blocks: int
    finished: tuple[Hashable, ...]
    tokens: Mapping[Hashable, int]


class Totals(NamedTuple):
    """Sums of a replay.

    sum_used: blocks in use, summed over steps, as are running_steps and waiting_steps. hit_tokens_first: of each
    request's first admission; hit_tokens_all: including admissions after preemption. stalled: whether some requests
    never fit.
    """

    requests: int = 0
    finished: int = 0
    steps: int = 0
    last_step: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    scheduled_tokens: int = 0
    admissions: int = 0
    preemptions: int = 0
    hit_tokens_first: int = 0
    hit_tokens_all: int = 0
    evicted_cached_blocks: int = 0
    peak_used: int = 0
    sum_used: int = 0
    peak_running: int = 0
    running_steps: int = 0
    peak_waiting: int = 0
    waiting_steps: int = 0
    stalled: bool = False


def _plain(step: Step) -> dict[str, Json]:
    """A step's numbers, and the ids of preempted requests."""
    return {
        "step": step.step,
        "used_blocks": step.used_blocks,
        "running": step.running,
        "waiting": step.waiting,
        "preempted": [str(name) for name in step.preempted],
        "scheduled_tokens": step.scheduled_tokens,
        "used_after_update": step.used_after_update,
    }


def quantile(counts: Mapping[int, int], share: Fraction) -> int:
    """The smallest number that at least this share of all does not exceed; 0 of nothing."""
    left = share * sum(counts.values())
    for number in sorted(counts):
        left -= counts[number]
        if left <= 0:
            return number
    return 0


def mean(counts: Mapping[int, int]) -> float:
    """Mean of a histogram."""
    total = sum(counts.values())
    return sum(number * times for number, times in counts.items()) / total if total else 0.0


CURVE = (
    Column("blocks", "count"),
    Column("bytes", "bytes"),
    Column("host blocks", "count"),
    Column("host bytes", "bytes"),
    Column("hit rate", "ratio"),
    Column("from host", "ratio"),
)
"""Columns of hit rates; blocks of a rank, and host memory of all of them."""


class Replayed(NamedTuple):
    """What a trace came to: of a replay all but its steps and its requests, so that many can be kept.

    used, waits, spans: by quantile, blocks in use, steps from arrival to admission, and to the last token. curve: hit
    rates of other caches, by blocks; host_curve: of this one with host tiers. ranks: that have a block each.
    """

    model: str
    engine: str
    engine_version: str
    engine_settings: tuple[tuple[str, Json], ...]
    scheduler_settings: tuple[tuple[str, Json], ...]
    num_blocks: int
    block_bytes: int
    totals: Totals
    used: tuple[tuple[str, int], ...]
    mean_used: float
    waits: tuple[tuple[str, int], ...]
    mean_wait: float
    spans: tuple[tuple[str, int], ...]
    step_seconds: Fraction | None
    curve: tuple[tuple[int, Fraction], ...]
    host_curve: tuple[tuple[int, Fraction], ...]
    ranks: int
    notes: tuple[str, ...]

    @property
    def hit_rate(self) -> float:
        """Share of prompt tokens that the prefix cache had."""
        return self.totals.hit_tokens_first / self.totals.prompt_tokens if self.totals.prompt_tokens else 0.0

    @property
    def curve_rows(self) -> Iterator[tuple[Cell, ...]]:
        """Other caches than the pool, and then the pool with host tiers; each as CURVE has it."""
        own = dict(self.curve).get(self.num_blocks, Fraction(0))
        for blocks, share in self.curve:
            yield blocks, blocks * self.block_bytes, None, None, float(share), None
        pool = (self.num_blocks, self.num_blocks * self.block_bytes)
        for blocks, share in self.host_curve:
            host = (blocks, blocks * self.block_bytes * self.ranks)
            yield *pool, *host, float(share), float(share - own)

    def to_dict(self) -> dict[str, Json]:
        """Plain values."""
        return {
            "model": self.model,
            "engine": self.engine,
            "engine_version": self.engine_version,
            "engine_settings": plain(dict(self.engine_settings)),
            "scheduler": plain(dict(self.scheduler_settings)),
            "num_blocks": self.num_blocks,
            "block_bytes": self.block_bytes,
            "totals": self.totals._asdict(),
            "hit_rate": self.hit_rate,
            "used_blocks": dict(self.used),
            "used_bytes": {name: blocks * self.block_bytes for name, blocks in self.used},
            "mean_used_blocks": self.mean_used,
            "wait_steps": dict(self.waits),
            "mean_wait_steps": self.mean_wait,
            "request_steps": dict(self.spans),
            "step_seconds": None if self.step_seconds is None else float(self.step_seconds),
            "hit_rate_by_blocks": [[blocks, float(share)] for blocks, share in self.curve],
            "hit_rate_by_host_blocks": [[blocks, float(share)] for blocks, share in self.host_curve],
            "notes": list(self.notes),
        }


class ReplayReport(NamedTuple):
    """A trace, replayed.

    num_blocks: usable by requests. block_bytes: of one block, on a rank. steps: all steps, empty if only counted. hits:
    prefix-cache hit tokens of each request at first admission, by id. used, waits, spans: histograms of blocks in use
    per step, of steps until admission, and of steps from arrival to the last token per request. step_seconds: given
    duration of a step, None if steps are the clock. curve: share of prompt tokens that a cache of a given number of
    blocks would hit, by blocks; host_curve: that this one would hit with a host tier, by its blocks. ranks: that hold
    each block.
    """

    model: str
    engine: str
    engine_version: str
    engine_settings: tuple[tuple[str, Json], ...]
    scheduler_settings: tuple[tuple[str, Json], ...]
    num_blocks: int
    block_bytes: int
    steps: tuple[Step, ...]
    hits: Mapping[Hashable, int]
    totals: Totals
    used: Mapping[int, int]
    waits: Mapping[int, int]
    spans: Mapping[int, int]
    step_seconds: Fraction | None = None
    curve: tuple[tuple[int, Fraction], ...] = ()
    host_curve: tuple[tuple[int, Fraction], ...] = ()
    ranks: int = 1
    notes: tuple[str, ...] = ()

    @property
    def hit_rate(self) -> float:
        """Share of prompt tokens found in the prefix cache."""
        return self.summary.hit_rate

    def used_blocks(self, share: Fraction) -> int:
        """Blocks that suffice for this share of the steps."""
        return quantile(self.used, share)

    @property
    def summary(self) -> Replayed:
        """What it came to, without its steps and requests."""
        return Replayed(
            model=self.model,
            engine=self.engine,
            engine_version=self.engine_version,
            engine_settings=self.engine_settings,
            scheduler_settings=self.scheduler_settings,
            num_blocks=self.num_blocks,
            block_bytes=self.block_bytes,
            totals=self.totals,
            used=tuple((name, self.used_blocks(share)) for name, share in SHOWN),
            mean_used=mean(self.used),
            waits=tuple((name, quantile(self.waits, share)) for name, share in SHOWN),
            mean_wait=mean(self.waits),
            spans=tuple((name, quantile(self.spans, share)) for name, share in SHOWN),
            step_seconds=self.step_seconds,
            curve=self.curve,
            host_curve=self.host_curve,
            ranks=self.ranks,
            notes=self.notes,
        )

    def to_dict(self) -> dict[str, Json]:
        """Plain values."""
        by_share = [{"share": float(share), "blocks": self.used_blocks(share)} for share in OF_A_CURVE]
        steps: dict[str, Json] = {"steps": [_plain(step) for step in self.steps]} if self.steps else {}
        return {**named("replay"), **self.summary.to_dict(), "used_blocks_by_share": by_share, **steps}

    def table(self) -> Table:
        """Steps or the curve if requested, else quantiles."""
        sheet = self.sheets()[-1]
        return table_of_sheet(sheet._replace(asked=self._asked()))

    def charts(self) -> tuple[Curves, ...]:
        """Blocks in use over the steps that were kept, else by the share of them; and hit rates of caches."""
        return (self._over_steps() if self.steps else self._by_share(), *([self._hits()] if self.curve else []))

    def _over_steps(self) -> Curves:
        from kvcalc.report.chart import Axis, Curves, Level, Series

        of_each = -(-len(self.steps) // _MOST_POINTS)
        parts = (self.steps[first : first + of_each] for first in range(0, len(self.steps), of_each))
        drawn = [max(part, key=lambda step: step.used_blocks) for part in parts]
        preempting = tuple(step.step for step in drawn if step.preempted)
        line = Series("in use", tuple((step.step, step.used_blocks) for step in drawn), preempting)
        x, y = Axis("step", "steps", log=False), Axis("blocks in use", "blocks", log=False)
        few = (f"of each {count(of_each)} steps the one with most blocks is drawn",) if of_each > 1 else ()
        levels = (Level("the pool", self.num_blocks),)
        return Curves(self._title, x, y, (line,), levels, (*few, *self.notes), marked="requests are preempted")

    def _by_share(self) -> Curves:
        from kvcalc.report.chart import SHARE, Axis, Curves, Level, Series

        points = tuple((float(share), self.used_blocks(share)) for share in OF_A_CURVE)
        x, y = (
            Axis("share of the steps", SHARE, log=False),
            Axis("blocks in use at most", "blocks", log=False),
        )
        return Curves(self._title, x, y, (Series("in use", points),), (Level("the pool", self.num_blocks),), self.notes)

    def _hits(self) -> Curves:
        from kvcalc.report.chart import SHARE, Axis, Curves, Series

        points = tuple((blocks, float(share)) for blocks, share in self.curve)
        here = tuple(blocks for blocks, _ in points if blocks == self.num_blocks)
        x, y = Axis("blocks of the cache", "blocks"), Axis("share of prompt tokens hit", SHARE, log=False)
        line = Series("hit rate", points, here)
        return Curves(f"{self._title}, hit rate by cache size", x, y, (line,), joined=False, marked="this pool")

    @property
    def _title(self) -> str:
        served = in_version(self.engine, self.engine_version)
        return f"{self.model} in {served}: {plural(self.totals.requests, 'request')}"

    def __str__(self) -> str:
        return text_of(self)

    def _repr_html_(self) -> str:
        return html_of(self)

    def to_frame(self) -> Any:
        """A data frame of what `--format csv` prints, in pandas, polars or pyarrow, whichever is there."""
        return frame_of(self)

    def sheets(self) -> tuple[Sheet, ...]:
        """Distributions of blocks in use and of waiting times."""
        columns = (
            Column("quantile"),
            Column("blocks", "count"),
            Column("bytes", "bytes"),
            Column("GiB", "gibibytes"),
            Column("steps waited", "count"),
            Column("steps in all", "count"),
        )
        rows = tuple(
            (
                name,
                self.used_blocks(share),
                self.used_blocks(share) * self.block_bytes,
                self.used_blocks(share) * self.block_bytes,
                quantile(self.waits, share),
                quantile(self.spans, share),
            )
            for name, share in SHOWN
        )
        sheets = [
            Sheet(self._title, columns, rows, tuple(self._lines()), self.notes, asked=self._asked(), label_width=13)
        ]
        if self.curve:
            sheets.append(Sheet("hit rate by cache size", CURVE, tuple(self.summary.curve_rows)))
        if self.steps:
            names = ("step", "used blocks", "running", "waiting", "preempted", "scheduled tokens", "used after update")
            each = tuple((*step[:4], len(step.preempted), *step[5:7]) for step in self.steps)
            sheets.append(Sheet("steps", tuple(Column(name, "count") for name in names), each))
        return tuple(sheets)

    def _lines(self) -> list[Line]:
        totals = self.totals
        peak = totals.peak_used * self.block_bytes
        whole = self.num_blocks * self.block_bytes
        lines = [
            Line(
                "peak",
                f"{count(totals.peak_used)} of {plural(self.num_blocks, 'block')}, {gibibytes(peak)} of "
                f"{gibibytes(whole)}",
                "answer",
            ),
            Line("preempted", f"{plural(totals.preemptions, 'time')}", "alarm" if totals.preemptions else "plain"),
            Line(
                "prefix hits",
                f"{count(totals.hit_tokens_first)} of {plural(totals.prompt_tokens, 'prompt token')} "
                f"({100 * self.hit_rate:.1f}%)",
            ),
            Line("evicted", f"{plural(totals.evicted_cached_blocks, 'cached block')}"),
            Line(
                "running",
                f"{totals.running_steps / totals.steps if totals.steps else 0:.1f} on average, at most "
                f"{count(totals.peak_running)}",
            ),
            Line(
                "waiting",
                f"{totals.waiting_steps / totals.steps if totals.steps else 0:.1f} on average, at most "
                f"{count(totals.peak_waiting)}",
            ),
            Line("steps", self._duration()),
        ]
        if totals.stalled:
            left = plural(totals.requests - totals.finished, "request")
            lines.insert(0, Line("stalled", f"{left} never fit; the replay stalled", "alarm"))
        return lines

    def _duration(self) -> str:
        steps = count(self.totals.steps)
        if self.step_seconds is None:
            return f"{steps}; steps are the clock"
        return f"{steps} of {float(self.step_seconds):g} s"

    def _asked(self) -> tuple[tuple[str, Cell], ...]:
        of_pool = (("num_blocks", self.num_blocks), ("block_bytes", self.block_bytes))
        return (("model", self.model), ("engine", self.engine), ("engine_version", self.engine_version), *of_pool)
