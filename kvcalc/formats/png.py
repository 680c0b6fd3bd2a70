"""PNG: charts as images, at 200 dpi."""

from __future__ import annotations

from typing import TextIO

from kvcalc.formats._drawing import png
from kvcalc.report.chart import charts_of
from kvcalc.report.sheet import Document


def write(document: Document, stream: TextIO) -> None:
    """Writes the charts of the document, one below the other, to the stream's byte buffer."""
    stream.flush()
    stream.buffer.write(png(charts_of(document)))
