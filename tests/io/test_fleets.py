"""A fleet file: the verdicts of a plan, line by line, in memory that does not grow with it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import yaml

import kvcalc
from kvcalc.io.fleets import read_fleet

ROWS = [
    {"name": f"d{number}", "model": model, "tokens": "4K", "sequences": 1 + number % 50, **rest}
    for number, (model, rest) in enumerate(
        [
            ("llama3-8b", {"budget": "8GB"}),
            ("r1", {"engine": "vllm", "gpu": "h200", "tp": 8}),
            ("gpt-oss-20b", {"engine": "sglang", "gpu": "h100"}),
            ("llama3-8b", {"engine": "vllm", "gpu": "l4", "tp": 2}),
        ]
        * 30
    )
]


@pytest.fixture
def fleet(tmp_path):
    path = tmp_path / "fleet.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS), "utf-8")
    return path


def without_place(finding: dict) -> dict:
    return {name: value for name, value in finding.items() if name not in ("file", "line")}


def test_verdicts_are_those_of_a_plan(cli, fleet, tmp_path):
    plan = tmp_path / "plan.yaml"
    plan.write_text(yaml.safe_dump({"deployments": ROWS}), "utf-8")
    outcome = cli(f"check {fleet} --format json")
    said = json.loads(outcome.stdout)
    expected = kvcalc.check(str(plan)).to_dict()
    assert [without_place(each) for each in said["findings"]] == [without_place(each) for each in expected["findings"]]
    failing = sum(not each["fits"] for each in said["findings"])
    assert said["totals"] == {"fits": not failing, "deployments": 120, "failing": failing, "refused": 0}
    assert outcome.code == bool(failing)
    assert [each["line"] for each in said["findings"]] == list(range(1, 121))


def test_one_bad_line_spoils_no_other(cli, fleet):
    with fleet.open("a", encoding="utf-8") as file:
        file.write(
            'not JSON\n\n{"name": "x", "model": "nope", "tokens": 1, "budget": "1GB"}\n{"name": "y", "tokns": 1}\n'
        )
    outcome = cli(f"check {fleet}", columns=1000)  # no path is so long that a line wraps
    assert outcome.code == 2
    for words in (
        ("fleet.jsonl:121", "is not a JSON object on one line"),
        ("fleet.jsonl:123", "deployments[0].model", "no model is called 'nope'"),
        ("fleet.jsonl:124", "deployments[0].tokns", "no field of a plan is called 'tokns'"),
    ):
        assert any(all(word in line for word in words) for line in outcome.stdout.splitlines()), words
    said = json.loads(cli(f"check {fleet} --format json").stdout)
    assert (said["totals"]["deployments"], said["totals"]["refused"]) == (120, 3)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--format csv", "--format: a fleet supports --format table or json, not csv"),
        ("--gpu h100", "--gpu: a fleet sets this on each line"),
        ("--baseline b.json", "--baseline: a fleet cannot be kept as a baseline"),
    ],
)
def test_what_a_fleet_does_not_take(cli, fleet, options, words):
    outcome = cli(f"check {fleet} {options}")
    assert (outcome.code, words in outcome.stderr) == (2, True)


def test_an_empty_one_and_a_missing_one(cli, tmp_path):
    (tmp_path / "fleet.jsonl").touch()
    assert "no deployments found" in cli(f"check {tmp_path}/fleet.jsonl").stderr
    assert "no such file" in cli(f"check {tmp_path}/none.jsonl").stderr


def test_what_lines_have_in_common_is_read_once(fleet):
    found = [each.asked.model for each in read_fleet(fleet)]
    assert len({id(model) for model in found}) == 3


def peak_kib(path) -> int:
    """Peak memory of a process that checks a fleet."""
    script = (
        "import resource, sys; from kvcalc.cli import main; main(sys.argv[1:]); "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "check", str(path), "--format", "json"], check=False, capture_output=True
    )
    return int(done.stderr.split()[-1])


def test_memory_does_not_grow_with_the_fleet(fleet, tmp_path):
    """20 times the lines: less than 4 MiB more."""
    long = tmp_path / "long.jsonl"
    long.write_text(fleet.read_text("utf-8") * 20, "utf-8")
    assert peak_kib(long) - peak_kib(fleet) < 4 * 2**10
