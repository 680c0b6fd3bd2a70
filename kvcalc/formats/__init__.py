"""Formats: one file for each value of --format, with `write(document, stream)`.

FOR_ANYTHING render any document, FOR_CHARTS those with charts, FOR_FINDINGS those with notices.
"""

from __future__ import annotations

from typing import TextIO

from kvcalc.errors import InvalidValueError, KvcalcError
from kvcalc.registry import Registry
from kvcalc.report.sheet import Document

FORMATS = Registry("kvcalc.formats", "format")
FOR_FINDINGS = ("github", "gitlab", "junit", "sarif")
FOR_CHARTS = ("chart", "svg", "png", "tikz")
FOR_ANYTHING = ("table", "json", "csv", "markdown", "latex", "html")
OF_BYTES = ("png",)
"""Formats that are no text: a terminal does not take them."""
_DRAWN = ("svg", "png")
"""Formats that matplotlib draws."""
_SUFFIXES = {
    ".txt": "table",
    ".json": "json",
    ".csv": "csv",
    ".md": "markdown",
    ".svg": "svg",
    ".png": "png",
    ".tex": "tikz",
    ".html": "html",
}
_ONLY = {
    FOR_FINDINGS: "renders findings of `kvcalc check` and `kvcalc diff` only",
    FOR_CHARTS: "draws charts, and this answer has none",
}


def write(document: Document, name: str, stream: TextIO) -> None:
    """Writes `document` to `stream` in the format `name`. Raises UnknownNameError."""
    FORMATS.module(name).write(document, stream)


def check_format(name: str, allowed: tuple[str, ...]) -> None:
    """Raises UnknownNameError for an unknown format, InvalidValueError for one that this output has not.

    Raises KvcalcError for one whose library is not installed.
    """
    if name in _DRAWN:
        _check_library()
    FORMATS.module(name)
    if name not in allowed:
        only = next((words for names, words in _ONLY.items() if name in names), "is not for this answer")
        raise InvalidValueError(f"the format {name} {only}", help=f"use {', '.join(allowed)}")


def _check_library() -> None:
    from importlib.util import find_spec

    if find_spec("matplotlib") is None:
        raise KvcalcError(
            "charts are drawn by matplotlib, which is not installed: pip install 'kvcalc[plot]'",
            help="--format chart draws in the terminal, and --format json and csv have the numbers, without it",
        )


def format_of_file(suffix: str) -> str:
    """The format of a file by the end of its name. Raises InvalidValueError for one that says none."""
    found = _SUFFIXES.get(suffix.lower())
    if found is None:
        raise InvalidValueError(
            f"the ending {suffix!r} says no format" if suffix else "a name without an ending says no format",
            help=f"end it in {', '.join(_SUFFIXES)}, or give --format",
        )
    return found
