"""The README is true, and short: two screens, whose commands run and whose numbers stand in the pages."""

from __future__ import annotations

import os
import re
import shlex
import tomllib
from importlib.metadata import version
from pathlib import Path
from xml.etree import ElementTree

import pytest

import kvcalc
from kvcalc.cli.commands import NAMES
from kvcalc.engines import ENGINES

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
COMMANDS = re.search(r"## Five commands\n\n```sh\n(.*?)```", README, re.DOTALL)[1].splitlines()
TWO_SCREENS = 100


def test_it_is_two_screens_long():
    assert len(README.splitlines()) <= TWO_SCREENS


def test_the_main_command_prints_what_the_readme_shows(cli):
    setup, shown = re.search(r"<!-- run -->\n```sh\n(.*?)\n```\n\n```text\n(.*?)```", README, re.DOTALL).groups()
    install, _, command = setup.rpartition(" && ")
    assert install == "python3 -m venv .venv && .venv/bin/pip install -q ."
    executable, *line = shlex.split(command)
    assert executable == ".venv/bin/kvcalc"
    assert cli(line).stdout == shown


def test_the_test_command_is_the_one_that_it_was():
    test = "python3 -m venv .venv && .venv/bin/pip install -q --no-compile -e '.[dev]' && .venv/bin/pytest"
    assert re.findall(r"<!-- test -->\n```sh\n(.*?)\n```", README, re.DOTALL) == [test]


@pytest.mark.parametrize("line", COMMANDS)
def test_each_of_the_five_commands_is_read(cli, line):
    """Those that name no file of the reader's run as they stand."""
    words = shlex.split(line, comments=True)
    assert words.pop(0) == "kvcalc"
    assert words[0] in NAMES
    if words[0] in ("compare", "fit"):
        done = cli(words)
        assert (done.code, done.stderr) == (0, "")
    else:
        assert "no such option" not in cli([*words, "--help"]).stderr


def test_there_are_five():
    assert [line.split()[1] for line in COMMANDS] == ["compare", "fit", "check", "diff", "explain"]


def test_it_names_every_engine():
    named = set(re.findall(r"`(\w+)`", re.search(r"\nNine engines \((.*?)\), in the", README, re.DOTALL)[1]))
    assert named == {name.replace("-", "_") for name in ENGINES.names()}
    assert len(named) == len("Nine engs")


def test_the_proof_stands_in_the_pages():
    measured = (ROOT / "docs/measured.md").read_text("utf-8")
    assert "8,690 of 8,702 caches" in README
    assert "8,690 of 8,702 caches" in measured
    assert int(re.search(r"all (\d+) start-ups planned by vLLM", README)[1]) == 433 + 379
    assert "433 start-ups" in measured
    assert "379 start-ups" in measured
    peers = (ROOT / "docs/peers.md").read_text("utf-8")
    rows = [
        [cell.strip(" *") for cell in line.split("|")[1:-1]] for line in peers.splitlines() if line.startswith("| ")
    ][1:]
    own, *others = [row for row in rows if row[1].isdigit()]
    assert (own[0], own[1]) == ("kvcalc", "10")
    assert len(others) == 12
    assert all(sum(map(int, row[1:5])) == 10 for row in (own, *others)), rows
    assert f"the best of the\nothers on {max(int(row[1]) for row in others)}" in README
    assert f"off by {max(float(row[5].removeprefix('x') or 0) for row in others):.0f}x" in README


@pytest.mark.parametrize("target", re.findall(r"\]\(([^)#]+)[^)]*\)", README))
def test_its_links_lead_somewhere(target):
    assert (ROOT / target).exists()


def test_its_chart_has_the_numbers_of_the_answer():
    """`kvcalc compare r1 --tokens 100000 --format svg`: bars of 372.31 to 6.54 GiB."""
    picture = ElementTree.parse(ROOT / "docs/r1.svg")
    words = "".join(picture.getroot().itertext()) + (ROOT / "docs/r1.svg").read_text("utf-8")
    rows = kvcalc.compare("r1", tokens=100_000).rows
    for row in rows:
        assert f"{row.reports[0].total_bytes / 2**30:.2f} GiB" in words


def test_its_chart_is_what_the_command_draws(cli):
    """By the release of matplotlib that dev pins; another may place a label otherwise."""
    pins = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["dev"]
    if f"matplotlib=={version('matplotlib')}" not in pins:
        pytest.skip("another release of matplotlib")
    printed = cli("compare r1 --tokens 100000 --format svg").stdout
    if os.environ.get("KVCALC_UPDATE_SNAPSHOTS"):
        (ROOT / "docs/r1.svg").write_text(printed, "utf-8")
    assert printed == (ROOT / "docs/r1.svg").read_text("utf-8")


def test_the_changelog_knows_this_version():
    assert f"## [{kvcalc.__version__}] - " in (ROOT / "CHANGELOG.md").read_text()


def test_the_project_names_no_unpinned_torch_for_its_tests():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "torch==2.13.0" in project["optional-dependencies"]["dev"]
    assert not [need for need in project["dependencies"] if need.startswith("torch")]
