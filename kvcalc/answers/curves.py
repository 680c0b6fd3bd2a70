"""Bytes over tokens: a curve for each model, engine, format and method, exact at each point.

A curve is sampled a few times per doubling, and wherever its slot rules change their growth: otherwise a window that
fills between two samples would be cut off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

from kvcalc.answers.size import beyond_the_model
from kvcalc.engines.base.footprint import Footprint
from kvcalc.errors import InvalidValueError, NotApplicableError
from kvcalc.methods import METHODS, apply_method, parameters
from kvcalc.question import Question
from kvcalc.report.chart import Level
from kvcalc.report.curves import Curve, CurvesReport
from kvcalc.report.sheet import Cell, in_version
from kvcalc.units import plural

Of = TypeVar("Of")
MOST_CURVES = 12
"""Most curves that can be distinguished."""
ALL_METHODS = "all"
_IN_AN_OCTAVE = ((1, 1), (19, 16), (181, 128), (215, 128))
"""Factors between powers of two at which a curve is sampled: 2 ** (k / 4), as fractions."""
_EQUAL_STEPS = 64
"""Samples of a linear axis."""
_SHOWN_PERIODS = 16
"""Number of periods drawn step by step; later ones only at their end."""


class Line(NamedTuple):
    """The question of a curve. method: as requested; empty without one. model: its name without the method."""

    question: Question
    method: str = ""
    model: str = ""

    @property
    def asked(self) -> tuple[tuple[str, Cell], ...]:
        """The question, by the names of reports."""
        question = self.question
        engine = question.engine
        return (
            ("model", self.model or question.model.name),
            ("sequences", question.sequences),
            ("kv_dtype", engine.cache_format(question.model, question.kv_dtype)),
            ("engine", engine.name),
            ("engine_version", engine.release_words),
            ("method", self.method),
        )

    @property
    def facts(self) -> tuple[str, ...]:
        """What distinguishes curves, in words: model, engine, format, method."""
        asked = dict(self.asked)
        engine = in_version(str(asked["engine"]), str(asked["engine_version"]))
        return str(asked["model"]), f"{engine} engine", str(asked["kv_dtype"]), self.method or "baseline"


def lines_of(questions: Iterable[Question], methods: Sequence[str] = ()) -> tuple[list[Line], tuple[str, ...]]:
    """A line for each question, without and with each method; and why some methods are left out."""
    lines: list[Line] = []
    left_out: dict[str, None] = {}
    for question in questions:
        lines.append(Line(question))
        for spec in _named(methods):
            try:
                changed = question.of_model(apply_method(question.model, spec))
                lines.append(Line(changed, spec, question.model.name))
            except NotApplicableError as error:
                left_out[f"{spec} does not apply to {question.model.name}: {error.what}"] = None
    return lines, tuple(left_out)


def _named(methods: Sequence[str]) -> Sequence[str]:
    """The methods; for `all`, every one that needs no parameter."""
    if list(methods) != [ALL_METHODS]:
        return methods
    return [name for name in METHODS.names() if ... not in parameters(METHODS.module(name).apply).values()]


def check_number(curves: int) -> None:
    """Raises InvalidValueError for more curves than can be distinguished."""
    if curves > MOST_CURVES:
        raise InvalidValueError(
            f"{curves:,} curves are too many for one chart (limit {MOST_CURVES:,})",
            help="name fewer models, engines, formats or methods",
        )


def growing(
    lines: Sequence[Line], first: int, last: int, *, linear: bool = False, levels: Sequence[Level] = ()
) -> CurvesReport:
    """Bytes of the cache from `first` to `last` tokens, a curve for each line; refused lines are left out.

    Raises NotApplicableError if engines refuse all of them, InvalidValueError for too many.
    """
    check_number(len(lines))
    labels = told_apart([line.facts for line in lines])

    def curve(label: str, line: Line) -> Curve:
        return _curve(label, line, first, last, linear=linear)

    curves, left_out = those_that_can(curve, labels, lines)
    shared = {line.question.engine.SHARES_CONTEXT for line in lines}
    return CurvesReport(
        title=f"KV cache by context: {in_common([line.facts for line in lines])}{_sequences(lines)}",
        of="bytes",
        curves=curves,
        levels=tuple(levels),
        notes=left_out,
        linear=linear,
        over="tokens of the whole context" if shared == {True} else "cached tokens of each sequence",
    )


def _sequences(lines: Sequence[Line]) -> str:
    """` x 8 sequences`; nothing for one."""
    number = lines[0].question.sequences
    return f", {plural(number, 'sequence')}" if number > 1 else ""


def those_that_can(
    curve: Callable[[str, Of], Curve], labels: Sequence[str], lines: Sequence[Of]
) -> tuple[tuple[Curve, ...], tuple[str, ...]]:
    """Curves of all accepted lines, and reasons for the refused ones. Raises the first refusal if none is accepted."""
    curves: list[Curve] = []
    refused: list[tuple[str, NotApplicableError]] = []
    for label, line in zip(labels, lines, strict=True):
        try:
            curves.append(curve(label, line))
        except NotApplicableError as error:
            refused.append((label, error))
    if refused and not curves:
        raise refused[0][1]
    return tuple(curves), tuple(f"{label} is left out: {error.what}" for label, error in refused)


def _curve(label: str, line: Line, first: int, last: int, *, linear: bool) -> Curve:
    question = line.question
    engine = question.serving
    model = engine.served(question.model)
    footprint = engine.footprint(model, question.kv_dtype)
    longest = engine.longest(model, question.kv_dtype)
    notes = [*model.notes, *engine.version_notes, *engine.notes(model), *engine.caveats(model)]
    if longest is not None and longest.tokens < last:
        longest.check(first)
        last = longest.tokens
        notes.append(f"ends at {plural(last, 'token')}: {longest.refusal}")
    kinks = tuple(kink for kink in growth_changes(footprint) if first <= kink <= last)
    at = samples(first, last, kinks, footprint.period, linear=linear)
    if last > _SHOWN_PERIODS * footprint.period > _SHOWN_PERIODS:
        shown = plural(_SHOWN_PERIODS * footprint.period, "token")
        notes.append(
            f"in steps of {plural(footprint.period, 'token')}; after {shown} only the end of each step is drawn"
        )
    each = last * question.times_held // question.sequences
    return Curve(
        label,
        line.asked,
        tuple((tokens, question.times_held * footprint.bytes(tokens)) for tokens in at),
        kinks,
        (*notes, *beyond_the_model(model, each)),
    )


def growth_changes(footprint: Footprint) -> Iterator[int]:
    """Token counts at which the growth of a sequence changes."""
    before = footprint.growth(0)
    for kink in footprint.kinks:
        after = footprint.growth(kink)
        if after != before:
            yield kink
        before = after


def samples(first: int, last: int, kinks: Iterable[int] = (), period: int = 1, *, linear: bool = False) -> list[int]:
    """Token counts at which a curve is sampled: both ends, the kinks, and equal steps or parts of a doubling.

    period: tokens after which it repeats, such as a block. Both sides of each step are sampled while there are few
    steps; later only the end of each period, so that all samples are at the same phase.
    """
    found: set[int] = set()
    if linear:
        found.update(first + (last - first) * step // _EQUAL_STEPS for step in range(_EQUAL_STEPS))
    power = 1
    while power <= last and not linear:
        found.update(power * over // under for over, under in _IN_AN_OCTAVE)
        power *= 2
    shown = _SHOWN_PERIODS * period if period > 1 else 0
    found = {tokens if tokens <= shown or period == 1 else tokens // period * period for tokens in found}
    found.update(step + side for step in range(period, shown + 1, period) for side in (-1, 0, 1))
    return sorted(tokens for tokens in found | {first, last, *kinks} if first <= tokens <= last)


def told_apart(facts: Sequence[Sequence[str]]) -> list[str]:
    """A label for each line: the facts that are not common to all; the first fact if all are equal."""
    differs = [len(set(column)) > 1 for column in zip(*facts, strict=True)]
    labels = [
        ", ".join(fact.removesuffix(" engine") for fact, own in zip(each, differs, strict=True) if own)
        for each in facts
    ]
    return [label or each[0] for label, each in zip(labels, facts, strict=True)]


def in_common(facts: Sequence[Sequence[str]]) -> str:
    """What all lines have in common, except being unchanged."""
    common = [column[0] for column in zip(*facts, strict=True) if len(set(column)) == 1]
    return ", ".join(fact for fact in common if fact != "baseline")
