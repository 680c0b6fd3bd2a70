"""A cell as text, by the kind of its column."""

from __future__ import annotations

from kvcalc.report.sheet import Cell, Column
from kvcalc.units import GB, GIB

_SMALL_RATIO = 0.01
"""Ratio below which a fourth decimal is shown, so that a cache of under 1% is not shown as 0."""


def cell_text(value: Cell, column: Column) -> str:
    """For people: thousands separators, two decimals in scaled units."""
    if not isinstance(value, int | float):
        return "" if value is None else str(value)
    match column.kind:
        case "count" | "bytes":
            return f"{value:,}"
        case "gigabytes":
            return f"{value / GB:,.2f}"
        case "gibibytes":
            return f"{value / GIB:,.2f}"
        case "ratio":
            return f"{value:.3f}" if value >= _SMALL_RATIO else f"{value:.4f}"
        case _:
            return str(value)


def is_number(column: Column) -> bool:
    """Whether a column's cells are right-aligned."""
    return column.kind not in ("text", "bar")


def is_fixed(column: Column) -> bool:
    """Whether a column's cells must not wrap."""
    return column.kind != "text"
