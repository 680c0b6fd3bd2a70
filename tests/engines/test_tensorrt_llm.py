"""TensorRT-LLM's manager V1: pools that its arithmetic makes, sizes worked out by hand, laws, refusals.

The rows are what a transcript of its Python arithmetic made of memory and settings, not what the package allocated.
"""

from __future__ import annotations

import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from engine_laws import NEEDS_ENCODER, takes_no_less
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import models, tokens

import kvcalc
from kvcalc.io.presets import preset_names

DATA = Path(__file__).parents[1] / "data"
LLAMA = 32 * 8 * 128 * 2  # layers, KV heads, head_dim, K and V: elements of a token of Llama 3.1 8B
GEMMA_WINDOWS = [1024] * 5 + [131_072]
THREE_WINDOWS = [1024, 4096, 131_072]


def size(name: str, t: int, kv_dtype: str = "bf16", **settings):
    return kvcalc.size(kvcalc.load(name), tokens=t, kv_dtype=kv_dtype, engine="tensorrt_llm", engine_settings=settings)


def fit(name: str, available_bytes: object = 40 * 2**30, *, tp: int = 1, pp: int = 1, **settings):
    ranks = kvcalc.Parallel(tp=tp, pp=pp)
    return kvcalc.fit(
        kvcalc.load(name),
        engine="tensorrt_llm",
        available_bytes=available_bytes,
        parallel=ranks,
        engine_settings=settings,
    )


# Rows ---------------------------------------------------------------------------------------------------------------


def read(name: str) -> list[dict[str, Any]]:
    with gzip.open(DATA / name, "rt") as lines:
        return [json.loads(line) for line in lines]


@cache
def models_of_rows() -> dict[str, kvcalc.Model]:
    return {entry["name"]: kvcalc.load(entry["config"]) for entry in read("tensorrt_llm_facts.jsonl.gz")}


@pytest.mark.parametrize("row", read("tensorrt_llm.jsonl.gz"), ids=lambda row: row["name"])
def test_pools_are_those_that_its_arithmetic_makes(row):
    question = {**row["question"], "parallel": kvcalc.Parallel(**row["question"]["parallel"])}
    report = kvcalc.fit(models_of_rows()[row["model"]], **question)
    own = report.stages[row["stage"]]
    host = [pool.slots for pool in report.host[row["stage"]]] if report.host else [0] * len(own)
    assert [[pool.slots, spare] for pool, spare in zip(own, host, strict=True)] == row["want"]["pools"]


# Sizes worked out by hand -------------------------------------------------------------------------------------------

