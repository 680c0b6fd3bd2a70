"""Layouts to choose from, best first."""

from fractions import Fraction
from typing import NamedTuple

from kvcalc.report.sheet import Cell, Column, Json, Line, Sheet, Styled, Table, in_version
from kvcalc.report.versions import named
from kvcalc.units import count, plural

MOST_SHOWN = 12
"""Rows of a table for eyes; files have all."""


class Choice(NamedTuple):
    """One layout on GPUs of one kind.

    max_sequences, max_context: None where any number fits.
    fits: whether it holds the users who are asked about. weights_bytes, cache_bytes: on each GPU. copies: how often the
    ranks of a replica hold what one GPU would hold once. limited_by: the term that leaves no room for more. degrees: of
    parallelism, by name.
    """

    gpu: str
    num_gpus: int
    parallel: str
    kv_dtype: str
    max_sequences: int | None
    max_context: int | None
    fits: bool
    weights_bytes: int
    cache_bytes: int
    copies: Fraction | None
    limited_by: str
    degrees: tuple[tuple[str, int], ...]

    def row(self) -> dict[str, Cell]:
        """Plain values in one row, degrees by their names."""
        named = {name: value for name, value in self._asdict().items() if name != "degrees"}
        return {**named, "copies": None if self.copies is None else float(self.copies), **dict(self.degrees)}

    def to_dict(self) -> dict[str, Json]:
        """Plain values."""
        copies = None if self.copies is None else float(self.copies)
        return {**self._asdict(), "degrees": dict(self.degrees), "copies": copies}


class ChoicesReport(NamedTuple):
    """All of them. tokens: context of each user; sequences: users who are asked about."""

    model: str
    engine: str
    engine_version: str
    tokens: int
    sequences: int
    choices: tuple[Choice, ...]
    notes: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether any layout holds what is asked."""
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
            "choices": [choice.to_dict() for choice in self.choices],
            "notes": list(self.notes),
        }

    def table(self) -> Table:
        """A row for each, however many, with the question."""
        asked = {"model": self.model, "engine": self.engine, "engine_version": self.engine_version}
        of_users = {"tokens": self.tokens, "sequences": self.sequences}
        return Table.of({**asked, **of_users, **choice.row()} for choice in self.choices)

    def sheets(self) -> tuple[Sheet, ...]:
        """A row for each, the best on top."""
        columns = (
            Column("GPUs"),
            Column("layout"),
            Column("KV"),
            Column("max users", "count"),
            Column("max context", "count"),
            Column("copies", "ratio", wide=True),
            Column("weights GB", "gigabytes", wide=True),
            Column("cache GB", "gigabytes"),
            Column("limited by", wide=True),
        )
        rows = tuple(tuple(self._cells(choice)) for choice in self.choices[:MOST_SHOWN])
        title = f"{self.model} in {in_version(self.engine, self.engine_version)}: layouts, best first"
        return (Sheet(title, columns, rows, self._lines(), (*self._left_out(), *self.notes)),)

    def _cells(self, choice: Choice) -> list[Cell]:
        users: Cell = "any" if choice.max_sequences is None else choice.max_sequences
        context: Cell = "any" if choice.max_context is None else choice.max_context
        cells: list[Cell] = [
            Styled(f"{count(choice.num_gpus)} x {choice.gpu}", "answer" if choice.fits else "alarm"),
            choice.parallel,
            choice.kv_dtype,
            users,
            context,
            None if choice.copies is None else float(choice.copies),
            choice.weights_bytes,
            choice.cache_bytes,
            choice.limited_by,
        ]
        return cells

    def _lines(self) -> tuple[Line, ...]:
        asked = f"{plural(self.sequences, 'user')} at {plural(self.tokens, 'token')}"
        if not self.choices:
            return (Line("asked", f"{asked}: no layout that was tried holds the weights", "alarm"),)
        best = self.choices[0]
        on = f"{count(best.num_gpus)} x {best.gpu}, {best.parallel}, {best.kv_dtype}"
        if not best.fits:
            return (Line("asked", f"{asked}: TOO LARGE for every layout that was tried", "alarm"),)
        return (Line("asked", f"{asked}: fits"), Line("best", on, "answer"))

    def _left_out(self) -> tuple[str, ...]:
        more = len(self.choices) - MOST_SHOWN
        return (f"{plural(more, 'further layout')}: --format json has all",) if more > 0 else ()
