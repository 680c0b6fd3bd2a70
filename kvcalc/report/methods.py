"""The list of methods, and one method with its parameters."""

from collections.abc import Mapping
from typing import NamedTuple

from kvcalc.report.sheet import Column, Json, Line, Sheet, plain
from kvcalc.report.versions import named


class MethodEntry(NamedTuple):
    """A method: what it does, its spec, and its parameters with defaults, in words.

    formula: how much it keeps. meanings: of the parameters. remarks: further notes, a paragraph each.
    """

    name: str
    kind: str
    title: str
    source: str
    formula: str
    flash_attention: bool
    retraining: bool
    per_head_paging: bool
    step_copy: str
    caveat: str
    parameters: Mapping[str, str]
    meanings: Mapping[str, str]
    remarks: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Json]:
        """Plain values; `description`: the formula and further notes."""
        values: dict[str, Json] = {name: plain(value) for name, value in self._asdict().items()}
        return {**named("method"), **values, "description": "\n\n".join((self.formula, *self.remarks))}


class MethodList(NamedTuple):
    """All methods."""

    entries: tuple[MethodEntry, ...]

    def to_dict(self) -> list[Json]:
        """Plain values of each."""
        return [entry.to_dict() for entry in self.entries]

    def sheets(self) -> tuple[Sheet, ...]:
        """One row for each, grouped by kind."""
        columns = (
            Column("kind", once=True),
            Column("method"),
            Column("what it does"),
            Column("FlashAttention", wide=True),
            Column("retraining", wide=True),
            Column("per-head paging", wide=True),
        )
        rows = tuple(
            (e.kind, e.name, e.title, _yes(e.flash_attention), _yes(e.retraining), _yes(e.per_head_paging))
            for e in sorted(self.entries, key=lambda entry: (entry.kind, entry.name))
        )
        return (Sheet("Methods", columns, rows, notes=("`kvcalc methods show NAME` shows parameters and source",)),)


class MethodPage(NamedTuple):
    """Everything known about one method. given: whether its parameters were passed."""

    entry: MethodEntry
    given: bool = False

    def to_dict(self) -> dict[str, Json]:
        """Plain values."""
        return self.entry.to_dict()

    def sheets(self) -> tuple[Sheet, ...]:
        """Its traits, and one row for each parameter."""
        entry = self.entry
        lines = (
            Line("formula", entry.formula),
            Line("kind", entry.kind),
            Line("FlashAttention", _yes(entry.flash_attention)),
            Line("retraining", _yes(entry.retraining)),
            Line("per-head paging", _yes(entry.per_head_paging)),
            *((Line("each step", _COPIES[entry.step_copy]),) if entry.step_copy else ()),
            *((Line("caveat", entry.caveat),) if entry.caveat else ()),
            Line("source", entry.source),
        )
        rows = tuple((name, value, entry.meanings.get(name)) for name, value in entry.parameters.items())
        columns = (Column("parameter"), Column("value" if self.given else "default"), Column("meaning"))
        title = f"{entry.name}: {entry.title}"
        return (Sheet(title, columns, rows, lines, entry.remarks, label_width=_LABEL_WIDTH),)


_LABEL_WIDTH = 17
_COPIES = {
    "kept": "the authors' code rewrites a layer's kept tokens",
    "whole": "the authors' code restores a whole layer",
}


def _yes(holds: bool) -> str:
    return "yes" if holds else "no"
