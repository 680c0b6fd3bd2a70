"""`--engine ollama`: before 0.30 against Ollama's own engine, run as of its last commit; from then on as llama.cpp.

Each row of the data is a context of its own Go code over a model that was a config.json, and the bytes of its cells.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

import kvcalc
from kvcalc.engines import Engine
from kvcalc.engines.llama_cpp.versions import LlamaCppRelease
from kvcalc.engines.ollama.versions import OllamaRelease
from kvcalc.units import GIB

DATA = Path(__file__).parents[1] / "data" / "ollama.jsonl.gz"
OWN = "ollama@0.29"
PRESETS = {
    "meta-llama__Meta-Llama-3.1-8B": "llama-3.1-8b",
    "Qwen__Qwen2.5-0.5B": "qwen2.5-0.5b",
    "Qwen__Qwen3-30B-A3B": "qwen3-30b-a3b",
    "google__gemma-2-9b": "gemma-2-9b",
    "google__gemma-3-1b-it": "gemma-3-1b",
    "google__gemma-3-27b-it": "gemma-3-27b",
    "google__gemma-3n-E4B-text": "gemma-3n-e4b",
    "google__gemma-4-26B-A4B": "gemma-4-26b-a4b",
    "openai__gpt-oss-20b": "gpt-oss-20b",
    "openai__gpt-oss-120b": "gpt-oss-120b",
    "meta-llama__Llama-4-Scout-17B-16E-Instruct": "llama-4-scout",
    "poolside__Laguna-XS.2-FP8": "laguna-xs.2",
    "deepseek-ai__DeepSeek-R1": "deepseek-r1",
    "zai-org__GLM-4.7-Flash": "glm-4.7-flash",
}
"""The preset of each model of the data."""


def size(
    name: str, t: int | None, engine: str = OWN, sequences: int = 1, *, kv_dtype: str = "bf16", **settings
) -> kvcalc.Report:
    model = kvcalc.load(name)
    return kvcalc.size(model, tokens=t, sequences=sequences, kv_dtype=kv_dtype, engine=engine, engine_settings=settings)


def test_every_row_takes_what_ollama_took():
    with gzip.open(DATA, "rt") as lines:
        rows = [json.loads(line) for line in lines]
    for row in rows:
        question = row["question"]
        report = size(PRESETS[row["name"]], question["tokens"], question["engine"], **question["engine_settings"])
        assert report.total_bytes == row["want"]["total_bytes"], (row["name"], question)
    assert len(rows) == 84


# Sizes worked out by hand: its own engine ----------------------------------------------------------------------------

LLAMA = 32 * 8 * 128 * 2  # layers, KV heads, head_dim, K and V: elements of a token of Llama 3.1 8B
GEMMA = 16 * 128 * 2 * 2  # heads of a layer of Gemma 3 27B, K and V, f16
SIZES = {
    "padded to 256": (("llama-3.1-8b", 1000), {}, 1024 * LLAMA * 2),
    "q8_0": (("llama-3.1-8b", 1024), {"kv_cache_type": "q8_0"}, 1024 * LLAMA * 34 // 32),
    "without flash attention it is ignored": (
        ("llama-3.1-8b", 1024),
        {"kv_cache_type": "q8_0", "flash_attention": 0},
        1024 * LLAMA * 2,
    ),
    # 1024 + 512 = 1536 cells; and two sequences: 2 x 1025 + 512 -> 2816 of 2 x 8192
    "a window and a batch": (("gemma-3-27b", 8192), {}, (52 * 1536 + 10 * 8192) * GEMMA),
    "for two": (("gemma-3-27b", 16_384, OWN, 2), {}, (52 * 2816 + 10 * 16_384) * GEMMA),
    "a window as long as the context": (("gemma-3-27b", 1024), {}, 62 * 1024 * GEMMA),
    "4,096 that gpt-oss remembers": (
        ("gpt-oss-20b", 16_384),
        {},
        (12 * (4096 + 512) + 12 * 16_384) * 8 * 64 * 2 * 2,
    ),
    "Gemma 2 pads nothing": (("gemma-2-9b", 600), {}, 42 * 600 * 8 * 256 * 2 * 2),
    "no window in the llama class": (("mistral-7b-v0.1", 32_768), {}, 32_768 * 32 * 8 * 128 * 2 * 2),
    "a latent twice": (("r1", 8192), {}, 8192 * 61 * (576 + 512) * 2),
    "32 without flash attention once": (
        ("llama-3.1-8b", 1000, "ollama@0.13.1"),
        {"flash_attention": False},
        1000 // 8 * 8 * LLAMA * 2 + 24 * LLAMA * 2,
    ),
    "no cell for a stop token once": (
        ("gemma-3-27b", 16_384, "ollama@0.12.3", 2),
        {},
        (52 * 2560 + 10 * 16_384) * GEMMA,
    ),
    "a ring as long as the context once": (
        ("gemma-3-27b", 1024, "ollama@0.12.3"),
        {},
        (52 * 1536 + 10 * 1024) * GEMMA,
    ),
}


@pytest.mark.parametrize(("asked", "settings", "wanted"), SIZES.values(), ids=SIZES)
def test_sizes_are_those_worked_out_by_hand(asked, settings, wanted):
    assert size(*asked, **settings).total_bytes == wanted


# llama-server ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["llama-3.1-8b", "gemma-3-27b", "r1", "gpt-oss-20b", "nemotron-h-8b", "deepseek-v3.2"])
@pytest.mark.parametrize(("tokens", "batch"), [(4096, 512), (4097, 1024), (32_768, 1024), (40_000, 2048)])
def test_from_0_30_on_it_is_llama_cpp_with_the_flags_of_the_server(name, tokens, batch):
    as_llama_cpp = kvcalc.size(
        kvcalc.load(name),
        tokens=tokens,
        kv_dtype="fp16",
        engine="llama_cpp@b10488",
        engine_settings={"defaults": "server", "n_batch": batch, "n_ubatch": batch, "n_seq_max": 1},
    )
    assert size(name, tokens, "ollama").total_bytes == as_llama_cpp.total_bytes
    assert size(name, tokens, "ollama", num_batch=batch).total_bytes == as_llama_cpp.total_bytes


def test_slots_have_their_shares_and_a_cache_type_holds_for_both():
    asked = {"defaults": "server", "n_ubatch": 1024, "kv_unified": False, "type_k": "q8_0", "type_v": "q8_0"}
    as_llama_cpp = kvcalc.size(
        kvcalc.load("gemma-3-27b"), tokens=16_384, sequences=4, engine="llama_cpp@b9452", engine_settings=asked
    )
    report = size("gemma-3-27b", 16_384, "ollama@0.30", 4, kv_cache_type="q8_0")
    assert report.total_bytes == as_llama_cpp.total_bytes
    assert "Ollama 0.30 starts llama-server of llama.cpp b9452, about 2026-05-31" in report.notes


@pytest.mark.parametrize(
    ("engine", "name", "settings", "context"),
    [
        ("ollama", "llama-3.1-8b", {}, 4096),
        ("ollama", "llama-3.1-8b", {"total_vram_bytes": 24 * GIB}, 32_768),
        ("ollama", "llama-3.1-8b", {"total_vram_bytes": 48 * GIB}, 131_072),  # 262,144, but the model ends before
        ("ollama@0.15.4", "llama-3.1-8b", {"total_vram_bytes": 48 * GIB}, 4096),
        ("ollama@0.15.5", "llama-3.1-8b", {"total_vram_bytes": 23 * GIB}, 32_768),
        ("ollama", "llama-3.1-8b", {"context_length": 10_000, "total_vram_bytes": 48 * GIB}, 10_000),
        ("ollama", "llama-3.1-8b", {"context_length": 10_000, "num_parallel": 3}, 30_000),
        ("ollama", "gemma-2-9b", {"context_length": 10_000}, 8192),
    ],
)
def test_the_context_that_nobody_asks_for_is_4096_until_something_raises_it(engine, name, settings, context):
    assert size(name, None, engine, **settings).tokens == context


def test_every_build_that_it_started_is_one_that_llama_cpp_is_modelled_for():
    builds = (OllamaRelease.llama_cpp.old, *OllamaRelease.llama_cpp.since.values())
    assert all(LlamaCppRelease.named(build) == build for build in builds)


# Refusals -------------------------------------------------------------------------------------------------------------

REFUSALS = {
    "states in its own engine": (
        kvcalc.NotApplicableError,
        lambda: size("jamba-1.5-mini", 1),
        "how Ollama's engine stores Mamba layers",
    ),
    "a quantised cache without flash attention": (
        kvcalc.NotApplicableError,
        lambda: size("llama-3.1-8b", 512, "ollama", kv_cache_type="q8_0", flash_attention=False),
        "a quantised V (q8_0) requires flash_attn, which is off",
    ),
    "a format": (
        kvcalc.NotApplicableError,
        lambda: size("llama-3.1-8b", 512, "ollama", kv_dtype="fp8"),
        "Ollama stores no cache in fp8",
    ),
    "no planner": (
        kvcalc.NotApplicableError,
        lambda: kvcalc.fit(kvcalc.load("r1"), engine="ollama", available_bytes=2**35),
        "the engine ollama has no planner",
    ),
    "a type": (
        kvcalc.InvalidValueError,
        lambda: size("r1", 1, kv_cache_type="q5_0"),
        "kv_cache_type must be one of f16, q8_0, q4_0",
    ),
    "sequences": (
        kvcalc.InvalidValueError,
        lambda: size("llama-3.1-8b", 512, OWN, 3, num_parallel=2),
        "num_parallel (2) differs from the number of sequences (3)",
    ),
    "a version too old": (
        kvcalc.InvalidValueError,
        lambda: Engine.of("ollama@0.5"),
        "kvcalc models Ollama 0.11.0 to 0.32.15, not '0.5'",
    ),
}


@pytest.mark.parametrize(("error", "ask", "words"), REFUSALS.values(), ids=REFUSALS)
def test_what_ollama_cannot_do_is_refused_with_its_reason(error, ask, words):
    with pytest.raises(error) as refusal:
        ask()
    assert words in str(refusal.value)
    assert refusal.value.help


def test_what_its_own_engine_ignores_is_said():
    report = size("llama-3.1-8b", 1, kv_cache_type="q4_0", flash_attention=0)
    assert report.notes == ("without flash attention Ollama ignores q4_0 and stores f16",)


def test_a_model_that_is_loaded_for_one_sequence_is_shared_in_turns():
    alone, two = (size("qwen3-next-80b-a3b", 8192, "ollama", sequences) for sequences in (1, 2))
    assert alone.total_bytes == two.total_bytes
    ignored = "OLLAMA_NUM_PARALLEL (2) is ignored: Ollama loads this model for one sequence, and requests take turns"
    assert [note.startswith(ignored) for note in two.notes].count(True) == 1
    assert not any("OLLAMA_NUM_PARALLEL" in note for note in alone.notes)


def test_a_fit_and_a_plan_ask_for_a_version(cli, tmp_path):
    run = cli("fit --preset gemma-3-27b -e ollama@0.24 -t 16384 --gpu rtx-4090 --weights 17GB")
    assert "asked for               1,996,488,704" in run.stdout
    plan = tmp_path / "plan.yaml"
    entry = "deployments: [{name: a, model: gemma-3-27b, engine: ollama@%s, tokens: 16K, gpu: rtx-4090, weights: 17GB}]"
    plan.write_text(entry % "0.24")
    assert cli(f"check {plan}").code == 0
    plan.write_text(entry % "0.5")
    refused = cli(f"check {plan}")
    assert (refused.code, "kvcalc models Ollama 0.11.0 to 0.32.15" in refused.stderr) == (2, True)
