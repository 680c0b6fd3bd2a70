"""Baselines of `kvcalc check`: kept, read back as they were, and compared with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from strict_readers import assert_message, run

from kvcalc.fleet.check import check
from kvcalc.io.baselines import read_baseline, write_baseline
from kvcalc.io.checking import Given, to_check

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a plan, which is the current one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plans").mkdir()
    (tmp_path / "plans/a.yaml").write_text((ROOT / "tests/plans/was/prod.yaml").read_text())
    (tmp_path / "models").mkdir()
    (tmp_path / "models/own.json").write_text((ROOT / "tests/plans/models/own.json").read_text())
    return tmp_path


def changed(folder: Path, was: str, now: str, file: str = "plans/a.yaml") -> None:
    path = folder / file
    assert was in path.read_text()
    path.write_text(path.read_text().replace(was, now))


def keep() -> None:
    assert run("check", "plans", "--baseline", "kept.json", "--update-baseline").code == 0


def compared(*options: str) -> tuple[int, str]:
    done = run("check", "plans", "--baseline", "kept.json", *options)
    assert done.err == ""
    return done.code, done.out


def test_what_was_kept_comes_back(folder):
    findings = check(to_check(["plans"], Given()).deployments).findings
    write_baseline(Path("kept.json"), findings)
    kept = read_baseline(Path("kept.json")).findings
    same = ("deployment", "file", "needed_bytes", "available_bytes", "max_tokens", "max_sequences", "fits", "parallel")
    for name in same:
        assert [getattr(each, name) for each in kept] == [getattr(each, name) for each in findings]
    fields = [{(each.field, each.value, each.of) for each in finding.written} for finding in findings]
    assert [{(each.field, each.value, each.of) for each in finding.written} for finding in kept] == fields


def test_a_baseline_is_written_the_same_twice_and_wherever_one_stands(folder, monkeypatch):
    keep()
    first = (folder / "kept.json").read_text()
    monkeypatch.chdir(folder / "plans")
    assert run("check", str(folder / "plans/a.yaml"), "--baseline", "../kept.json", "--update-baseline").code == 0
    assert (folder / "kept.json").read_text() == first
    assert run("check", ".", "--baseline", "../kept.json").out.startswith("Nothing changed")
    assert sorted(path.name for path in folder.iterdir()) == ["kept.json", "models", "plans"]


def test_nothing_changed(folder):
    keep()
    assert compared() == (0, "Nothing changed from kept.json to now: 5 deployments\n")
    changed(folder, "deployments:", "# a comment\ndeployments:")
    assert compared()[0] == 0


def test_what_does_not_fit_and_was_known_is_no_failure(folder):
    changed(folder, "budget: 1GB", "budget: 1MB")
    assert run("check", "plans").code == 1
    keep()
    assert compared()[0] == 0
    changed(folder, "sequences: 4", "sequences: 40")
    code, out = compared()
    assert code == 1
    assert "plans/a.yaml:5: sequences 4 -> 40" in out


def test_growth_is_agreed_to(folder):
    keep()
    changed(folder, "64K --port", "72K --port")
    assert compared()[0] == compared("--max-growth", "12.5%")[0] == 0
    assert compared("--max-growth", "12.4%")[0] == 1


def test_a_model_of_ones_own_that_changed_is_the_cause(folder):
    keep()
    changed(folder, '"num_key_value_heads": 4', '"num_key_value_heads": 8', "models/own.json")
    assert "models/own.json:6: num_key_value_heads 4 -> 8" in compared()[1]


def test_another_kvcalc_is_the_cause_where_no_field_is(folder):
    keep()
    kept = json.loads(Path("kept.json").read_text())
    kept["kvcalc"], kept["findings"][0]["needed_bytes"] = "0.0.1", 7
    Path("kept.json").write_text(json.dumps(kept))
    assert "kvcalc 0.0.1 -> " in compared()[1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "kept.json:1: is not a baseline of this version"),
        ("{", "kept.json:1: is not valid JSON"),
        ('{"version": 2, "kvcalc": "1", "findings": []}', "kept.json:1: version: is not a baseline of this version"),
        ('{"version": 1, "kvcalc": "1", "findings": [{}]}', "kept.json:1: findings[0].deployment: is not a baseline"),
        ('{"version": 1, "kvcalc": "1", "findings": [], "x": 1}', "kept.json:1: x: is not a baseline of this version"),
    ],
)
def test_what_is_no_baseline(folder, text, said):
    Path("kept.json").write_text(text)
    done = run("check", "plans", "--baseline", "kept.json")
    assert_message(done)
    assert said in done.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--baseline", "none.json"), "none.json: no such file"),
        (("--baseline", "no/where.json", "--update-baseline"), "no/where.json: cannot be written: No such file"),
        (("--update-baseline",), "--update-baseline: no baseline given"),
        (("--max-growth", "1%"), "--max-growth: no baseline given"),
    ],
)
def test_wrong_options(folder, options, said):
    done = run("check", "plans", *options)
    assert_message(done)
    assert said in done.err
