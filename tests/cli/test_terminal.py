"""The command line in a process of its own: pipes, colour, character sets, completion."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
from typing import NamedTuple

import pytest

from kvcalc.formats import table
from kvcalc.report.sheet import Column, Line, Sheet, Stack, Styled

SIZE = ["size", "--preset", "gpt-oss-20b", "--tokens", "8192"]


def run(arguments: list[str], **environment: str) -> subprocess.CompletedProcess[bytes]:
    clean = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS")}
    return subprocess.run(
        [sys.executable, "-m", "kvcalc", *arguments], env={**clean, **environment}, capture_output=True, check=False
    )


def in_a_terminal(**environment: str) -> bytes:
    """What a terminal would get."""
    leader, follower = pty.openpty()
    clean = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS")}
    with subprocess.Popen(
        [sys.executable, "-m", "kvcalc", *SIZE],
        env={**clean, "TERM": "xterm-256color", "COLUMNS": "100", **environment},
        stdout=follower,
        stdin=subprocess.DEVNULL,
    ) as process:
        process.wait()
    os.close(follower)
    shown = os.read(leader, 10**6)
    os.close(leader)
    return shown


def test_a_terminal_gets_colour():
    assert b"\x1b[" in in_a_terminal()


def test_no_color_is_respected():
    # NO_COLOR is about colour: bold may stay.
    assert not [code for code in in_a_terminal(NO_COLOR="1").split(b"\x1b[")[1:] if code[:2] in (b"31", b"32", b"36")]


def test_a_pipe_gets_plain_text():
    done = run(SIZE)
    assert done.returncode == 0
    assert b"\x1b" not in done.stdout
    assert b"204,472,320 bytes" in done.stdout


def test_without_unicode_the_table_is_ascii():
    done = run(["compare", "--preset", "r1", "--tokens", "1K"], PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    assert done.stdout.isascii()
    assert b"##" in done.stdout


@pytest.mark.parametrize("columns", ["20", "40", "80", "200"])
def test_no_number_is_ever_cut(columns):
    done = run(["size", "--preset", "r1", "--tokens", "100000"], COLUMNS=columns)
    assert b"6,246,400,000" in done.stdout
    assert "…".encode() not in done.stdout


@pytest.mark.parametrize("line", ["presets list", "presets show r1"])
def test_a_reader_that_goes_away_is_no_error(line):
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-m", "kvcalc", *line.split()]
    with subprocess.Popen(command, env=buffered, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        errors = process.stderr.read()
    assert (errors, process.returncode) == (b"", 0)


def test_no_name_breaks_a_terminal_that_lacks_its_letters(tmp_path):
    file = tmp_path / "модель.yaml"
    file.write_text("num_layers: 1\nattention: gqa\nnum_query_heads: 1\nnum_kv_heads: 1\nhead_dim: 1\n")
    done = run(["size", "--model", str(file), "--tokens", "1"], PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    assert b"\\u043c" in done.stdout


@pytest.mark.parametrize(
    ("words", "index", "offered"),
    [
        ("kvcalc co", 1, {"compare"}),
        ("kvcalc size --preset r1", 3, {"r1"}),
        ("kvcalc compare gpt-o", 2, {"gpt-oss-20b", "gpt-oss-120b"}),
        ("kvcalc size --dtype bf", 3, {"bf16"}),
        ("kvcalc size --format j", 3, {"json"}),
    ],
)
def test_the_shell_completes(words, index, offered):
    done = run([], _KVCALC_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=str(index))
    assert set(done.stdout.decode().split()) == offered


@pytest.mark.parametrize("columns", [40, 80, 120])
@pytest.mark.parametrize("colour", [True, False])
def test_a_table_of_many_rows_is_as_rich_prints_it(monkeypatch, columns, colour):
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("FORCE_COLOR" if colour else "NO_COLOR", "1")
    rows = tuple(
        (f"漢字 {n % 7}", "fits" if n % 3 else Styled("TOO LARGE", "alarm"), n * 10**6, 0.37)
        for n in range(table._MANY)
    )
    columns_of = (Column("name", once=True), Column("verdict"), Column("a long title", "bytes"), Column("share", "bar"))
    document = Stack((_Sheets(Sheet("Many", columns_of, rows, (Line("", "a line"),), ("a note",))),))
    shown = []
    for many in (table._MANY, 10**9):
        monkeypatch.setattr(table, "_MANY", many)
        stream = io.TextIOWrapper(io.BytesIO(), "utf-8")
        table.write(document, stream)
        stream.seek(0)
        shown.append(stream.read())
    plain, by_rich = ([line.rstrip() for line in re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()] for text in shown)
    assert plain == by_rich
    assert ("\x1b[1;31m" in shown[0]) == ("\x1b[1;31m" in shown[1]) == colour


class _Sheets(NamedTuple):
    sheet: Sheet

    def to_dict(self) -> None:
        """Nothing."""

    def sheets(self) -> tuple[Sheet, ...]:
        return (self.sheet,)


UNWRITABLE = {
    "> /dev/full": (2, "standard output: No space left on device\nhelp: write the output somewhere else\n"),
    ">&-": (2, "standard output is closed\nhelp: remove >&-\n"),
    "2>&-": (0, ""),
    "2> /dev/full": (0, ""),
    "| head -1": (0, ""),
}


@pytest.mark.parametrize("line", [" ".join(SIZE), f"{' '.join(SIZE)} --format json", "presets list", "fit --help"])
@pytest.mark.parametrize("where", UNWRITABLE)
def test_output_that_cannot_be_written_is_one_line(line, where):
    """A plain line and one that typer reads; a reader that goes away is no error."""
    shell = ["bash", "-o", "pipefail", "-c", f"{sys.executable} -m kvcalc {line} {where}"]
    done = subprocess.run(shell, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == UNWRITABLE[where]


def test_an_error_that_nobody_reads_has_its_exit_code():
    for where in ("2>&-", "2> /dev/full"):
        shell = ["bash", "-c", f"{sys.executable} -m kvcalc size --preset nope --tokens 1 {where}"]
        done = subprocess.run(shell, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (2, "")


def test_a_terminal_that_claims_no_columns_loses_nothing():
    assert run(SIZE, COLUMNS="0").stdout == run(SIZE, COLUMNS="80").stdout