BLOCK = 8 * 128 * 2 * 2 * 32  # of one layer of Llama 3.1 8B: heads, head_dim, K and V, bytes, tokens
SIZES = {
    "blocks of 32": (("llama-3.1-8b", 1001), {}, 1024 * LLAMA * 2),
    "of 64 in fp8": (("llama-3.1-8b", 1025), {"tokens_per_block": 64, "dtype": "fp8"}, 1088 * LLAMA),
    "in nvfp4": (("llama-3.1-8b", 32), {"dtype": "nvfp4"}, 32 * LLAMA * 9 // 16),
    "the latent alone": (("r1", 33), {}, 64 * 61 * 576 * 2),
    "an indexer beside it": (("glm-5.2", 32), {}, 32 * (78 * 576 * 2 + 21 * 132)),
    # five windows of 1024 and one block, the sixth layer full: 52 and 10 layers, 16 heads of 128
    "windows": (
        ("gemma-3-27b", 4000),
        {"max_attention_window": GEMMA_WINDOWS},
        (52 * 1056 + 10 * 4000) * 16 * 128 * 2 * 2,
    ),
    # 11 layers of 32 + 1 blocks, 11 of 128 + 1, 10 of all 157
    "three windows over layers that are alike": (
        ("llama-3.1-8b", 5000),
        {"max_attention_window": THREE_WINDOWS},
        (11 * 33 + 11 * 129 + 10 * 157) * BLOCK,
    ),
}


@pytest.mark.parametrize(("asked", "settings", "wanted"), SIZES.values(), ids=SIZES)
def test_sizes_are_those_worked_out_by_hand(asked, settings, wanted):
    assert size(*asked, **settings).total_bytes == wanted


def test_a_wrong_setting_is_noticed():
    assert size("llama-3.1-8b", 5001).total_bytes != size("llama-3.1-8b", 5001, tokens_per_block=16).total_bytes


def test_kv_dtype_asks_for_what_a_setting_would():
    by_dtype, by_setting = size("llama-3.1-8b", 100, "fp8"), size("llama-3.1-8b", 100, dtype="fp8")
    assert by_dtype.total_bytes == by_setting.total_bytes


@pytest.mark.parametrize(
    ("kv_dtype", "dtype"), {"fp8": "fp8", "nvfp4": "nvfp4", "fp16": "float16", "fp32": "float32"}.items()
)
def test_pools_have_the_format_that_is_asked_for(kv_dtype, dtype):
    by_dtype = kvcalc.fit("llama-3.1-8b", engine="tensorrt_llm", available_bytes="10GB", dtype=kv_dtype)
    by_setting = kvcalc.fit(
        "llama-3.1-8b", engine="tensorrt_llm", available_bytes="10GB", engine_settings={"dtype": dtype}
    )
    assert by_dtype.stages == by_setting.stages


def test_ranks_share_heads_and_hold_latents_whole():
    ranks = kvcalc.Parallel(tp=16)
    shared, latent = (
        kvcalc.size(kvcalc.load(name), tokens=64, engine="tensorrt_llm", parallel=ranks)
        for name in ("llama-3.1-8b", "r1")
    )
    assert {rank.bytes for rank in shared.per_rank} == {64 * LLAMA * 2 // 8}  # 8 heads among 16: one each
    assert {rank.bytes for rank in latent.per_rank} == {64 * 61 * 576 * 2}


def test_layers_that_are_alike_are_told_apart_by_their_windows():
    names = [group.name for group in size("llama-3.1-8b", 9, max_attention_window=THREE_WINDOWS).groups]
    assert names == ["all, window 1,024", "all, window 4,096", "all, no window"]


# Windows that share memory ------------------------------------------------------------------------------------------


def test_memory_is_shared_equally_between_windows():
    report = fit("gemma-3-27b", 2**35, max_attention_window=GEMMA_WINDOWS, max_tokens=64)
    by_name = {pool.name: pool for pool in report.stages[0]}
    assert by_name["window 1,024"].slots == 2**34 // (52 * 16 * 128 * 4 * 32)
    assert by_name["window 131,072"].slots == 2**34 // (10 * 16 * 128 * 4 * 32)


def test_windows_end_where_one_request_does_not_fit():
    """Llama 3.1 8B in 2 GiB: 4,096 bytes a token and layer.

    1,024 tokens of 32 layers take 134,217,728 bytes and the next 3,072 of 21 layers 264,241,152; of what is left 10
    layers hold 1,749,024,768 // 40,960 = 42,700 more.
    """
    report = fit("llama-3.1-8b", 2**31, max_attention_window=THREE_WINDOWS)
    assert [pool.name for pool in report.stages[0]] == ["window 1,024", "window 4,096", "window 46,796"]
    assert report.notes == (
        "memory does not hold one request of windows 1,024, 4,096, 131,072, which end at 1,024, 4,096, 46,796 tokens",
    )


def test_windows_that_end_alike_are_one_pool():
    """700 tokens of all 32 layers are the most that is asked for: one pool, of all of the memory."""
    report = fit("llama-3.1-8b", 180 * 2**20, max_attention_window=THREE_WINDOWS, max_tokens=700)
    (pool,) = report.stages[0]
    assert (pool.name, pool.layers, pool.slots) == ("window 700", 32, 180 * 2**20 // (LLAMA * 2 * 32))


@given(st.integers(2**27, 2**36), st.sampled_from([None, 100, 5000]))
def test_windows_never_end_later_with_less_memory(memory, most):
    settings = {"max_attention_window": THREE_WINDOWS, "max_tokens": most, "max_seq_len": 131_072}
    less, more = (fit("llama-3.1-8b", each, **settings) for each in (memory, 2 * memory))
    ends = [max(int(pool.name.split()[1].replace(",", "")) for pool in found.stages[0]) for found in (less, more)]
    assert ends[0] <= ends[1] <= 131_072
    for report in (less, more):
        assert sum(pool.layers for pool in report.stages[0]) == 32
        assert report.allocated_bytes[0] <= report.available_bytes[0]


def test_blocks_that_wait_in_the_memory_of_a_host_are_counted_beside_the_pools():
    """Llama 3.1 8B: 131,072 bytes a token, blocks of 32; 10 GiB of a host hold 2,560 of them."""
    asked = {"max_tokens": 3200, "host_cache_size": 10 * 2**30}
    report = fit("llama-3.1-8b", **asked)
    ((pool,),), ((host,),) = report.stages, report.host
    assert (pool.slots, host.slots, host.bytes) == (100, 2560, 10 * 2**30)
    assert report.allocated_bytes == (pool.bytes,)
    assert [row[0] for row in report.sheets()[0].rows] == ["0", "0 (host)"]
    assert report.to_dict()["host"][0][0]["slots"] == 2560
    windows = fit("gemma-3-27b", **asked, max_attention_window=GEMMA_WINDOWS).host[0]
    assert [pool.slots for pool in windows] == [5 * 2**30 // (layers * 16 * 128 * 4 * 32) for layers in (52, 10)]
    assert "host" not in fit("llama-3.1-8b").to_dict()


def test_weights_leave_a_share_of_the_memory():
    report = kvcalc.fit(kvcalc.load("llama-3.1-8b"), engine="tensorrt_llm", weights_bytes=16 * 10**9)
    assert report.available_bytes == (int((85_045_477_376 - 16 * 10**9) * 0.9),)


# Laws ---------------------------------------------------------------------------------------------------------------


@given(models(), tokens)
def test_it_takes_no_less_than_a_model_needs_and_never_less_for_a_token_more(model, t):
    """But for index keys in fp8. What it does not store it refuses."""
    takes_no_less(model, t, "tensorrt_llm", ("indexer",))


def test_nor_for_any_preset():
    presets = [kvcalc.load(name) for name in preset_names() if name not in NEEDS_ENCODER]
    stored = sum(takes_no_less(model, 8191, "tensorrt_llm", ("indexer",)) for model in presets)
    assert stored >= 94


@given(
    st.sampled_from(("llama-3.1-8b", "r1", "gpt-oss-20b", "deepseek-v3.2", "gemma-3-27b")), st.integers(2**33, 2**37)
)
def test_pools_fill_the_memory_and_no_more(name, available_bytes):
    try:
        report = fit(name, available_bytes)
    except kvcalc.NotApplicableError:
        assume(False)
    ((pool,),) = report.stages
    assert 0 <= available_bytes - pool.bytes < pool.bytes_per_slot
    assert report.tokens <= fit(name, available_bytes + 2**30).tokens


# What is refused ----------------------------------------------------------------------------------------------------

REFUSED = {
    "states": (
        kvcalc.NotApplicableError,
        lambda: size("jamba-1.5-mini", 1),
        "how TensorRT-LLM stores Mamba layers",
    ),
    "windows that stages cut": (
        kvcalc.NotApplicableError,
        lambda: kvcalc.size(
            kvcalc.load("gemma-3-27b"),
            tokens=1,
            engine="tensorrt_llm",
            engine_settings={"max_attention_window": GEMMA_WINDOWS},
            parallel=kvcalc.Parallel(pp=2),
        ),
        "several windows ([1024, 131072]), which pipeline stages split differently",
    ),
    "not one block": (kvcalc.NotApplicableError, lambda: fit("r1", 1000), "not even one block of the cache fits"),
    "int4": (kvcalc.NotApplicableError, lambda: size("r1", 1, "int4"), "TensorRT-LLM stores no cache in int4"),
    "token ranks": (
        kvcalc.NotApplicableError,
        lambda: kvcalc.fit(
            kvcalc.load("r1"), engine="tensorrt_llm", available_bytes=2**35, parallel=kvcalc.Parallel(tp=8, dcp=8)
        ),
        "TensorRT-LLM has no decode context parallelism of this kind (dcp 8)",
    ),
    "no memory": (
        kvcalc.InvalidValueError,
        lambda: kvcalc.fit(kvcalc.load("r1"), engine="tensorrt_llm"),
        "memory for the cache unknown",
    ),
    "a block size": (
        kvcalc.InvalidValueError,
        lambda: size("r1", 1, tokens_per_block=48),
        "tokens_per_block must be a power of two, not 48",
    ),
    "windows": (
        kvcalc.InvalidValueError,
        lambda: size("r1", 1, max_attention_window="wide"),
        "max_attention_window must be a list of whole numbers, not ['wide']",
    ),
}


@pytest.mark.parametrize(("error", "ask", "words"), REFUSED.values(), ids=REFUSED)
def test_what_it_cannot_do_is_refused_with_its_reason_and_bad_values_with_theirs(error, ask, words):
    with pytest.raises(error) as refusal:
        ask()
    assert words in str(refusal.value)
    assert refusal.value.help


def test_what_it_ignores_is_said():
    assert "regardless of the model's windows" in " ".join(size("gemma-3-27b", 1).notes)
