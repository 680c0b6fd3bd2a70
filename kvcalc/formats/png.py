"""PNG: charts as pictures, at 200 dots an inch."""

from __future__ import annotations

from typing import TextIO

from kvcalc.formats._drawing import png
from kvcalc.report.chart import charts_of
from kvcalc.report.sheet import Document


def write(document: Document, stream: TextIO) -> None:
    """Writes the charts of the document, one below the other, to the bytes behind the stream."""
    stream.flush()
    stream.buffer.write(png(charts_of(document)))
