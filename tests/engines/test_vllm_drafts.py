"""Drafts of other checkpoints in vLLM: whole models and eagles, as its own code plans them, and as its CPU build ran.

68 start-ups of 0.33.0 planned without a GPU: the classes that would draft built their layers, and what the planner made
of them and of the model's is the row. Five targets (one kind of layer, windows, sinks, latents, states), drafts of 1 to
28 layers, ranks, formats, and refusals. 17 start-ups and requests of 0.32.0 on a CPU, which ran and drafted.
"""

from __future__ import annotations

import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import kvcalc
from kvcalc.engines import Engine

DATA = Path(__file__).parents[1] / "data" / "vllm_drafts.jsonl.gz"
OF_BLOCKS = DATA.with_name("vllm_dflash.jsonl.gz")
NOT_KNOWN = dict.fromkeys(("pp 2", "tp 2 pp 2"), "vLLM cannot start a draft model on pipeline stages")
"""Planned by vLLM's planner alone and refused here: the profile run, which comes before, cannot end.

On the last of several stages `LlamaModel.forward` (model_executor/models/llama.py) asserts the output of the stage before,
which no draft model is given (v1/worker/gpu/spec_decode/standalone_ar/speculator.py, `_run_model`).
"""
REFUSED = {
    "heads": "Total number of attention heads (14) must be divisible by tensor parallel size (4)",
    "vocabulary": "Target and draft model should have the same vocabulary size: 1,024 of model, 2,048 of model",
    "no number": "num_speculative_tokens must be a whole number of at least 1, not None",
}


@cache
def every_row() -> list[dict[str, Any]]:
    with gzip.open(DATA, "rt") as lines:
        return [json.loads(line) for line in lines]


def rows(version: str = "0.33.0") -> list[dict[str, Any]]:
    return [row for row in every_row() if row["question"]["engine"] == f"vllm@{version}"]


def asked_of(row: dict[str, Any]) -> tuple[kvcalc.Model, Engine, dict[str, Any]]:
    """The model with its drafts, the engine, and what else is asked."""
    question = dict(row["question"])
    named = {"speculative": {**question["engine_settings"]["speculative"], "model": "drafter"}}
    settings = {"gpu": "h100-80gb", **question.pop("engine_settings"), **named}
    engine = Engine.of(question.pop("engine"), settings)
    return engine.drafted_by(kvcalc.load(row["config"]), kvcalc.load(row["drafter"])), engine, question


def planned(row: dict[str, Any]) -> dict[str, Any]:
    model, engine, question = asked_of(row)
    ranks = kvcalc.Parallel(**question.pop("parallel", {}))
    report = kvcalc.fit(model, engine=engine, parallel=ranks, **question)
    return {
        "num_blocks": report.num_blocks,
        "tokens": report.tokens,
        "max_concurrency": round(report.max_concurrency, 6),
        "bytes_per_block": list(report.bytes_per_block),
    }


def test_every_draft_is_planned_as_vllm_plans_it():
    asked = [row for row in rows() if "refused" not in row["want"] and row["name"] not in NOT_KNOWN]
    assert len(asked) == 58
    assert [(row["name"], row["want"], planned(row)) for row in asked if planned(row) != row["want"]] == []


def test_drafts_of_whole_blocks_are_planned_as_vllm_plans_them():
    """24 start-ups of 0.33.0 with DFlash and DFlash2: with windows and without, ranks, stages, formats, five targets."""
    with gzip.open(OF_BLOCKS, "rt") as lines:
        started = [json.loads(line) for line in lines]
    assert len(started) == 24
    assert [(row["name"], row["want"], planned(row)) for row in started if planned(row) != row["want"]] == []


def ran(row: dict[str, Any]) -> dict[str, Any]:
    model, engine, question = asked_of(row)
    if row["call"] == "size":
        return {"total_bytes": kvcalc.size(model, engine=engine, **question).total_bytes}
    report = kvcalc.fit(model, engine=engine, **question)
    return {
        "num_blocks": report.num_blocks,
        "allocated_bytes": sum(report.allocated_bytes),
        "max_model_len": report.max_model_len,
        "tokens": report.tokens,
        "concurrency": f"{report.max_concurrency:.2f}",
    }


def test_what_ran_on_a_cpu_took_what_is_said():
    """Bytes of torch's storages, the log's numbers, and the pages that a request held with the drafts' among them."""
    started = [row for row in rows("0.32.0") if "refused" not in row["want"]]
    assert len(started) == 11
    assert [(row["name"], row["want"], ran(row)) for row in started if ran(row) != row["want"]] == []


