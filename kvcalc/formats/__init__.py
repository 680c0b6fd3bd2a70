"""Formats: one file for each value of --format, with `write(document, stream)`.

FOR_ANYTHING renders any document, FOR_CHARTS those with charts, FOR_FINDINGS those with notices.
"""

from __future__ import annotations

from typing import TextIO

from kvcalc.errors import InvalidValueError, KvcalcError
from kvcalc.errors.extras import install
from kvcalc.registry import Registry
from kvcalc.report.sheet import Document

FORMATS = Registry("kvcalc.formats", "format")
FOR_FINDINGS = ("github", "gitlab", "junit", "sarif")
FOR_CHARTS = ("chart", "svg", "png", "tikz")
FOR_ANYTHING = ("table", "json", "csv", "markdown", "latex", "html")
OF_BYTES = ("png",)
"""Binary formats, which must not go to a terminal."""
_DRAWN = ("svg", "png")
"""Formats drawn by matplotlib."""
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
    """Raises UnknownNameError for an unknown format, InvalidValueError for one that this output does not support.

    Raises KvcalcError if its library is not installed.
    """
    if name in _DRAWN:
        _check_library()
    FORMATS.module(name)
    if name not in allowed:
        only = next((words for names, words in _ONLY.items() if name in names), "is not supported for this answer")
        raise InvalidValueError(f"the format {name} {only}", help=f"use {', '.join(allowed)}")


def _check_library() -> None:
    from importlib.util import find_spec

    if find_spec("matplotlib") is None:
        raise KvcalcError(
            f"charts need matplotlib, which is not installed: {install('plot')}",
            help="--format chart (in the terminal), json and csv work without it",
        )


def format_of_file(suffix: str) -> str:
    """The format of a file by its suffix. Raises InvalidValueError for an unknown one."""
    found = _SUFFIXES.get(suffix.lower())
    if found is None:
        raise InvalidValueError(
            f"the suffix {suffix!r} is not a known format"
            if suffix
            else "a name without a suffix does not give a format",
            help=f"use one of {', '.join(_SUFFIXES)}, or pass --format",
        )
    return found
