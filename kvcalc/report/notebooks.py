"""Answers as HTML for notebooks, as text, and as data frames."""

from __future__ import annotations

import sys
from importlib import import_module
from io import StringIO
from typing import TYPE_CHECKING, Any

from kvcalc.errors import KvcalcError
from kvcalc.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kvcalc.report.sheet import Cell, Document

_PAGES = Registry("kvcalc.formats", "format")
"""Formats import reports, not the other way round: one is found by its name when a notebook needs it."""


def html_of(document: Document) -> str:
    """The document as HTML for embedding in another page."""
    fragment: str = _PAGES.module("html").fragment(document)
    return fragment


def text_of(document: Document) -> str:
    """The document as `--format table` prints it."""
    stream = StringIO()
    _PAGES.module("table").write(document, stream)
    return stream.getvalue().rstrip("\n")


def frame_of(document: Document) -> Any:
    """The table of `--format csv` as a data frame of the library already imported, else of one installed.

    Bytes and counts are 64-bit integers, and empty cells are missing values, never floats. Raises KvcalcError without a
    data frame library.
    """
    from importlib.util import find_spec

    from kvcalc.report.sheet import table_of

    table = table_of(document)
    columns = {name: [_plain(row[i]) for row in table.rows] for i, name in enumerate(table.names)}
    for name in sorted(_MAKERS, key=lambda name: name not in sys.modules):  # in order, those already imported first
        if find_spec(name) is not None:
            return _MAKERS[name](import_module(name), columns)
    raise KvcalcError(
        f"a data frame needs one of {', '.join(_MAKERS)}, and none is installed: pip install pandas",
        help="to_dict() and --format csv have the same numbers without it",
    )


def _plain(cell: Cell) -> Cell:
    return cell if cell is None or isinstance(cell, int | float) else str(cell)


def _pandas(library: Any, columns: dict[str, list[Cell]]) -> Any:
    """Nullable columns: numpy's would turn integers into floats if one is missing."""
    return library.DataFrame(
        {name: library.array(cells, dtype=_DTYPES[_type(cells)]) for name, cells in columns.items()}
    )


def _polars(library: Any, columns: dict[str, list[Cell]]) -> Any:
    kinds = {"int": library.Int64, "float": library.Float64, "bool": library.Boolean, "text": library.String}
    return library.DataFrame(
        {name: library.Series(name, cells, kinds[_type(cells)]) for name, cells in columns.items()}
    )


def _pyarrow(library: Any, columns: dict[str, list[Cell]]) -> Any:
    kinds = {"int": library.int64(), "float": library.float64(), "bool": library.bool_(), "text": library.string()}
    return library.table({name: library.array(cells, kinds[_type(cells)]) for name, cells in columns.items()})


_MAKERS: dict[str, Callable[[Any, dict[str, list[Cell]]], Any]] = {
    "pandas": _pandas,
    "polars": _polars,
    "pyarrow": _pyarrow,
}
_DTYPES = {"int": "Int64", "float": "Float64", "bool": "boolean", "text": "string"}


def _type(cells: Sequence[Cell]) -> str:
    """Type of a column: text if it has several types, or none."""
    kinds = {type(cell) for cell in cells if cell is not None}
    if kinds == {bool}:
        return "bool"
    if kinds == {int}:
        return "int"
    return "float" if kinds and kinds <= {int, float} else "text"
