"""The pages of docs are true: their commands print what they show. `KVCALC_UPDATE_SNAPSHOTS=1` writes it into them."""

from __future__ import annotations

import gzip
import json
import logging
import os
import re
import sys
from pathlib import Path
from shutil import copy, copytree

import pytest
import yaml

import kvcalc
from kvcalc.cache.dtypes import DTYPES
from kvcalc.cli.commands import NAMES
from kvcalc.hardware import gpus
from kvcalc.io.hf_config import known_model_types
from kvcalc.io.presets import load_preset, preset_names

ROOT = Path(__file__).parent.parent
PAGES = [
    (page, line, shown)
    for page in sorted(ROOT.joinpath("docs").glob("*.md"))
    for line, shown in re.findall(r"```console\n\$ kvcalc ([^\n]*)\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
]


@pytest.mark.parametrize(("page", "line", "shown"), PAGES, ids=[line for _, line, _ in PAGES])
def test_a_command_prints_what_the_page_shows(cli, monkeypatch, page, line, shown):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv(
        "PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    )  # a page may run kvcalc
    printed = cli(line).stdout
    if os.environ.get("KVCALC_UPDATE_SNAPSHOTS"):
        old, new = (f"$ kvcalc {line}\n{output}```" for output in (shown, printed))
        page.write_text(page.read_text("utf-8").replace(old, new), "utf-8")
    assert printed == shown


def test_pages_have_commands():
    assert len(PAGES) >= 3


def text(page: str) -> str:
    return (ROOT / "docs" / page).read_text("utf-8")


CONFIG = {
    "model_type": "llama",
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "hidden_size": 4096,
}


def test_the_python_example_is_true(monkeypatch, tmp_path):
    (tmp_path / "path/to").mkdir(parents=True)
    (tmp_path / "path/to/config.json").write_text(json.dumps(CONFIG))
    copytree(ROOT / "tests" / "plans", tmp_path / "plans")
    copy(ROOT / "tests" / "logs" / "vllm_qwen3_14b.log", tmp_path / "vllm.log")
    monkeypatch.chdir(tmp_path)
    code = re.search(r"```python\n(.*?)```", text("python.md"), re.DOTALL)[1]
    values: dict = {}
    for line in code.splitlines():
        statement, _, comment = line.partition("  # ")
        if re.match(r"(import|\w+ =)", statement):
            exec(statement, values)
        elif statement:
            result = eval(statement, values)
            if re.match(r"\d+|array|True", comment):
                assert comment.startswith(repr(result)), (comment, result)


def test_the_yaml_examples_are_true():
    plan, served = re.findall(r"```yaml\n(.*?)```", text("plans.md"), re.DOTALL)
    assert yaml.safe_load(plan) == yaml.safe_load((ROOT / "examples/plans/prod.yaml").read_text())
    assert yaml.safe_load(served)[0] in yaml.safe_load((ROOT / "examples/plans/served.yaml").read_text())["deployments"]
    (preset,) = re.findall(r"```yaml\n(.*?)```", text("models.md"), re.DOTALL)
    assert kvcalc.load(yaml.safe_load(preset)).groups == load_preset("gpt-oss-20b").groups


def test_the_number_of_model_types_is_that_of_the_table():
    assert int(re.search(r"config.json of (\d+) model types", text("measured.md"))[1]) == len(known_model_types())


def test_the_formats_of_the_table_are_those_that_there_are():
    assert set(re.search(r"formats (bf16.*?) \|", text("measured.md"))[1].split(", ")) == {d.name for d in DTYPES}


def test_the_number_of_measured_presets_is_that_of_the_rows():
    rows = yaml.safe_load((ROOT / "tests/published_numbers.yaml").read_text())
    measured = {row["model"] for row in rows if row["source"] == "transformers 5.23, measured"}
    assert measured <= set(preset_names())
    assert f"transformers 5.23 holds at 1,000 tokens for {len(measured)} of the presets" in text("measured.md")


def test_the_number_of_devices_is_that_of_the_list():
    assert int(re.search(r"memory of (\d+) devices", text("measured.md"))[1]) == len(gpus())


def measured_rows(name: str) -> list[dict]:
    with gzip.open(ROOT / "tests" / "data" / f"{name}.jsonl.gz", "rt") as lines:
        return [json.loads(line) for line in lines]


COUNTED = {
    "transformers": (r"8,690 of (\d+) caches", lambda rows: [sum(len(row["cases"]) for row in rows)]),
    "vllm_versions": (
        r"(\d+) start-ups of (\d+) models planned by the code of (\d+) versions",
        lambda rows: [len(rows), len({row["model"] for row in rows}), len({row["question"]["engine"] for row in rows})],
    ),
    "vllm": (
        r"(\d+) start-ups of (\d+) models on 4 GPUs planned by vLLM",
        lambda rows: [len(rows), len({row["model"] for row in rows})],
    ),
    "vllm_cpu": (r"219 of (\d+) start-ups and live requests", lambda rows: [len(rows)]),
    "llama_cpp": (
        r"(\d+) contexts of the library over (\d+) models of (\d+) architectures",
        lambda rows: [
            sum(not row.get("rejected") for row in rows),
            *(len({row[of] for row in rows}) for of in ("model", "arch")),
        ],
    ),
    "sglang": (
        r"(\d+) start-ups of (\d+) models on 4 GPUs planned by SGLang",
        lambda rows: [len(rows), len({row["model"] for row in rows})],
    ),
    "mlx_lm": (
        r"all (\d+) caches that MLX-LM created on a CPU for (\d+) small models",
        lambda rows: [len(rows), len({row["name"] for row in rows})],
    ),
    "ollama": (
        r"(\d+) contexts of its own Go code over (\d+) models",
        lambda rows: [len(rows), len({row["model"] for row in rows})],
    ),
    "lmdeploy": (r"(\d+) sizes and plans of 0.18 of which", lambda rows: [len(rows)]),
    "lmdeploy_more": (r"and (\d+) plans and refusals of four versions", lambda rows: [len(rows)]),
    "tensorrt_llm": (r"(\d+) plans by a transcription", lambda rows: [len(rows)]),
    "methods": (r"350 of (\d+) caches of the authors", lambda rows: [len(rows)]),
}
"""Files of tests/data: the words of the table that say how many rows they have, and how these are counted."""


@pytest.mark.parametrize("name", COUNTED)
def test_the_table_of_what_was_measured_counts_the_rows_that_there_are(name):
    """How many of them are equal, the tests of each engine say."""
    words, count = COUNTED[name]
    found = re.search(words, text("measured.md").replace(",", "").replace("8690", "8,690"))
    assert found, words
    assert [int(number) for number in found.groups()] == count(measured_rows(name))


def test_start_here_leads_to_each_page_and_command():
    index = text("index.md")
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"index.md"}
    assert pages <= set(re.findall(r"\]\((\w+\.md)\)", index))
    named = set(re.findall(r"`(?:kvcalc )?([a-z]+)[^`]*`", index))
    assert set(NAMES) - named <= {"weights", "deployments", "schema", "explain-log"}  # found from the pages of others


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("**/*.md")), ids=lambda path: path.name)
def test_links_of_a_page_lead_somewhere_in_the_repository(page):
    for target in re.findall(
        r"\]\((?![a-z]+:|#)([^)#\s]+)", re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    ):
        assert (page.parent / target).exists(), target


