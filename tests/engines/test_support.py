"""Model types that engines have no class for: vLLM 0.33.0 and SGLang 0.5.23, asked to load each that kvcalc reads."""

from __future__ import annotations

import gzip
import json
import re
from functools import cache
from pathlib import Path

import pytest

import kvcalc
from kvcalc.engines.base.support import Refusal, Support
from kvcalc.engines.sglang.support import SUPPORT as SGLANG
from kvcalc.engines.vllm.support import SUPPORT as VLLM
from kvcalc.model import Model, Published

DATA = Path(__file__).parents[1] / "data" / "unsupported.jsonl.gz"
TABLES = {"vllm@0.33.0": VLLM, "sglang@0.5.23": SGLANG}


@cache
def rows() -> list[dict[str, str]]:
    with gzip.open(DATA, "rt") as lines:
        return [json.loads(line) for line in lines]


def of_type(name: str) -> Model:
    llama = kvcalc.load("llama-3.1-8b")
    return Model(name, llama.groups, published=Published(model_type=name))


def kind_of(table: Support, name: str) -> str:
    kinds = {"refused": table.refused, "no KV cache": table.cacheless, "not determined": table.undecided}
    return next((kind for kind, types in kinds.items() if name in types), "accepts")


def test_every_verdict_is_in_the_tables():
    assert len(rows()) == 240
    wrong = [row for row in rows() if kind_of(TABLES[row["engine"]], row["model_type"]) not in row["verdict"]]
    assert wrong == []
    by_fallback = {row["model_type"] for row in rows() if "accepts" in row["verdict"]}
    assert by_fallback == set(SGLANG.by_fallback)
    for table in TABLES.values():
        kinds = [*table.refused, *table.by_fallback, *table.undecided, *table.cacheless]
        assert len(set(kinds)) == len(kinds)


@pytest.mark.parametrize(
    "row", [row for row in rows() if row["engine"].startswith("vllm") and row["verdict"] == "refused"], ids=str
)
def test_what_vllm_refuses_is_refused_in_its_words(row):
    with pytest.raises(kvcalc.NotApplicableError) as refusal:
        kvcalc.size(of_type(row["model_type"]), tokens=100, engine="vllm")
    words = str(refusal.value)
    assert words[:16] in row["evidence"]
    assert [name for name in re.findall(r"\w*[a-z][A-Z]\w+", words) if name not in row["evidence"]] == []
    assert refusal.value.help


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_a_size_and_a_plan_say_that_only_a_fallback_runs_the_model(engine):
    model = of_type("seed_oss")
    words = {
        "vllm": "vLLM 0.33.0 has no class for seed_oss; its Transformers fallback runs it",
        "sglang": "SGLang 0.5.23 has no class for seed_oss; its Transformers fallback runs it",
    }[engine]
    settings = {"vllm": {"max_model_len": 8192}, "sglang": {"context_length": 8192}}[engine]
    assert words in kvcalc.size(model, tokens=100, engine=engine).notes
    fit = kvcalc.fit(model, engine=engine, available_bytes=10 * 2**30, engine_settings=settings)
    assert words in fit.notes


def test_a_fit_on_gpus_and_a_check_say_it_too(cli, tmp_path):
    config = {"model_type": "seed_oss", "num_hidden_layers": 4, "hidden_size": 128, "num_attention_heads": 4}
    file = tmp_path / "config.json"
    file.write_text(json.dumps(config | {"num_key_value_heads": 2, "head_dim": 64, "vocab_size": 100}))
    fit = cli(f"fit --model {file} --gpu h100 --weights 1GB --tokens 1000 --engine vllm")
    assert "no class for seed_oss" in " ".join(fit.stdout.split())
    plan = tmp_path / "plan.yaml"
    plan.write_text(f"deployments: [{{name: a, model: {file}, engine: vllm, tokens: 1000, budget: 1GB}}]")
    assert "no class for seed_oss" in " ".join(cli(f"check {plan}").stdout.split())


def test_what_sglangs_loader_refuses_is_planned_with_a_note():
    note = "SGLang 0.5.23 has no class for falcon; its Transformers fallback refuses it as well"
    assert note in kvcalc.size(of_type("falcon"), tokens=100, engine="sglang").notes


def test_what_runs_without_a_cache_has_no_size():
    with pytest.raises(
        kvcalc.NotApplicableError, match=r"vLLM 0\.33\.0 runs roberta as an encoder, without a KV cache"
    ):
        kvcalc.size(of_type("roberta"), tokens=100, engine="vllm")


@pytest.mark.parametrize(("version", "is_refused"), [("0.22.1", False), ("0.23.0", False), ("0.23.1", True)])
def test_a_class_was_there_until_its_last_version(version, is_refused):
    model = of_type("bamba")
    try:
        VLLM.check(model, version)
    except kvcalc.NotApplicableError as refusal:
        assert is_refused
        assert refusal.help == "use 0.23.0, the last version with a class for it"
    else:
        assert not is_refused


def test_an_older_version_sizes_what_it_had_a_class_for():
    model = of_type("qwen")
    assert kvcalc.size(model, tokens=100, engine="vllm@0.23").total_bytes
    with pytest.raises(kvcalc.NotApplicableError, match=r"was supported in vLLM until v0\.23\.0"):
        kvcalc.size(model, tokens=100, engine="vllm@0.25.1")


def test_a_version_that_was_not_asked_has_no_note():
    table = Support("Toy", "2.0", refused={"a": Refusal("no")}, undecided=("b",))
    assert table.notes(of_type("b"), "1.9") == ()
    assert table.notes(of_type("b"), "2.0") == (
        "Toy 2.0 has no class for b; it is unknown whether its Transformers fallback runs it",
    )
    assert table.notes(of_type("c"), "2.0") == ()


@pytest.mark.parametrize(
    ("model_type", "layers", "block_bytes"),
    [("mistral4", 36, 36 * 16 * (256 + 64) * 2), ("youtu", 32, 32 * 16 * (512 + 64) * 2)],
)
def test_the_fallback_of_vllm_caches_latents(model_type, layers, block_bytes):
    """As measured: 368,640 and 589,824 bytes a block of 16 tokens."""
    config = {
        "model_type": model_type,
        "num_hidden_layers": layers,
        "hidden_size": 2048,
        "num_attention_heads": 32,
        "kv_lora_rank": block_bytes // (layers * 16 * 2) - 64,
        "qk_rope_head_dim": 64,
        "qk_nope_head_dim": 64,
        "v_head_dim": 128,
        "max_position_embeddings": 8192,
    }
    assert kvcalc.fit(kvcalc.load(config), available_bytes=2**30).bytes_per_block == (block_bytes,)
