"""What kvcalc prints, read as strictly as whoever receives it would: terminals, runners, spreadsheets, XML and Markdown."""

from __future__ import annotations

import csv
import io
import json
import re
from contextlib import redirect_stderr, redirect_stdout
from typing import NamedTuple
from xml.etree import ElementTree

from kvcalc.cli import main


class Printed(NamedTuple):
    out: str
    err: str
    code: int


def run(*arguments: str) -> Printed:
    """A command line in this process, whose streams encode as a terminal's do."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    with redirect_stdout(out), redirect_stderr(err):
        code = main(list(arguments))
    return Printed(*(stream.buffer.getvalue().decode("utf-8") for stream in (out, err)), code)


def assert_inert(text: str) -> None:
    """Asserts that no character acts, on a terminal or on whoever reads a log."""
    strange = [char for char in text if char != "\n" and not char.isprintable()]
    assert not strange, strange[:5]


def commands(text: str) -> list[tuple[str, dict[str, str], str]]:
    """Workflow commands of a log, as the runner reads them. Source: actions/runner, ActionCommand.cs."""
    assert "##[" not in text
    assert "##vso[" not in text
    found = []
    for line in re.split(r"\r\n|\r|\n", text):
        if not line.lstrip().startswith("::"):
            continue
        match = re.fullmatch(r"::(?P<name>[a-z-]+)(?: (?P<properties>.*?))?::(?P<message>.*)", line.lstrip())
        assert match, line
        properties = dict(pair.split("=", 1) for pair in (match["properties"] or "").split(",") if pair)
        found.append((match["name"], properties, match["message"]))
    return found


def cells(row: str) -> list[str]:
    """Cells of a row of a table of GitHub's Markdown: a border is a bar behind an even number of backslashes."""
    assert row.startswith("|")
    return re.findall(r"((?:\\.|[^\\|])*)\|", row[1:].rstrip())


def read_strictly(format: str, text: str) -> None:
    """Asserts that a document is one of its format."""
    assert_inert(text)
    if format != "github":
        assert commands(text) == []
    if format == "json":
        json.loads(text)
    elif format == "csv":
        for row in csv.reader(io.StringIO(text), strict=True):
            assert not [cell for cell in row if cell[:1] in ("=", "+", "-", "@", "\t", "\r") and not is_number(cell)]
    elif format == "junit":
        ElementTree.fromstring(text.encode())
    elif format == "markdown":
        read_markdown(text)
    elif format == "github":
        assert {name for name, *_ in commands(text)} <= {"error", "notice"}
        assert len(commands(text)) == len(text.splitlines())
        assert all({"file", "line", "title"} == properties.keys() for _, properties, _ in commands(text))


def is_number(cell: str) -> bool:
    return bool(re.fullmatch(r"[+-]?[\d.,e-]+", cell))


def read_markdown(text: str) -> None:
    assert "<" not in text
    width = 0
    for line in text.splitlines():
        if not line.startswith("|"):
            assert not line or line.startswith(("### ", "- "))
            width = 0
            continue
        width = width or len(cells(line))
        assert len(cells(line)) == width > 0
        assert not re.search(r"(?<!\\)(?:\\\\)*`", line)


def assert_message(done: Printed) -> None:
    """Asserts that an error is two lines that a person may read."""
    assert done.out == ""
    assert_inert(done.err)
    assert commands(done.err) == []
    lines = done.err.splitlines()
    assert len(lines) == 2
    assert max(map(len, lines)) < 4000
