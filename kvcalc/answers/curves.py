"""Bytes against tokens: the curve of each model, engine, format and method, exact at each of its points.

A curve is sampled a few times in each doubling, and wherever its slot rules say that its growth changes: a window that
fills between two samples would else be cut off.
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
"""Curves that can still be told apart."""
ALL_METHODS = "all"
_IN_AN_OCTAVE = ((1, 1), (19, 16), (181, 128), (215, 128))
"""Factors of a power of two at which a curve is sampled: 2 ** (k / 4), as fractions."""
_EQUAL_STEPS = 64
"""Samples of a linear axis."""
_SHOWN_PERIODS = 16
"""Periods, from the first on, of which each step is drawn; later ones only as they end."""


class Line(NamedTuple):
    """What a curve is of. method: as it was asked for; empty for the model as it is. model: its name without it."""

    question: Question
    method: str = ""
    model: str = ""

    @property
    def asked(self) -> tuple[tuple[str, Cell], ...]:
        """The question, by the names that reports have."""
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
        """What tells curves apart, in words: model, engine, format, method."""
        asked = dict(self.asked)
        engine = in_version(str(asked["engine"]), str(asked["engine_version"]))
        return str(asked["model"]), f"{engine} engine", str(asked["kv_dtype"]), self.method or "as it is"


def lines_of(questions: Iterable[Question], methods: Sequence[str] = ()) -> tuple[list[Line], tuple[str, ...]]:
    """A line for each question, as it is and under each method; and why some methods are left out."""
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
    """The methods; of `all`, every one that needs no parameter."""
    if list(methods) != [ALL_METHODS]:
        return methods
    return [name for name in METHODS.names() if ... not in parameters(METHODS.module(name).apply).values()]


def check_number(curves: int) -> None:
    """Raises InvalidValueError for more curves than can be told apart."""
    if curves > MOST_CURVES:
        raise InvalidValueError(
            f"{curves:,} curves cannot be told apart in one chart",
            help=f"ask for at most {MOST_CURVES}: fewer models, engines, formats or methods",
        )


def growing(
    lines: Sequence[Line], first: int, last: int, *, linear: bool = False, levels: Sequence[Level] = ()
) -> CurvesReport:
    """Bytes of the cache from `first` to `last` tokens, a curve for each line; what an engine refuses is left out.

    Raises NotApplicableError where engines refuse all of them, InvalidValueError for too many.
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
    """Curves of all lines but those that are refused, and why these are. Raises the first refusal where all are."""
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
        notes.append(f"in steps of {plural(footprint.period, 'token')}; after {shown} only the end of each is drawn")
    each = last * question.times_held // question.sequences
    return Curve(
        label,
        line.asked,
        tuple((tokens, question.times_held * footprint.bytes(tokens)) for tokens in at),
        kinks,
        (*notes, *beyond_the_model(model, each)),
    )


def growth_changes(footprint: Footprint) -> Iterator[int]:
    """Token counts from which on a sequence grows otherwise."""
    before = footprint.growth(0)
    for kink in footprint.kinks:
        after = footprint.growth(kink)
        if after != before:
            yield kink
        before = after


def samples(first: int, last: int, kinks: Iterable[int] = (), period: int = 1, *, linear: bool = False) -> list[int]:
    """Token counts at which a curve is drawn: both ends, the kinks, and equal steps or parts of a doubling.

    period: tokens after which it repeats itself, as blocks do. Both sides of each step are drawn while steps are few;
    later only where a period ends, so that no two samples are of different parts of one.
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
    """A label for each line: what it does not have in common with all others; the first fact where all are alike."""
    differs = [len(set(column)) > 1 for column in zip(*facts, strict=True)]
    labels = [
        ", ".join(fact.removesuffix(" engine") for fact, own in zip(each, differs, strict=True) if own)
        for each in facts
    ]
    return [label or each[0] for label, each in zip(labels, facts, strict=True)]


def in_common(facts: Sequence[Sequence[str]]) -> str:
    """What all lines have in common, but that they are as they are."""
    common = [column[0] for column in zip(*facts, strict=True) if len(set(column)) == 1]
    return ", ".join(fact for fact in common if fact != "as it is")
