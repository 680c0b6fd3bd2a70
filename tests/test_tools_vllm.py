"""tools/measure_vllm*.py: rows read, asked and compared, without vLLM."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DATA = ROOT / "tests" / "data"


@pytest.fixture(scope="module")
def rows():
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        import vllm_rows
    finally:
        sys.path.remove(str(ROOT / "tools"))
    return vllm_rows


def read(rows, name: str) -> list[dict]:
    with rows.opened(DATA / name) as lines:
        return list(map(json.loads, lines))


def test_the_newest_version_is_asked_unless_one_is_named(rows):
    found = read(rows, "vllm_versions.jsonl.gz")
    newest = rows.chosen(found, None, None)
    assert {rows.version_of(row) for row in newest} == {"0.33.0"}
    assert len(newest) == 29
    assert len(rows.chosen(found, "0.10.2", None)) == 21
    assert {row["name"] for row in rows.chosen(found, None, "tiiuae__falcon-7b")} == {"tiiuae__falcon-7b"}
    assert rows.chosen([], None, None) == []


def test_a_question_becomes_arguments_of_vllm(rows):
    settings = {"gpu": "cpu", "usage": "llm", "block_size": 32, "speculative": {"method": "ngram"}}
    question = {"parallel": {"tp": 8, "dcp": 2}, "engine_settings": settings}
    assert rows.arguments_of(question) == {
        "block_size": 32,
        "speculative_config": {"method": "ngram"},
        "tensor_parallel_size": 8,
        "pipeline_parallel_size": 1,
        "decode_context_parallel_size": 2,
    }
    assert settings["gpu"] == "cpu"


def test_configs_are_the_rows_own_or_of_a_folder_without_quantised_weights(rows, tmp_path):
    config = {"model_type": "m", "quantization_config": {}, "text_config": {"layers": 2, "quantization_config": {}}}
    plain = {"model_type": "m", "text_config": {"layers": 2}}
    assert rows.config_of({"name": "m", "config": config}, None) == plain
    (tmp_path / "m.json").write_text(json.dumps(config))
    assert rows.config_of({"name": "m", "model": "m"}, tmp_path) == plain
    with pytest.raises(SystemExit, match="no config in the row"):
        rows.config_of({"name": "m", "model": "m"}, None)


def test_rows_are_formed_anew_and_compared(rows):
    found = read(rows, "vllm_cpu.jsonl.gz")
    same = [rows.row_of(row, "0.32.0+cpu", row["want"]) for row in found]
    assert same == found
    assert rows.differences(found, same) == []
    refused = rows.row_of(found[0], "0.34.0", {"refused": "ValueError: no"})
    assert refused["question"]["engine"] == "vllm@0.34.0"
    (line,) = rows.differences(found[:1], [refused])
    assert line.startswith("deepseek_v3 ")
    assert line.endswith("now {'refused': True} ValueError: no")


def test_a_run_says_which_rows_a_release_changes(rows, tmp_path, monkeypatch, capsys):
    def measured(asked, configs):
        assert configs is None
        return [rows.row_of(row, "0.34.0", row["want"] | {"num_blocks": 1}) for row in asked]

    found = rows.chosen(read(rows, "vllm_versions.jsonl.gz"), None, "zai-org__GLM-4.7-Flash")
    questions, new = tmp_path / "rows.jsonl", tmp_path / "new.jsonl.gz"
    questions.write_text("".join(f"{json.dumps(row)}\n" for row in found))
    monkeypatch.setattr(sys, "argv", ["measure", str(questions), "--check"])
    assert rows.run("", measured) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "0 of 1 as before"
    monkeypatch.setattr(sys, "argv", ["measure", str(questions), str(new)])
    assert rows.run("", measured) == 0
    with gzip.open(new, "rt") as lines:
        assert json.loads(lines.read())["want"]["num_blocks"] == 1
