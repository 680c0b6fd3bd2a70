"""What changed between two states of the same deployments: laws over random ones, and tables."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kvcalc
from kvcalc.errors import InvalidValueError
from kvcalc.fleet.diff import changes
from kvcalc.report.check import Finding, Written
from kvcalc.report.diff import Cause, Change, DiffReport, percent
from kvcalc.units import GIB, parse_percent

NOTHING = ((), 0)
FIELDS = st.lists(
    st.builds(
        Written,
        st.sampled_from("abc"),
        st.sampled_from("xy"),
        st.just("f"),
        st.integers(0, 9),
        st.sampled_from(["", "a"]),
    ),
    unique_by=lambda written: (written.of, written.field),
    max_size=4,
)
BYTES = st.integers(0, 3) | st.integers(0, 2**40)


@st.composite
def findings(draw, max_size=6):
    return [
        Finding(
            draw(st.sampled_from(["chat", "code"])),
            "r1",
            1000,
            1,
            "fp8",
            needed := draw(BYTES),
            available := draw(BYTES),
            ("x",),
            draw(st.none() | BYTES),
            draw(st.none() | BYTES),
            needed <= available,
            file=draw(st.sampled_from(["a.yaml", "b.yaml"])),
            written=tuple(draw(FIELDS)),
        )
        for _ in range(draw(st.integers(0, max_size)))
    ]


@given(findings())
def test_nothing_changes_between_a_thing_and_itself(found):
    assert changes(found, found, max_growth=Fraction(0)) == ((), len(found))


@given(findings(), findings())
def test_one_way_is_the_mirror_of_the_other(one, other):
    there, unchanged = changes(one, other)
    back, still = changes(other, one)
    assert unchanged == still
    mirrored = {(c.file, c.deployment, c.was, c.now): {(e.field, e.was, e.now) for e in c.causes} for c in there}
    assert mirrored == {(c.file, c.deployment, c.now, c.was): {(e.field, e.now, e.was) for e in c.causes} for c in back}


@given(findings(), findings())
def test_each_deployment_is_compared_once(one, other):
    found, unchanged = changes(one, other)
    added, removed = (sum(getattr(c, side) is None for c in found) for side in ("was", "now"))
    assert len(found) - added + unchanged == len(one)
    assert len(found) - removed + unchanged == len(other)


@given(findings(), findings(), st.fractions(0, 3), st.fractions(0, 3))
def test_who_agrees_to_more_fails_no_more(one, other, less, more):
    less, more = sorted((less, more))
    failing = [{c for c in changes(one, other, max_growth=agreed)[0] if c.fails} for agreed in (less, more)]
    assert {(c.file, c.deployment, c.now) for c in failing[1]} <= {(c.file, c.deployment, c.now) for c in failing[0]}


@given(findings(), findings())
def test_what_fits_on_both_sides_fails_only_by_growth(one, other):
    fitting = [[f for f in side if f.fits] for side in (one, other)]
    assert not any(change.fails for change in changes(*fitting)[0])


WAS = Finding("chat", "r1", 1000, 4, "fp8", 100 * GIB, 120 * GIB, ("x",), 800, 5, True)


@pytest.mark.parametrize(
    ("was", "now", "verdict", "fails"),
    [
        (None, {}, "added", False),
        (None, {"fits": False}, "does not fit", True),
        ({}, None, "removed", False),
        ({}, {"fits": False}, "no longer fits", True),
        ({"fits": False}, {"fits": False, "needed_bytes": 7}, "still does not fit", False),
        ({"fits": False}, {}, "fits again", False),
        ({}, {"needed_bytes": 110 * GIB}, "changed", False),
        ({}, {"needed_bytes": 110 * GIB + 1}, "grew too much", True),
        ({"needed_bytes": 0}, {"needed_bytes": 1}, "grew too much", True),
        ({}, {"needed_bytes": 1}, "changed", False),
        ({}, {"max_sequences": 1}, "changed", False),
    ],
)
def test_verdicts(was, now, verdict, fails):
    sides = [[] if side is None else [WAS._replace(**side)] for side in (was, now)]
    ((change,), _) = changes(*sides, max_growth=Fraction(1, 10))
    assert (change.verdict, change.fails) == (verdict, fails)


def written(**values):
    return tuple(Written(field, value, "a.yaml", 3) for field, value in values.items())


@pytest.mark.parametrize(
    ("was", "now", "words"),
    [
        (written(tokens="1K"), written(tokens="2K"), ["a.yaml:3: tokens 1K -> 2K"]),
        (written(), written(dtype="fp8"), ["a.yaml:3: dtype fp8, not set before"]),
        (written(dtype="fp8"), written(), ["a.yaml:3: dtype fp8, no longer set"]),
        (
            (Written("heads", "8", "m.json", 2, "model"), *written(model="m.json")),
            (Written("heads", "4", "m.json", 2, "model"), *written(model="m.json")),
            ["m.json:2: heads 8 -> 4"],
        ),
        (
            (Written("heads", "8", "m.json", 2, "model"), *written(model="m.json")),
            (Written("heads", "4", "n.json", 2, "model"), *written(model="n.json")),
            ["a.yaml:3: model m.json -> n.json"],
        ),
        (written(), written(), ["kvcalc 1 -> 2"]),
    ],
)
def test_the_cause_is_the_field_that_changed(was, now, words):
    before, after = WAS._replace(written=was), WAS._replace(written=now, needed_bytes=7)
    ((change,), _) = changes([before], [after], otherwise=Cause("kvcalc", "1", "2"))
    assert [cause.words for cause in change.causes] == words


def test_a_field_that_changes_no_number_is_a_change():
    ((change,), _) = changes([WAS], [WAS._replace(written=written(port="1"))])
    assert (change.verdict, change.growth) == ("changed", 0)
    assert change.lines()[0] == "needs 100.00 GiB"


def test_lines_that_moved_are_no_change():
    assert changes([WAS._replace(line=1)], [WAS._replace(line=9, notes=("x",))]) == ((), 1)


def test_what_is_said_of_a_change():
    now = WAS._replace(needed_bytes=150 * GIB, available_bytes=90 * GIB, fits=False, max_sequences=2, max_tokens=500)
    assert Change("chat", "a", WAS, now, (Cause("tokens", "1", "2"),)).lines() == (
        "needs 100.00 GiB -> 150.00 GiB (+50.0%), has 120.00 GiB -> 90.00 GiB, at most 5 -> 2 users",
        "tokens 1 -> 2",
        "would fit: 2 sequences of 1,000 tokens, or 4 sequences of 500 tokens",
    )


@pytest.mark.parametrize(
    ("growth", "words"),
    [
        (None, ""),
        (Fraction(0), "0%"),
        (Fraction(1, 8), "+12.5%"),
        (Fraction(-1, 2), "-50.0%"),
        (Fraction(1, 10**6), "+0.0001%"),
        (Fraction(20), "+2,000.0%"),
    ],
)
def test_growth_in_words(growth, words):
    assert percent(growth) == words


@pytest.mark.parametrize(("text", "share"), [("10%", Fraction(1, 10)), ("2.5 %", Fraction(1, 40)), ("0%", Fraction(0))])
def test_percentages(text, share):
    assert parse_percent(text, "max_growth") == share


@pytest.mark.parametrize("text", ["10", "-1%", "%", "0.1", "1e3%", "١%", "1" * 50 + "%", "10%%"])
def test_what_is_no_percentage(text):
    with pytest.raises(InvalidValueError, match="max_growth must be a percentage"):
        parse_percent(text, "max_growth")


def test_the_summary_counts():
    report = DiffReport("main", "HEAD", (Change("a", "", None, WAS), Change("b", "", WAS, WAS._replace(fits=False))), 3)
    assert report.sheets()[0].title == "2 changes from main to HEAD, 3 unchanged, 1 failing"
    assert report.fails
    assert DiffReport("main", "HEAD", (), 3).sheets()[0].title == "Nothing changed from main to HEAD: 3 deployments"


FOLDED = """services:
  llm:
    image: vllm/vllm-openai:v0.25.1
    command: >
      --model Qwen/Qwen3-8B
      --max-model-len {length}
      --gpu-memory-utilization 0.9
      --kv-cache-dtype={stored}
