"""Schemas of answers: each document has the fields that its schema names, and no others, in the version that it says.

tests/cli/test_cli_snapshots.py validates the documents of all snapshots, too.
"""

from __future__ import annotations

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
    "replicas": "fit llama3-8b --gpu h100,l40s -e vllm --users 2000 --workload examples/traces/azure.csv",
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
    "replays": "replay examples/traces llama3-8b,gpt-oss-20b --blocks 3000 --step-ms 20",
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
    "plot llama3.1-8b --max-users --gpu h100,l40s -e vllm",
)


@pytest.mark.parametrize("line", [*LINES.values(), *MORE])
def test_a_document_has_the_fields_that_its_schema_names(cli, line, monkeypatch):
    monkeypatch.chdir(__file__.rpartition("/tests/")[0])
    done = cli(f"{line} --format json")
    assert done.code != 2, done.stderr
    assert check_schema(json.loads(done.stdout))


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
