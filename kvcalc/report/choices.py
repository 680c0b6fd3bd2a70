"""Layouts to choose from, best first."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

from kvcalc.report.beside import UNRESERVED
from kvcalc.report.notebooks import frame_of, html_of, text_of
from kvcalc.report.sheet import Cell, Column, Json, Line, Sheet, Styled, Table, in_version
from kvcalc.report.versions import named
from kvcalc.units import count, plural

if TYPE_CHECKING:
    from kvcalc.report.chart import Bars

MOST_SHOWN = 12
"""Rows shown in a table; files have all."""
MOST_AFTER = 8
"""Rows shown after the answer for one layout."""


def between(low: int | None, high: int | None) -> Cell:
    """A number, a range if it rests on an estimate, or `any`."""
    if low is None:
        return "any"
    return low if high is None or low == high else f"{count(low)} to {count(high)}"


class Choice(NamedTuple):
    """One layout on GPUs of one kind, in one format of weights and one of the cache.

    max_sequences, max_context: None if any number fits; if other memory is an estimate they follow its upper end, and
    those with `_at_best` its lower end. beside_bytes: both ends.
    fits: whether it holds the requested users. weights_bytes, cache_bytes: on each GPU. copies: of the cache within a
    replica. limited_by: the limiting factor. degrees: of parallelism, by name. weights_format, weights_repository:
    empty if unknown; weights_estimate: whether their size was counted instead of read. estimate: whether any number
    rests on one.
    """

    gpu: str
    num_gpus: int
    parallel: str
    weights_format: str
    weights_repository: str
    weights_estimate: bool
    kv_dtype: str
    max_sequences: int | None
    max_sequences_at_best: int | None
    max_context: int | None
    max_context_at_best: int | None
    fits: bool
    estimate: bool
    weights_bytes: int
    beside_bytes: tuple[int, int]
    cache_bytes: int
    copies: Fraction | None
    limited_by: str
    degrees: tuple[tuple[str, int], ...]

    @property
    def formats(self) -> tuple[str, str, str]:
        """Its device and formats."""
        return self.gpu, self.weights_format, self.kv_dtype

    @property
    def on(self) -> str:
        """`2 x h100-80gb, TP 2`."""
        return f"{count(self.num_gpus)} x {self.gpu}, {self.parallel}"

    @property
    def users(self) -> str:
        """How many users it holds, in words."""
        most = between(self.max_sequences, self.max_sequences_at_best)
        return plural(most, "user") if isinstance(most, int) else f"{most} users"

    @property
    def stored(self) -> str:
        """Formats of weights and cache as one label."""
        return f"{self.weights_format}/{self.kv_dtype}" if self.weights_format else self.kv_dtype

    def row(self) -> dict[str, Cell]:
        """Plain values in one row, degrees by their names."""
        named = {name: value for name, value in self._asdict().items() if name not in ("degrees", "beside_bytes")}
        beside = dict(zip(("beside_least_bytes", "beside_most_bytes"), self.beside_bytes, strict=True))
        copies = None if self.copies is None else float(self.copies)
        return {**named, "copies": copies, **beside, **dict(self.degrees)}

    def to_dict(self) -> dict[str, Json]:
        """Plain values."""
        copies = None if self.copies is None else float(self.copies)
        beside = list(self.beside_bytes)
        return {**self._asdict(), "beside_bytes": beside, "degrees": dict(self.degrees), "copies": copies}


class ChoicesReport(NamedTuple):
    """All layouts. tokens: context of each user, or of all of them where they share one; sequences: requested users.

    weights_format, kv_dtype: those of the question, before others are tried; the first is empty if unknown.
    unreserved: whether no other memory is counted besides weights and cache.
    """

    model: str
    engine: str
    engine_version: str
    tokens: int
    sequences: int
    choices: tuple[Choice, ...]
    notes: tuple[str, ...] = ()
    shares_context: bool = False
    weights_format: str = ""
    kv_dtype: str = ""
    unreserved: bool = False

    @property
    def fits(self) -> bool:
        """Whether any layout holds the requested users."""
        return any(choice.fits for choice in self.choices)

    def to_dict(self) -> dict[str, Json]:
        """Plain values."""
        return {
            **named("choices"),
            "model": self.model,
            "engine": self.engine,
            **({"engine_version": self.engine_version} if self.engine_version else {}),
            "tokens": self.tokens,
            "sequences": self.sequences,
            "fits": self.fits,
            "weights_format": self.weights_format,
            "kv_dtype": self.kv_dtype,
            "choices": [choice.to_dict() for choice in self.choices],
            "notes": list(self.notes),
        }

    def table(self) -> Table:
        """One row for each layout, with the question."""
        asked = {"model": self.model, "engine": self.engine, "engine_version": self.engine_version}
        of_users = {"tokens": self.tokens, "sequences": self.sequences}
        return Table.of({**asked, **of_users, **choice.row()} for choice in self.choices)

    def charts(self) -> "tuple[Bars, ...]":
        """Weights and cache of each GPU, the best layout on top."""
        from kvcalc.report.chart import Bar, Bars, Segment

        bars = tuple(
            Bar(
                f"{each.on}, {each.stored}",
                (Segment("weights", each.weights_bytes, 0), Segment("left for the cache", each.cache_bytes, 2)),
                each.users,
            )
            for each in self.choices[:MOST_SHOWN]
        )
        return (Bars(self.sheets()[0].title, "memory of each GPU", bars),)

    def __str__(self) -> str:
        return text_of(self)

    def _repr_html_(self) -> str:
        return html_of(self)

    def to_frame(self) -> Any:
        """A data frame of what `--format csv` prints, in pandas, polars or pyarrow, whichever is there."""
        return frame_of(self)

    def sheets(self) -> tuple[Sheet, ...]:
        """One row for each layout, best first."""
        shown = self._shown(MOST_SHOWN)
        title = f"{self.model} in {in_version(self.engine, self.engine_version)}: layouts, best first"
        left_out = self._left_out(len(self.choices) - len(shown))
        return (Sheet(title, *self._table_of(shown), self._lines(), (*left_out, *self.notes)),)

    def best(self) -> "ChoicesReport":
        """Only the rows that follow the answer for one layout."""
        return self._replace(choices=tuple(self._shown(MOST_AFTER)))

    def sheet_after(self, notes: Sequence[str]) -> Sheet:
        """What follows the answer for one layout, which has shown `notes` already."""
        title = f"layouts and formats for {self._asked()}, best first"
        more = "all layouts: --gpus 1,2,4,8,16; one layout in full: --tp, --pp, --dp, --ep, --dcp"
        return Sheet(title, *self._table_of(self.choices), notes=(*(n for n in self.notes if n not in notes), more))

    def _table_of(self, shown: Sequence[Choice]) -> tuple[tuple[Column, ...], tuple[tuple[Cell, ...], ...]]:
        """Columns and rows; neither if there is no row."""
        columns = (
            Column("GPUs"),
            Column("layout"),
            Column("weights"),
            Column("KV"),
            Column("max users", "count"),
            Column("max context", "count"),
            Column("copies", "ratio", wide=True),
            Column("weights GB", "gigabytes", wide=True),
            Column("cache GB", "gigabytes", wide=True),
            Column("limited by", wide=True),
        )
        return (columns if shown else (), tuple(tuple(self._cells(choice)) for choice in shown))

    def _shown(self, most: int) -> list[Choice]:
        """The best layout of each device and formats, then the best of the others, in order."""
        first = {choice.formats: place for place, choice in reversed(list(enumerate(self.choices)))}
        places = dict.fromkeys([*sorted(first.values()), *range(len(self.choices))])
        return [self.choices[place] for place in sorted(list(places)[:most])]

    def _cells(self, choice: Choice) -> list[Cell]:
        about = "~" if choice.weights_estimate else ""
        cells: list[Cell] = [
            Styled(f"{count(choice.num_gpus)} x {choice.gpu}", "answer" if choice.fits else "alarm"),
            choice.parallel,
            f"{about}{choice.weights_format or 'given'}",
            choice.kv_dtype,
            between(choice.max_sequences, choice.max_sequences_at_best),
            between(choice.max_context, choice.max_context_at_best),
            None if choice.copies is None else float(choice.copies),
            choice.weights_bytes,
            choice.cache_bytes,
            choice.limited_by,
        ]
        return cells

    def _lines(self) -> tuple[Line, ...]:
        return (*self._answer(), *((UNRESERVED,) if self.unreserved else ()))

    def _answer(self) -> tuple[Line, ...]:
        asked = self._asked()
        if not self.choices:
            return (Line("asked", f"{asked}: no layout tried holds the weights", "alarm"),)
        best = self.choices[0]
        if not best.fits:
            return (Line("asked", f"{asked}: TOO LARGE for every layout tried", "alarm"),)
        stored = _stored(best.weights_format, best.kv_dtype)
        return (Line("asked", f"{asked}: fits"), *self._unchanged(best), Line("best", f"{best.on}, {stored}", "answer"))

    def _unchanged(self, best: Choice) -> Iterator[Line]:
        """The first layout in the formats of the question, if the best one changes them."""
        own = (self.weights_format, self.kv_dtype)
        if self.kv_dtype and own != (best.weights_format, best.kv_dtype):
            fits = (each for each in self.choices if each.fits and (each.weights_format, each.kv_dtype) == own)
            first = next(fits, None)
            on = "TOO LARGE for every layout tried" if first is None else first.on
            yield Line("as published", f"{on}, {_stored(*own)}" if first else f"{_stored(*own)}: {on}")

    def _asked(self) -> str:
        at = "sharing" if self.shares_context else "at"
        return f"{plural(self.sequences, 'user')} {at} {plural(self.tokens, 'token')}"

    @staticmethod
    def _left_out(more: int) -> tuple[str, ...]:
        return (f"{plural(more, 'more layout')}: --format json has all",) if more > 0 else ()


def _stored(weights: str, cache: str) -> str:
    """`bf16 weights, fp8 cache`."""
    return f"{weights} weights, {cache} cache" if weights else f"{cache} cache"
