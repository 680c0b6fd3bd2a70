"""The last step of every command: the finished document goes to stdout."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvcalc.report.sheet import Document


def check_output_format(name: str, *, findings: bool = False) -> None:
    """Raises KvcalcError for a format that this command has not, before anything is computed."""
    from kvcalc.cli.asking import located
    from kvcalc.formats import FOR_ANYTHING, FOR_FINDINGS, check_format

    located("--format", check_format, name, FOR_ANYTHING + (FOR_FINDINGS if findings else ()))


def show(document: Document, format: str) -> None:
    """Writes the document to stdout, whole."""
    from kvcalc.formats import write

    write(document, format, sys.stdout)
