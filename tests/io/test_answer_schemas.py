"""Schemas of answers: each document has the fields that its schema names, and no others, in the version that it says.

tests/cli/test_cli_snapshots.py validates the documents of all snapshots, too.
"""

from __future__ import annotations

import csv
import json
from copy import deepcopy

import jsonschema
import pytest
from answer_documents import check_schema, validator

from kvcalc.io.answer_schemas import ANSWERS
from kvcalc.io.schemas import SCHEMAS, schema
from kvcalc.report.versions import VERSIONS

LINES = {
    "size": "size r1 -t 1K --tp 2 --explain",
    "compare": "compare zamba2-7b llama3-8b -t 1K,2K -e mlx_lm",
    "methods": "compare r1 -t 1K,2K --methods all",
    "fit": "fit r1 --gpu h200 --gpus 8 --tp 8 -e vllm -t 32K",
    "choices": "fit llama3-8b -t 8K --gpu l40s,h100",
    "replicas": "fit llama3-8b --gpu h100,l40s --tp 1 -e vllm --users 2000 --workload examples/traces/azure.csv",
    "fleet": "check examples/fleet.jsonl",
    "check": "check examples/plans",
    "diff": "diff tests/plans/was tests/plans/now",
    "explain": "explain tests/logs/vllm_error_minimax.log minimax-m2.7 --tp 2",
    "decode": "decode qwen3-30b-a3b -t 1K -b 4 --tp 2 --gpu h100",
    "transfer": "transfer r1 -t 1K --from tp=2 --to tp=4 -e vllm --link 400Gb/s",
    "weights": "weights r1 --tp 8",
    "traffic": "traffic llama3-8b --blocks 2000 --context 4K",
    "vectors": "vectors run 'false' -e sglang",
    "report": "report examples/plans",
    "plot": "plot gpt-oss-20b llama3-8b -e ideal,vllm -t 32K --gpu h100",
    "fits": "fit llama3-8b,gpt-oss-20b --gpu l40s --tokens 4K --users 5 -e vllm",
    "replays": "replay examples/traces llama3-8b,gpt-oss-20b --blocks 3000 --step-ms 20",
    "deployments": "deployments tests/data/deployments",
    "model": "presets list deepseek",
    "gpu": "gpus h100",
    "engine": "engines show vllm",
    "method": "methods show snapkv",
    "replay": "replay examples/traces/azure.csv llama3-8b --blocks 2000 --step-ms 20 --steps --curve",
}
MORE = (
    "size r1 -t 1K,2K --by-layer",
    "size llama3-8b -t 1K,2K",
    "size deepseek-v4-pro -t 1000 -b 3 --dp 3",
    "size llama3-8b -t 1K -e transformers --engine-set num_beams=2 --method snapkv",
    "size llama3-8b -e llama_cpp",
    "size t5-large -t 10",
    "size mamba-2.8b -t 10 -e vllm",
    "fit llama3-8b --gpu l40s",
    "fit r1 --gpu h200 --gpus 8 --tp 8 -e sglang -t 32K",
    "fit r1 --gpu h200 --gpus 8 --tp 8 -e lmdeploy -t 32K",
    "fit llama3-8b --gpu l40s -e trtllm -t 8K",
    "fit mamba-2.8b --gpu l40s -t 8K",
    "size qwen3.5-27b -e llama_cpp --engine-set defaults=server",
    "fit llama3-8b --gpu l40s -e vllm --engine-set kv_offloading_size=64",
    "decode llama3-8b -t 1K",
    "weights llama3-8b --weights-dtype fp8",
    "check tests/plans/workload.yaml",
    "traffic qwen3-next-80b-a3b --engine sglang --gpu h200 --tp 2 --context 4K",
    "size r1 -t 1K,2K",
    "gpus",
    "engines list",
    "methods list",
    "presets list",
    "plot llama3.1-8b --max-users --gpu h100,l40s -e vllm",
)


@pytest.mark.parametrize("line", [*LINES.values(), *MORE])
def test_a_document_has_the_fields_that_its_schema_names(cli, line, monkeypatch):
    monkeypatch.chdir(__file__.rpartition("/tests/")[0])
    done = cli(f"{line} --format json")
    assert done.code != 2, done.stderr
    assert check_schema(json.loads(done.stdout))


