"""Users over context: how many fit at each token count, on GPUs with their weights, as an engine plans them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from kvcalc.answers.curves import Line, check_number, growth_changes, in_common, samples, those_that_can, told_apart
from kvcalc.errors import KvcalcError, NotApplicableError
from kvcalc.fleet.on_gpus import OnGpus
from kvcalc.parallel import Parallel
from kvcalc.report.curves import Curve, CurvesReport
from kvcalc.report.sheet import Cell
from kvcalc.units import plural


class LineOnGpus(NamedTuple):
    """The question of a curve of users. ranks: GPUs and their layout. method, model: as in a Line."""

    on: OnGpus
    ranks: Parallel
    method: str = ""
    model: str = ""

    @property
    def _line(self) -> Line:
        return Line(self.on.asked, self.method, self.model)

    @property
    def asked(self) -> tuple[tuple[str, Cell], ...]:
        """The question, by the names of reports."""
        own = tuple(fact for fact in self._line.asked if fact[0] != "sequences")
        return (*own, ("gpu", self.on.gpu.name), ("gpus", self.ranks.num_ranks), ("parallel", str(self.ranks)))

    @property
    def facts(self) -> tuple[str, ...]:
        """What distinguishes curves, in words."""
        number = self.ranks.num_ranks
        layout = f"{number:,} x {self.on.gpu.name}, {self.ranks}" if number > 1 else self.on.gpu.name
        return (*self._line.facts, layout)


def fitting(lines: Sequence[LineOnGpus], first: int, last: int, *, linear: bool = False) -> CurvesReport:
    """Users that fit from `first` to `last` tokens, a curve for each line; refused lines are left out.

    Raises NotApplicableError if engines refuse all of them, InvalidValueError for too many.
    """
    check_number(len(lines))
    labels = told_apart([line.facts for line in lines])

    def curve(label: str, line: LineOnGpus) -> Curve:
        return _curve(label, line, first, last, linear=linear)

    curves, left_out = those_that_can(curve, labels, lines)
    common = in_common([line.facts for line in lines])
    return CurvesReport(
        title=f"Users by context: {common}",
        of="users",
        curves=curves,
        notes=left_out,
        linear=linear,
        over="context of each user",
    )


def _curve(label: str, line: LineOnGpus, first: int, last: int, *, linear: bool) -> Curve:
    on, ranks = line.on, line.ranks
    if on.asked.engine.SHARES_CONTEXT:
        raise NotApplicableError(
            f"{on.asked.engine.name} shares one context among its users, and their number is a setting",
            help="plot its bytes instead: remove --max-users",
        )
    memory, plan = on.memory(ranks), on.plan(ranks)
    if memory.cache_bytes <= 0:
        raise NotApplicableError(
            "weights and the rest leave no memory for the cache", help="use more GPUs (--tp) or larger ones"
        )
    notes = [*on.asked.model.notes, *on.asked.engine.version_notes, *on.gpu.remarks(), *on.weights.words()]
    if plan.max_model_len is not None and plan.max_model_len < last:
        last = max(first, plan.max_model_len)
        notes.append(f"ends at {plural(last, 'token')}, its max_model_len")
    points: list[tuple[int, int]] = []
    for tokens in samples(first, last, _kinks(on, first, last), linear=linear):
        users = plan.max_sequences(tokens, memory.cache_bytes)
        if users is not None:  # else any number fits
            points.append((tokens, users * ranks.dp))
    if not points:
        raise NotApplicableError("any number of users fits at every context", help="there is no cache to plot")
    return Curve(label, line.asked, tuple(points), notes=tuple(notes))


def _kinks(on: OnGpus, first: int, last: int) -> Sequence[int]:
    """Token counts at which a user's growth changes, as far as the engine reports it."""
    engine = on.asked.engine
    try:
        footprint = engine.footprint(engine.served(on.asked.model), on.asked.kv_dtype)
    except KvcalcError:
        return ()
    return [kink for kink in growth_changes(footprint) if first <= kink <= last]
