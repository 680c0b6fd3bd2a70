"""SVG: charts for pages, papers and pull requests; text stays text, and each point has a tooltip with its number."""

from __future__ import annotations

from typing import TextIO

from kvcalc.formats._drawing import svg
from kvcalc.report.chart import charts_of
from kvcalc.report.sheet import Document


def write(document: Document, stream: TextIO) -> None:
    """Writes the charts of the document, one below the other."""
    stream.write('<?xml version="1.0" encoding="utf-8"?>\n' + svg(charts_of(document)))
