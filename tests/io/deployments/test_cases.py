"""Deployments of every form: what is found, refused and told in each, and what is never printed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from strict_readers import read_strictly

from kvcalc.cli import main
from kvcalc.formats import FOR_ANYTHING, FOR_FINDINGS
from kvcalc.io.deployments import read_deployments
from kvcalc.io.deployments.skipping import report_of
from kvcalc.io.deployments.sources import found, opener

FOLDER = Path(__file__).parents[2] / "data" / "deployments"
CASES = sorted(path.parent for path in FOLDER.glob("*/expected.json"))
FIELDS = ("engine", "model", "gpus", "gpu", "replicas", "role")
NEAR_DEPLOYMENT, NEAR_NOTE = 12, 5
"""Lines that a place may be off."""
pytestmark = pytest.mark.usefixtures("case")


@pytest.fixture(params=CASES, ids=lambda path: path.name)
def case(request, monkeypatch):
    """A folder with an expected.json, as the working directory."""
    monkeypatch.chdir(request.param)
    return json.loads((request.param / "expected.json").read_text())


def read(files):
    gathered = found(files)
    return report_of(gathered, read_deployments(gathered.sources, opener=opener))


def apart(one: str, other: str) -> float:
    (file, _, line), (other_file, _, other_line) = one.rpartition(":"), other.rpartition(":")
    return abs(int(line) - int(other_line)) if file == other_file else float("inf")


def test_engines_are_found_with_what_decides_their_cache(case):
    report = read(case["files"])
    assert len(report.deployments) == len(case["deployments"])
    for item in case["deployments"]:
        mine = min(report.deployments, key=lambda one: (one.name != item["name"], apart(one.where, item["where"])))
        assert mine.name == item["name"]
        assert apart(mine.where, item["where"]) <= NEAR_DEPLOYMENT
        assert {name: getattr(mine, name) for name in FIELDS} == {name: item[name] for name in FIELDS}
        assert {name: mine.args.get(name) for name in item["args"]} == item["args"]
        assert mine.replicas_max == item.get("replicas_max")


def test_what_is_not_there_is_named_at_its_place(case):
    report = read(case["files"])
    for item in case["refuse"]:
        assert any(apart(note.where, item["where"]) <= NEAR_NOTE for note in report.refused), item
    for item in case["tells"]:
        assert any(apart(note.where, item["where"]) <= NEAR_NOTE for note in (*report.refused, *report.told)), item


@pytest.mark.parametrize("command", ["deployments", "check"])
def test_no_secret_is_printed_in_any_format(case, command, capsys):
    formats = FOR_ANYTHING + (FOR_FINDINGS if command == "check" else ())
    for format in formats:
        assert main([command, *case["files"], "--format", format]) in (0, 1, 2)
        printed = capsys.readouterr()
        assert not [secret for secret in case["never_print"] if secret in printed.out + printed.err]
        if printed.out:
            read_strictly(format, printed.out)