def test_the_site_is_built_without_a_warning(tmp_path):
    """As .ci/run builds it: a link to nothing, or to no heading, is an error, and so is a page that no menu has."""
    mkdocs = pytest.importorskip("mkdocs.commands.build")
    from mkdocs.config import load_config

    warned: list[logging.LogRecord] = []
    handler = logging.Handler(logging.INFO)
    handler.emit = warned.append
    logging.getLogger("mkdocs").addHandler(handler)
    try:
        mkdocs.build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path)))
    finally:
        logging.getLogger("mkdocs").removeHandler(handler)
    told = [r.getMessage() for r in warned if r.levelno >= logging.WARNING or "not included in the" in r.getMessage()]
    assert told == []
    start = (tmp_path / "index.html").read_text("utf-8")
    assert "7.03" in start
    for page in ("engines", "contributing", "skill/SKILL"):
        assert (tmp_path / page / "index.html").is_file()
    assert "github.com/kvcalc/kvcalc/blob/main/action.yml" in start


TEN = {
    "deepseek-r1": 8192 * 61 * 576 * 2,
    "deepseek-v2-lite": 8192 * 27 * 576 * 2,
    "llama-3-70b": 8192 * 80 * 2 * 8 * 128 * 2,
    "gpt-oss-20b": (12 * 8192 + 12 * 128) * 2 * 8 * 64 * 2,
    "gemma-3-27b": (10 * 8192 + 52 * 1024) * 2 * 16 * 128 * 2,
    "qwen3-next-80b-a3b": 8192 * 12 * 2 * 2 * 256 * 2 + 36 * (3 * 8192 * 2 + 32 * 128 * 128 * 4),
    "mistral-7b-v0.1": 4096 * 32 * 2 * 8 * 128 * 2,
    "jamba-1.5-mini": 8192 * 4 * 2 * 8 * 128 * 2 + 28 * 8192 * (3 * 2 + 16 * 4),
    "falcon-7b": 8192 * 32 * 2 * 64 * 2,
}
"""Bytes at 8,192 tokens from the published configs: layers, heads, widths, windows; states in float32, convolutions in bf16."""


def test_the_ten_models_of_the_peers_are_worked_out():
    shown = dict(re.findall(r"^([a-z][a-z0-9.-]+),8192,.*?(?:true|false),(\d+),", text("peers.md"), re.MULTILINE))
    assert {name: int(number) for name, number in shown.items()} == TEN
    chunked = (12 * 131_072 + 36 * 8192) * 2 * 8 * 128 * 2
    assert f",{chunked}," in text("peers.md")
