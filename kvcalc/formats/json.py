"""JSON: every number an exact integer, but for ratios."""

from __future__ import annotations

from json import dumps
from typing import TextIO

from kvcalc.report.sheet import Document


def write(document: Document, stream: TextIO) -> None:
    """Writes the document's values, indented."""
    text = dumps(document.to_dict(), indent=2)  # in ASCII: whatever acts on a terminal is an escape
    for command in ("##[", "##vso["):  # of a workflow; two hashes stand in texts alone, and may be an escape there
        text = text.replace(command, f"\\u0023{command[1:]}")
    stream.write(text + "\n")
