"""The engine vllm on a CPU against vLLM 0.32.0's CPU build, which ran: 73 start-ups, 148 live requests of 25 models.

A start-up is held in what its log printed and its torch storage took; a request in the pages that it held at its peak.
"""

from __future__ import annotations

import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kvcalc
from kvcalc.engines.vllm.specs import CHUNKED, SLIDING, STATE, Limits, Spec, ceil_div

DATA = Path(__file__).parents[1] / "data" / "vllm_cpu.jsonl.gz"
AFTER_A_PREFIX = {("gemma3_7layers", 1502), ("gpt_oss", 1502)}
"""Requests whose first 512 tokens were cached by the request before, so that the blocks before the window of these were
never taken. A size is of a request alone."""


@cache
def rows() -> list[dict[str, Any]]:
    with gzip.open(DATA, "rt") as lines:
        return [json.loads(line) for line in lines]


def measured(row: dict[str, Any]) -> dict[str, Any]:
    model, question = kvcalc.load(row["config"]), row["question"]
    if row["call"] == "size":
        return {"total_bytes": kvcalc.size(model, **question).total_bytes}
    report = kvcalc.fit(model, **question)
    return {
        "num_blocks": report.num_blocks,
        "allocated_bytes": sum(report.allocated_bytes),
        "max_model_len": report.max_model_len,
        "tokens": report.tokens,
        "concurrency": f"{report.max_concurrency:.2f}",
    }


def is_after_a_prefix(row: dict[str, Any]) -> bool:
    return (row["id"], row["question"].get("tokens")) in AFTER_A_PREFIX


def test_every_start_up_and_request_is_vllms_own():
    assert len(rows()) == 221
    alone = [row for row in rows() if not is_after_a_prefix(row)]
    assert len(alone) == 219
    assert [(row["id"], row["question"]) for row in alone if measured(row) != row["want"]] == []


def test_requests_after_a_cached_prefix_held_fewer_blocks():
    for row in filter(is_after_a_prefix, rows()):
        assert measured(row)["total_bytes"] > row["want"]["total_bytes"]


def test_what_the_platform_resolved_is_resolved():
    for row in rows():
        if row["call"] != "fit":
            continue
        report = kvcalc.fit(kvcalc.load(row["config"]), **row["question"])
        chosen, resolved = dict(report.resolved), row["resolved"]
        for name in ("max_num_batched_tokens", "max_num_seqs", "enable_prefix_caching"):
            assert chosen[name] == resolved[name], (row["id"], name)
        assert min(group.block_size for group in report.groups) == resolved["block_size"], row["id"]


LLAMA = {
    "model_type": "llama",
    "num_hidden_layers": 4,
    "hidden_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "max_position_embeddings": 8192,
    "vocab_size": 128,
}


def fitted(config: dict[str, Any] | str, engine: str = "vllm", tp: int = 1, dcp: int = 1, **settings: Any) -> Any:
    return kvcalc.fit(
        kvcalc.load(config),
        engine=engine,
        available_bytes=64 * 2**20,
        parallel=kvcalc.Parallel(tp=tp, dcp=dcp),
        engine_settings={"gpu": "cpu", "max_model_len": 2048, **settings},
    )


def test_batches_grow_with_ranks_and_usage():
    assert dict(fitted(LLAMA, tp=2).resolved)["max_num_batched_tokens"] == 2 * 2048
    assert dict(fitted(LLAMA, tp=2, usage="llm").resolved)["max_num_batched_tokens"] == 2 * 4096
    assert dict(fitted(LLAMA, tp=2).resolved)["max_num_seqs"] == 2 * 128


def test_latents_have_the_default_block_where_the_cpu_has_amx():
    deepseek = next(row for row in rows() if row["id"] == "deepseek_v3")["config"]
    assert fitted(deepseek, block_size=64).block_size == 16
    assert fitted(deepseek, gpu="cpu-amx").block_size == 128
    assert dict(fitted(deepseek, gpu="cpu-amx").resolved)["enable_prefix_caching"] is True


def test_states_are_in_float32_where_the_cpu_computes_them_so():
    hybrid = next(row for row in rows() if row["id"] == "falcon_h1")["config"]
    in_float32, as_the_model = (fitted(hybrid, gpu=gpu).block_size for gpu in ("cpu", "cpu-avx512"))
    assert in_float32 > as_the_model


