"""JSON: every number an exact integer, but for ratios."""

from __future__ import annotations

from json import dumps
from typing import TextIO

from kvcalc.formats._escapes import json_text
from kvcalc.report.sheet import Document


def write(document: Document, stream: TextIO) -> None:
    """Writes the document's values, indented."""
    text = dumps(document.data(), indent=2)  # in ASCII: whatever acts on a terminal is an escape
    stream.write(json_text(text) + "\n")
