"""Whole outputs of the real command line. `KVCALC_UPDATE_SNAPSHOTS=1 pytest tests/cli/test_cli_snapshots.py` rewrites them.

A snapshot is a file: its first line is the command, its last the exit code, and between them all that was printed. They
guard the form of an output; the numbers in them come from tests/published_numbers.yaml.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from answer_documents import check_schema

from kvcalc import formats
from kvcalc.report.sheet import Json, plain

SNAPSHOTS = sorted(Path(__file__).parents[1].joinpath("snapshots").glob("*.txt"))
ROOT = Path(__file__).parents[2]
_COMMAND = re.compile(r"\$ (?:COLUMNS=(\d+) )?kvcalc ?(.*)")


def rendered(cli, path: Path) -> str:
    command = path.read_text("utf-8").splitlines()[0]
    columns, line = _COMMAND.fullmatch(command).groups()
    outcome = cli(line, columns=int(columns or 80))
    return f"{command}\n{outcome.stdout}{outcome.stderr}[exit {outcome.code}]\n"


def is_plain(values: Json) -> bool:
    """Whether values are what JSON gives back."""
    return json.loads(json.dumps(values)) == values


@pytest.fixture
def documents(monkeypatch):
    """Every document that is written."""
    seen, write = [], formats.write
    monkeypatch.setattr(formats, "write", lambda document, *to: (seen.append(document), write(document, *to)))
    return seen


@pytest.mark.parametrize("path", SNAPSHOTS, ids=lambda path: path.stem)
def test_the_whole_output_is_as_it_was_looked_at(cli, path, monkeypatch, documents):
    monkeypatch.chdir(ROOT)
    output = rendered(cli, path)
    if os.environ.get("KVCALC_UPDATE_SNAPSHOTS"):
        path.write_text(output, "utf-8")
    assert output == path.read_text("utf-8")
    for document in documents:
        assert is_plain(document.to_dict())
        check_schema(document.to_dict())


def test_what_json_would_change_is_noticed():
    assert not is_plain({"dims": (1, 2)})
    assert is_plain(plain({"dims": (1, {"of": (2,)})}))


@pytest.mark.parametrize("path", SNAPSHOTS, ids=lambda path: path.stem)
def test_no_line_is_wider_than_the_terminal_or_ends_in_blanks(path):
    command, *lines = path.read_text("utf-8").splitlines()
    columns = int(_COMMAND.fullmatch(command)[1] or 80)
    is_table = "--format" not in command
    assert not [line for line in lines if line != line.rstrip()]
    assert not [line for line in lines if is_table and len(line) > columns and not line.startswith(("help:", "--"))]


def test_a_changed_output_is_noticed(cli, tmp_path):
    forged = tmp_path / "forged.txt"
    forged.write_text("$ kvcalc size --preset r1 --tokens 100000\n7,027,200,001 bytes\n[exit 0]\n")
    assert rendered(cli, forged) != forged.read_text()
