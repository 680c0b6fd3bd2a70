"""Formats lay sheets out by what they hold, and never by the words in them."""

from __future__ import annotations

import io
import re
from typing import NamedTuple

import pytest

from kvcalc.formats import write
from kvcalc.report.sheet import Column, Line, Sheet, Styled

LINES = (Line("total", "7 bytes", "answer"), Line("", "a sentence"), Line("", "its detail", "detail"))
ROWS = (("total 1 TOO LARGE *", 7, 0.5), (Styled("broken", "alarm"), None, 1.0))
COLUMNS = (Column("total"), Column("n", "count"), Column("", "bar"))


class Shown(NamedTuple):
    sheet: Sheet

    def to_dict(self) -> list[str]:
        return []

    def sheets(self) -> tuple[Sheet, ...]:
        return (self.sheet,)


def rendered(sheet: Sheet, format: str) -> str:
    stream = io.TextIOWrapper(io.BytesIO(), "utf-8")
    write(Shown(sheet), format, stream)
    stream.seek(0)
    return stream.read()


@pytest.fixture(autouse=True)
def terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR", raising=False)


SHEET = Sheet("A title", COLUMNS, ROWS, LINES, ("* not a footnote",), footnote="as it was built")


def test_a_terminal_stresses_what_is_marked_and_nothing_else():
    stressed = re.findall(r"\x1b\[1;3([12])m([^\x1b]*)", rendered(SHEET, "table"))
    assert [(colour, words.strip()) for colour, words in stressed] == [("2", "total          7 bytes"), ("1", "broken")]


def test_a_terminal_lays_out_labels_details_and_footnotes(monkeypatch):
    monkeypatch.delenv("FORCE_COLOR")
    lines = rendered(SHEET, "table").splitlines()
    assert lines[2:5] == ["  total          7 bytes", "  a sentence", "      its detail"]
    assert lines[-2:] == ["  * as it was built", "  - * not a footnote"]
    assert rendered(SHEET._replace(label_width=7), "table").splitlines()[2] == "  total  7 bytes"


def test_a_long_value_hangs(monkeypatch):
    monkeypatch.delenv("FORCE_COLOR")
    long = Sheet("", COLUMNS, (), (Line("total", "many words " * 10), Line("", "details " * 12, "detail")))
    lines = rendered(long, "table").splitlines()[2:6]
    assert [len(line) - len(line.lstrip()) for line in lines] == [2, 4, 6, 8]
    assert max(map(len, lines)) <= 80


def test_markdown_lists_lines_and_notes():
    lines = rendered(SHEET, "markdown").splitlines()
    assert lines[2:5] == ["- total 7 bytes", "- a sentence", "- its detail"]
    assert lines[-2:] == ["- * as it was built", "- * not a footnote"]
    assert "| broken |  |" in lines


def test_csv_has_the_words_of_a_stressed_cell():
    assert rendered(SHEET, "csv") == "total,n\ntotal 1 TOO LARGE *,7\nbroken,\n"


@pytest.mark.parametrize("format", ["table", "markdown", "csv"])
def test_words_may_stand_among_counts(format):
    sheet = Sheet("", (Column("factor"), Column("value", "count")), (("state_dtype", "fp32"), ("heads", 1000)))
    assert "fp32" in rendered(sheet, format)
