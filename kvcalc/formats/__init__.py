"""Formats: one file for each value of --format, with `write(document, stream)`.

FOR_ANYTHING render any document, FOR_FINDINGS those with notices.
"""

from __future__ import annotations

from typing import TextIO

from kvcalc.errors import InvalidValueError
from kvcalc.registry import Registry
from kvcalc.report.sheet import Document

FORMATS = Registry("kvcalc.formats", "format")
FOR_FINDINGS = ("github", "gitlab", "junit", "sarif")
FOR_ANYTHING = ("table", "json", "csv", "markdown", "latex")


def write(document: Document, name: str, stream: TextIO) -> None:
    """Writes `document` to `stream` in the format `name`. Raises UnknownNameError."""
    FORMATS.module(name).write(document, stream)


def check_format(name: str, allowed: tuple[str, ...]) -> None:
    """Raises UnknownNameError for an unknown format, InvalidValueError for one that this output has not."""
    FORMATS.module(name)
    if name not in allowed:
        raise InvalidValueError(
            f"the format {name} renders findings of `kvcalc check` and `kvcalc diff` only",
            help=f"use {', '.join(allowed)}",
        )
