"""Pages: whole without a network, well-formed, the answers of the commands that they show, and readable without charts."""

from __future__ import annotations

import json
import re
import shlex
from importlib import util
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from strict_readers import read_strictly

ROOT = __file__.rpartition("/tests/")[0]
LINES = (
    "size r1 -t 1K",
    "size gemma3-27b -t 8K --by-layer",
    "size r1 -t 1K --explain",
    "compare r1 llama3-70b -t 1K,32K",
    "fit llama3-8b --gpu h100",
    "plot r1 -t 1K",
    "check examples/plans tests/plans/too_large.yaml",
    "methods list",
    "presets list qwen",
    "report examples/plans",
)


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def page(cli, line: str) -> ElementTree.Element:
    done = cli(f"{line} --format html")
    assert done.code in (0, 1), done.stderr
    read_strictly("html", done.stdout)
    return ElementTree.fromstring(done.stdout.partition("\n")[2])


@pytest.mark.parametrize("line", LINES)
def test_any_answer_is_a_page(cli, line):
    root = page(cli, line)
    words = " ".join(root.find("body").itertext())
    levels = [int(each.tag[1]) for each in root.iter() if re.fullmatch("h[1-6]", each.tag)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert len(words) > 100
    ids = [each.get("id") for each in root.iter() if each.get("id")]
    assert len(set(ids)) == len(ids)
    for link in root.iter("a"):
        assert link.get("href").removeprefix("#") in ids


def commands_of(root: ElementTree.Element) -> list[str]:
    return ["".join(each.itertext()) for box in root.iter("div") if box.get("class") == "command" for each in box]


def test_a_report_shows_verdicts_layouts_charts_and_formulas(cli):
    root = page(cli, "report examples/plans tests/plans/too_large.yaml")
    words = " ".join(" ".join(root.find("body").itertext()).split())
    for said in (
        "3 of 9 deployments do not fit",
        "needs 80.00 GiB, has 56.29 GiB: 23.71 GiB short",
        "would fit: 3 sequences of 131,072 tokens, or 5 sequences of 92,225 tokens",
        "Memory of each GPU",
        "Layouts, best first",
        "Users by context",
        "Bytes by context",
        "presets/llama-3.1-8b.yaml",
        ".k = 32 layers x 3 sequences x 131,072 slots x 2,048 bytes",
    ):
        assert said in words, said
    assert len(list(root.iter("{http://www.w3.org/2000/svg}svg"))) >= 20


def test_each_command_of_a_report_prints_what_the_report_has(cli):
    """Word for word, as JSON: what a reader copies is what made the page."""
    report = json.loads(cli("report examples/plans tests/plans/served_too_large.yaml --format json").stdout)
    parts = [part for each in report["deployments"] for part in each["parts"]]
    assert len([part for part in parts if part["command"]]) >= 20
    for part in parts:
        if part["command"] and part["document"] is not None:
            _, *words = shlex.split(part["command"])
            assert json.loads(cli([*words, "--format", "json"]).stdout) == part["document"], part["command"]
    assert (
        json.loads(cli(f"{report['command'].removeprefix('kvcalc ').replace('report', 'check')} -f json").stdout)
        == (report["check"])
    )


def test_memory_is_what_the_check_counted(cli):
    report = json.loads(cli("report examples/plans tests/plans/served_too_large.yaml --format json").stdout)
    findings = {(each["deployment"], each["model"]): each for each in report["check"]["findings"]}
    fits = [p["document"] for d in report["deployments"] for p in d["parts"] if p["title"] == "Memory of each GPU"]
    assert len(fits) >= 4
    available = {finding["available_bytes"] for finding in findings.values()}
    assert all(fit["cache_bytes"] in available for fit in fits)


def test_what_options_cannot_say_has_no_command(cli, tmp_path):
    (tmp_path / "model.safetensors.index.json").write_text(
        '{"metadata": {"total_size": 16060522496}, "weight_map": {}}'
    )
    plan = tmp_path / "plan.yaml"
    entry = "  - {name: %s, model: llama-3.1-8b, tokens: 8K, gpu: h100, weights: %s}\n"
    weights = ("model.safetensors.index.json", "8B x 8.5bit")
    plan.write_text("deployments:\n" + "".join(entry % (f"n{n}", each) for n, each in enumerate(weights)))
    report = json.loads(cli(["report", str(plan), "--format", "json"]).stdout)
    elsewhere, counted = (each["parts"] for each in report["deployments"])
    assert [part["command"] for part in elsewhere] == [""] * 5
    assert all("`kvcalc check` has its verdict" in part["remark"] for part in elsewhere)
    for part in counted:
        if part["command"]:
            _, *words = shlex.split(part["command"])
            assert json.loads(cli([*words, "--format", "json"]).stdout) == part["document"]


def test_a_report_has_the_exit_code_of_its_check(cli):
    for line, code in (
        ("examples/plans", 0),
        ("tests/plans/too_large.yaml", 1),
        ("tests/data/deployments/k8s-deployment-args--equals/chat.yaml", 0),
    ):
        weights = " --weights 65GB" if "k8s" in line else ""
        assert cli(f"report {line}{weights} -f json").code == cli(f"check {line}{weights} -f json").code, code
    done = cli("report docs/charts.md")
    assert (done.stdout, done.code) == ("", 2)


def test_without_the_library_a_page_has_tables_and_says_what_draws_charts(cli, monkeypatch):
    find = util.find_spec
    monkeypatch.setattr(
        "kvcalc.formats._html.find_spec", lambda name, *more: None if name == "matplotlib" else find(name, *more)
    )
    root = page(cli, "report examples/plans")
    words = " ".join("".join(root.itertext()).split())
    assert "pip install 'kvcalc[plot] @ git+https://github.com/kvcalc/kvcalc'" in words
    assert "weights" in words
    assert not list(root.iter("{http://www.w3.org/2000/svg}svg"))


def test_a_page_is_written_to_its_file(cli, tmp_path):
    target = tmp_path / "report.html"
    assert cli(["report", "examples/plans", "-o", str(target)]) == ("", "", 0)
    assert target.read_text().startswith("<!DOCTYPE html>")
    assert target.read_text() == cli("report examples/plans").stdout