@pytest.mark.parametrize(
    ("refused", "words"),
    [
        (lambda: fitted(LLAMA, block_size=16), "No common block size for 16 (CPU_ATTN: multiples of 32)"),
        (lambda: fitted("deepseek-v3.2"), "Sparse Attention is not supported on CPU."),
        (lambda: fitted("deepseek-v4-flash"), "vLLM's storage of DeepSeek-V4's cache on a CPU is unknown"),
        (
            lambda: fitted(LLAMA, kv_cache_dtype="int8_per_token_head"),
            "--kv-cache-dtype int8_per_token_head is not supported by the CPU attention backend on this host.",
        ),
        (lambda: fitted("r1", kv_cache_dtype="fp8"), "--kv-cache-dtype fp8 is not supported by MLA attention on CPU."),
        (
            lambda: fitted(LLAMA | {"head_dim": 80}, kv_cache_dtype="fp8"),
            "FP8 KV cache requires head_size divisible by 32 on CPU.",
        ),
        (
            lambda: fitted(LLAMA, engine="vllm@0.32.0", gpu="cpu-avx2", kv_cache_dtype="fp8"),
            "FP8 KV cache on CPU requires x86 with AVX-512 or AMX.",
        ),
        (
            lambda: fitted(LLAMA, tp=4, dcp=2),
            "Decode Context Parallelism (DCP) requires attention implementations to return the softmax LSE during "
            "decode, but those of a CPU do not",
        ),
        (lambda: fitted(LLAMA, engine="vllm@0.29"), "kvcalc models vLLM on a CPU from 0.32.0 on, not 0.29.0"),
        (
            lambda: kvcalc.fit(kvcalc.load("r1"), weights_bytes=10**9, engine_settings={"gpu": "cpu"}),
            "the memory of a CPU does not follow from its name (cpu)",
        ),
    ],
)
def test_what_a_cpu_has_no_kernels_for_is_refused(refused, words):
    with pytest.raises(kvcalc.NotApplicableError) as refusal:
        refused()
    assert str(refusal.value) == words
    assert refusal.value.help


# What a request holds while it is read ------------------------------------------------------------------------------


def held_step_by_step(spec: Spec, limits: Limits, tokens: int) -> int:
    """Batch after batch: blocks out of sight of what is done are given back, then those of the batch are taken."""
    block, batch, behind = spec.block_size, limits.batch_tokens, limits.in_flight_tokens - limits.batch_tokens
    held: set[int] = set()
    most = 0
    for start in range(0, tokens, batch):
        done = max(0, start - behind)
        seen_from = done // spec.window * spec.window if spec.kind == CHUNKED else done - spec.window + 1
        held = {number for number in held if (number + 1) * block > seen_from}
        end = min(start + batch, tokens)
        held |= set(range(ceil_div(start, block), ceil_div(end, block)))
        most = max(most, len(held))
    return most


@given(
    kind=st.sampled_from([SLIDING, CHUNKED]),
    block=st.integers(1, 9),
    window=st.integers(1, 60),
    batch=st.integers(1, 40),
    batches=st.integers(1, 3),
    tokens=st.integers(1, 400),
)
def test_blocks_of_a_window_are_those_of_its_fullest_batch(kind, block, window, batch, batches, tokens):
    """And never more than were planned for it, unless a chunk ends inside of a block, which the plan forgets."""
    spec = Spec(kind, block, 1, window=window)
    limits = Limits(10**6, batches * batch, batch, batch_tokens=batch)
    held = spec.held(limits).slots(tokens)
    assert held == held_step_by_step(spec, limits, tokens)
    assert held <= spec.rule(limits).slots(tokens) or (kind == CHUNKED and window % block)


@pytest.mark.parametrize(
    ("checkpoint_blocks", "tokens", "blocks"),
    [(0, 256, 1), (0, 257, 2), (0, 10_000, 2), (1, 256, 1), (1, 257, 2), (1, 1024, 2), (1, 1025, 3)],
)
def test_states_come_with_blocks_that_are_full(checkpoint_blocks, tokens, blocks):
    """Of a block of 256 tokens and batches of 1,024; a checkpoint has a state before it from the second batch on."""
    spec = Spec(STATE, 256, 1, checkpoint_blocks=checkpoint_blocks)
    limits = Limits(32_768, 1024, 1024, keeps_states=True, batch_tokens=1024)
    assert spec.held(limits).slots(tokens) == blocks
    drafting = limits._replace(speculative_tokens=3)
    assert spec.held(drafting).slots(tokens) == blocks + 3
