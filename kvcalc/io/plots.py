"""Curves over the context: for models, GPUs, engines, formats and methods."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from kvcalc.errors import InvalidValueError, located
from kvcalc.io.asked import Terms
from kvcalc.model import Model
from kvcalc.parallel import Parallel

if TYPE_CHECKING:
    from kvcalc.fleet.curves import LineOnGpus
    from kvcalc.fleet.weights import Weights
    from kvcalc.hardware.gpu import Gpu
    from kvcalc.report.curves import CurvesReport

_USUAL_LAST = 131_072
_BELOW = 4096
"""The last length divided by the default first length."""
AnEngine = TypeVar("AnEngine")
AFormat = TypeVar("AFormat")
Asked = tuple["Gpu | None", Terms]
"""The terms for each model, with a device for users."""


class Names(NamedTuple):
    """Names of the values in the interface."""

    tokens: str
    methods: str
    engine_settings: str


class Wanted(NamedTuple):
    """What is to be plotted.

    asked: of each model. methods: also drawn. between: the last length, or the first and the last. linear: linear axes.
    levels: devices whose memory is drawn. room: None for bytes, else for users that fit.
    """

    models: Sequence[Model]
    asked: Sequence[Asked]
    methods: Sequence[str] = ()
    between: Sequence[int] = ()
    linear: bool = False
    levels: Sequence[Gpu] = ()
    room: Room | None = None


class Room(NamedTuple):
    """The memory for users on a GPU. share: of its memory; layout: of the ranks."""

    weights: Callable[[Model], Weights]
    reserve_bytes: int | None = None
    share: Fraction | None = None
    layout: Parallel | None = None


def of_all(
    engines: Sequence[AnEngine],
    dtypes: Sequence[AFormat],
    cards: Sequence[Gpu],
    terms: Callable[[Gpu | None, AFormat, AnEngine], Terms],
    settings: object,
    names: Names,
) -> list[Asked]:
    """Questions for each model: every engine and format, on every device if any.

    terms: of a device, a format and an engine. Raises InvalidValueError for settings of several engines.
    """
    if len(engines) > 1 and settings:
        raise InvalidValueError(
            f"{names.engine_settings} applies to one engine, but several are named",
            where=names.engine_settings,
            help="name one engine",
        )
    on: Sequence[Gpu | None] = cards or [None]
    return [(card, terms(card, each, name)) for card in on for name in engines for each in dtypes]


def curves_of(wanted: Wanted, names: Names) -> CurvesReport:
    """Bytes of the cache, or with a room the users that fit, from one length to another.

    Raises InvalidValueError, and NotApplicableError if engines refuse all of them.
    """
    models, asked, methods, between, linear, levels, room = wanted
    first, last = _range(between, models, names.tokens, linear=linear)
    if room is not None:
        from kvcalc.fleet.curves import fitting

        on_gpus = [line for each in models for line in _lines(each, asked, methods, room, names)]
        return fitting(on_gpus, first, last, linear=linear)

    from kvcalc.answers.curves import growing, lines_of
    from kvcalc.report.chart import Level

    of_cards = [Level(f"memory of {card.name}", card.memory_bytes) for card in levels]
    questions = [terms.of(one, 1) for one in models for _, terms in asked]
    lines, left_out = located(names.methods, lines_of, questions, methods)
    report = growing(lines, first, last, linear=linear, levels=of_cards)
    return report._replace(notes=(*report.notes, *left_out))


def _range(between: Sequence[int], models: Sequence[Model], place: str, *, linear: bool) -> tuple[int, int]:
    """First and last length. Raises InvalidValueError if they are not a range."""
    if len(between) > 2:  # noqa: PLR2004  # from and to
        raise InvalidValueError(
            f"a range has 2 token counts, but {len(between)} are given",
            where=place,
            help="pass the last (128K) or both (1K,128K)",
        )
    own = max((each.max_model_len or 0 for each in models), default=0)
    last = between[-1] if between else own or _USUAL_LAST
    first = between[0] if len(between) > 1 else 1 if linear else max(1, last // _BELOW)
    if first >= last:
        raise InvalidValueError(
            f"the range starts at {first:,} tokens and ends at {last:,}",
            where=place,
            help="put the smaller one first: 1K,128K",
        )
    return first, last


def _lines(
    model: Model, asked: Sequence[Asked], methods: Sequence[str], room: Room, names: Names
) -> Iterator[LineOnGpus]:
    """Questions for one model on GPUs: a curve for each device, engine, format and method."""
    from kvcalc.answers.curves import lines_of
    from kvcalc.fleet.curves import LineOnGpus
    from kvcalc.fleet.on_gpus import OnGpus
    from kvcalc.fleet.weights import loaded

    weighed = room.weights(model)
    ranks = room.layout or Parallel()
    for card, terms in asked:
        if card is None:
            continue
        whole = loaded(weighed, terms.engine.served(model))
        lines, _ = located(names.methods, lines_of, [terms.of(model, 1, room.layout)], methods)
        for line in lines:
            on = OnGpus(line.question, card, whole, room.reserve_bytes, room.share or Fraction(1))
            yield LineOnGpus(on, ranks, line.method, line.model)