NO_TABLE = {"fleet"}
"""Answers that come as a stream, in two forms."""


@pytest.mark.parametrize("line", [line for kind, line in LINES.items() if kind not in NO_TABLE] + [*MORE])
def test_csv_is_one_table_with_the_question_in_it(cli, line, monkeypatch):
    monkeypatch.chdir(__file__.rpartition("/tests/")[0])
    done = cli(f"{line} --format csv")
    names, *rows = csv.reader(done.stdout.splitlines())
    assert rows
    assert {len(row) for row in rows} == {len(names)}
    assert len(set(names)) == len(names)
    assert not [name for name in names if name != name.lower() or not name.isidentifier()]
    assert not {"per_token_bytes", "number", "value"} & {*names} - ({"value"} if "engines" in line else set())
    document = json.loads(cli(f"{line} --format json").stdout)
    listed = document if isinstance(document, list) else [document]
    for fact in ("model", "engine", "engine_version", "kv_dtype"):
        if fact in listed[0]:
            assert fact in names, fact
    for name in names:
        if name.endswith(("_bytes", "_tokens", "_users")) or name in ("bytes", "tokens", "users", "gpus"):
            assert all(row[names.index(name)].lstrip("-").isdecimal() or not row[names.index(name)] for row in rows), (
                name
            )


def test_several_lengths_layer_by_layer_are_all_in_csv(cli):
    rows = csv.DictReader(cli("size r1 -t 1K,2K --by-layer --format csv").stdout.splitlines())
    assert sorted({(int(row["tokens"]), int(row["layer"])) for row in rows}) == [
        (tokens, layer) for tokens in (1024, 2048) for layer in range(61)
    ]


@pytest.mark.parametrize("engine", ["ideal", "vllm", "llama_cpp", "sglang"])
@pytest.mark.parametrize(("name", "growth"), [("r1", 61 * 576 * 2), ("llama3-70b", 80 * 2 * 8 * 128 * 2)])
def test_bytes_per_token_means_the_same_everywhere(cli, name, growth, engine):
    """What a token adds to a sequence: layers x elements x 2 bytes, in an engine with blocks, too."""

    def table(line):
        return [*csv.DictReader(cli(f"{line} --format csv").stdout.splitlines())]

    asked = f"{name} -t 8K -e {engine}"
    size = json.loads(cli(f"size {asked} --format json").stdout)
    assert size["bytes_per_token"] * size["growth"]["tokens"] >= size["growth"]["bytes"]
    found = {
        size["bytes_per_token"],
        *(int(row["bytes_per_token"]) for row in table(f"size {name} -t 8K,8K -e {engine}")),
        *(int(row["bytes_per_token"]) for row in table(f"compare {asked}") if row["as_built"] == "true"),
        *(int(row["bytes_per_token"]) for row in table(f"compare {asked} --methods kv-dtype:bf16")[:1]),
    }
    assert len(found) == 1
    if engine != "vllm" or name != "r1":  # vLLM stores R1's latents in rows of its own width
        assert found == {growth}


def test_each_kind_is_run():
    assert LINES.keys() == ANSWERS.keys() == VERSIONS.keys()


@pytest.mark.parametrize("kind", ANSWERS)
def test_a_schema_is_one_in_the_version_of_its_document(kind):
    jsonschema.Draft202012Validator.check_schema(schema(kind))
    assert schema(kind)["$id"].endswith(f"/{kind}-{VERSIONS[kind]}.json")
    assert schema(kind)["properties"]["schema"] == {"const": f"{kind}/{VERSIONS[kind]}"}
    assert "x-absent" not in json.dumps(schema(kind))
    assert kind in SCHEMAS


@pytest.mark.parametrize("kind", ["size", "fit", "methods"])
def test_a_field_that_goes_or_comes_is_noticed(cli, kind, monkeypatch):
    monkeypatch.chdir(__file__.rpartition("/tests/")[0])
    document = json.loads(cli(f"{LINES[kind]} --format json").stdout)
    check = validator(kind)
    assert check.is_valid(document)
    for name in schema(kind)["required"]:
        less = deepcopy(document)
        del less[name]
        assert not check.is_valid(less), name
    assert not check.is_valid({**document, "more": 1})
    assert not check.is_valid({**document, "schema": f"{kind}/{VERSIONS[kind] + 1}"})
