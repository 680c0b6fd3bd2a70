"""The README is true: its commands print what it shows. `KVCALC_UPDATE_SNAPSHOTS=1` writes their output into it."""

from __future__ import annotations

import json
import os
import re
import shlex
import tomllib
from pathlib import Path

import pytest
import yaml

import kvcalc
from kvcalc.cache.dtypes import DTYPES
from kvcalc.io.hf_config import known_model_types
from kvcalc.io.presets import load_preset, preset_names

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"```console\n\$ kvcalc ([^\n]*)\n(.*?)```", README, re.DOTALL)


FILES = {
    "plan.yaml": "examples/plans/prod.yaml",
    "sglang.log": "tests/logs/sglang_without_tp.log",
}
"""What readers have where they run a command, and where we have it."""
CONFIG = {
    "model_type": "llama",
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "hidden_size": 4096,
}


@pytest.fixture(autouse=True)
def _where_readers_are(monkeypatch, tmp_path):
    for name, path in FILES.items():
        (tmp_path / name).write_bytes((ROOT / path).read_bytes())
    (tmp_path / "path/to").mkdir(parents=True)
    (tmp_path / "path/to/config.json").write_text(json.dumps(CONFIG))
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(("line", "shown"), BLOCKS, ids=[line for line, _ in BLOCKS])
def test_a_command_prints_what_the_readme_shows(cli, line, shown):
    printed = cli(line).stdout
    if os.environ.get("KVCALC_UPDATE_SNAPSHOTS"):
        path = ROOT / "README.md"
        old, new = (f"$ kvcalc {line}\n{output}```" for output in (shown, printed))
        path.write_text(path.read_text("utf-8").replace(old, new), "utf-8")
    assert printed == shown


def test_the_readme_shows_each_question_that_users_ask():
    assert [line.split()[0] for line, _ in BLOCKS] == [
        "compare",
        "compare",
        "size",
        "size",
        "size",
        "size",
        "size",
        "fit",
        "gpus",
        "explain",
        "explain-log",
        "check",
        "diff",
        "check",
    ]


def test_the_main_command_prints_what_the_readme_shows(cli):
    setup, shown = re.search(r"<!-- run -->\n```sh\n(.*?)\n```\n\n```text\n(.*?)```", README, re.DOTALL).groups()
    install, _, command = setup.rpartition(" && ")
    assert install == "python3 -m venv .venv && .venv/bin/pip install -q ."
    executable, *line = shlex.split(command)
    assert executable == ".venv/bin/kvcalc"
    assert cli(line).stdout == shown


def test_the_python_example_is_true():
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL)[1]
    values: dict = {}
    for line in code.splitlines():
        statement, _, comment = line.partition("  # ")
        if re.match(r"(import|\w+ =)", statement):
            exec(statement, values)
        elif statement:
            result = eval(statement, values)
            if re.match(r"\d+|array|True", comment):
                assert comment.startswith(repr(result)), (comment, result)


def test_the_yaml_examples_are_true(tmp_path):
    plan, served, preset = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    assert yaml.safe_load(plan) == yaml.safe_load((ROOT / "examples/plans/prod.yaml").read_text())
    assert yaml.safe_load(served)[0] in yaml.safe_load((ROOT / "examples/plans/served.yaml").read_text())["deployments"]
    assert kvcalc.load(yaml.safe_load(preset)).groups == load_preset("gpt-oss-20b").groups


def test_the_number_of_model_types_is_that_of_the_table():
    assert int(re.search(r"config.json of (\d+) model types", README)[1]) == len(known_model_types())


def test_the_formats_of_the_table_are_those_that_there_are():
    assert set(re.search(r"formats (bf16.*?) \|", README)[1].split(", ")) == {dtype.name for dtype in DTYPES}


def test_the_number_of_measured_presets_is_that_of_the_rows():
    rows = yaml.safe_load((ROOT / "tests/published_numbers.yaml").read_text())
    measured = {row["model"] for row in rows if row["source"] == "transformers 5.23, measured"}
    assert measured <= set(preset_names())
    assert f"transformers 5.23 holds at 1,000 tokens for {len(measured)} of the presets" in README


def test_the_changelog_knows_this_version():
    assert f"## [{kvcalc.__version__}] - " in (ROOT / "CHANGELOG.md").read_text()


def test_the_project_names_no_unpinned_torch_for_its_tests():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "torch==2.13.0" in project["optional-dependencies"]["dev"]
    assert not [need for need in project["dependencies"] if need.startswith("torch")]