"""
LISTED = """kind: Pod
metadata: {{name: listed}}
spec:
  containers:
    - name: server
      image: lmsysorg/sglang:v0.5.23
      args:
        - --model-path=Qwen/Qwen3-8B
        - --context_length
        - "{length}"
        - --kv-cache-dtype={stored}
"""
SCRIPT = """set -e
vllm serve \\
  Qwen/Qwen3-8B \\
  --max-model-len {length} \\
  --kv-cache-dtype {stored}
"""


@pytest.mark.parametrize(
    ("name", "text", "lines"),
    [("compose.yaml", FOLDED, [6, 8]), ("pod.yaml", LISTED, [9, 11]), ("serve.sh", SCRIPT, [4, 5])],
)
def test_a_cause_is_the_line_of_the_argument(tmp_path, monkeypatch, name, text, lines):
    monkeypatch.chdir(tmp_path)
    for side, length, stored in (("was", 8192, "auto"), ("now", 16384, "fp8_e4m3")):
        Path(side).mkdir()
        Path(side, name).write_text(text.format(length=length, stored=stored))
    (change,) = kvcalc.diff("was", "now", gpu="l40s").changes
    assert [cause.line for cause in change.causes] == lines
    assert {cause.file for cause in change.causes} == {f"now/{name}"}
