"""JSON: every number an exact integer, but for ratios."""

from __future__ import annotations

from json import dumps
from typing import TextIO

from kvcalc.report.sheet import Document


def write(document: Document, stream: TextIO) -> None:
    """Writes the document's values, indented."""
    stream.write(dumps(document.data(), indent=2) + "\n")