def test_drafts_in_several_groups_are_refused_on_a_cpu():
    refused = [row for row in rows("0.32.0") if "refused" in row["want"]]
    assert len(refused) == 6
    for row in refused:
        with pytest.raises(kvcalc.NotApplicableError, match="All drafting layers should belong to the same kv cache"):
            ran(row)


def test_what_vllm_refuses_is_refused():
    asked = [row for row in rows() if "refused" in row["want"]]
    assert len(asked) == 8
    for row in asked:
        with pytest.raises(kvcalc.KvcalcError) as refusal:
            planned(row)
        assert str(refusal.value).startswith(REFUSED.get(row["name"], "vLLM builds layers of multi-token prediction"))


def test_what_is_not_known_is_refused():
    for row in rows():
        if row["name"] in NOT_KNOWN:
            with pytest.raises(kvcalc.NotApplicableError, match=NOT_KNOWN[row["name"]]):
                planned(row)


def llama(layers: int, **facts: Any) -> kvcalc.Model:
    config = {"model_type": "llama", "num_hidden_layers": layers, "hidden_size": 512, "num_attention_heads": 8}
    return kvcalc.load({**config, "num_key_value_heads": 8, "max_position_embeddings": 2048, **facts})


SPECULATIVE = {"method": "draft_model", "model": "small", "num_speculative_tokens": 2}
ERRORS: dict[str, tuple[str, dict[str, Any], dict[str, Any], str]] = {
    "a version without": (
        "vllm@0.14.1",
        {},
        {},
        "Speculative decoding with draft model is not supported yet by vLLM 0.14.1",
    ),
    "ranks of its own": (
        "vllm",
        {"draft_tensor_parallel_size": 4},
        {},
        "draft_tensor_parallel_size (4) and tensor_parallel_size (1) must be the same",
    ),
    "kernels of its own": (
        "vllm",
        {"attention_backend": "FLASHINFER"},
        {},
        "kvcalc does not know the blocks of a draft's own kernels",
    ),
    "another way": (
        "vllm",
        {"method": "medusa"},
        {},
        "kvcalc does not know what layers of model cache under the speculative method 'medusa'",
    ),
    "a name that says how": (
        "vllm",
        {"model": "z-lab/x-DSpark"},
        {},
        "kvcalc does not know what layers of model cache under the speculative",
    ),
    "an unknown format": ("vllm", {"kv_cache_dtype": "int3"}, {}, "vLLM 0.33.0 has no kv_cache_dtype 'int3'"),
    "two groups in older versions": (
        "vllm@0.29.0",
        {},
        {
            "layer_types": ["sliding_attention", "full_attention"],
            "sliding_window": 64,
            "model_type": "qwen3",
            "vocab_size": 32000,
        },
        "All drafting layers should belong to the same kv cache group",
    ),
}


@pytest.mark.parametrize(("engine", "speculative", "draft", "words"), ERRORS.values(), ids=list(ERRORS))
def test_a_draft_that_does_not_go_is_named(engine, speculative, draft, words):
    settings = {"gpu": "h100-80gb", "speculative": {**SPECULATIVE, **speculative}}
    of = Engine.of(engine, settings)
    with pytest.raises(kvcalc.NotApplicableError) as refusal:
        kvcalc.fit(of.drafted_by(llama(4), llama(2, **draft)), engine=of, available_bytes=2**30)
    assert str(refusal.value).startswith(words)
    assert refusal.value.help


def test_other_engines_say_that_they_do_not_model_drafts():
    with pytest.raises(kvcalc.NotApplicableError, match="what LMDeploy caches for drafts of another checkpoint"):
        Engine.of("lmdeploy").drafted_by(llama(4), llama(2))


def test_a_size_counts_the_layers_that_draft():
    """4 layers of 8 heads and 2 of 2, each of 64 x 2 elements of 2 bytes, in blocks of 16 tokens."""
    of = Engine.of("vllm", {"gpu": "h100-80gb", "speculative": SPECULATIVE})
    model = of.drafted_by(llama(4), llama(2, num_key_value_heads=2))
    report = kvcalc.size(model, tokens=160, engine=of)
    assert report.total_bytes == 160 * (4 * 8 + 2 * 2) * 64 * 2 * 2
    assert [group.name for group in report.groups] == ["all", "draft all"]
    assert "with 2 layers of the draft model model" in report.notes
