"""LMDeploy against its own planner, run without a GPU: blocks, bytes of a block and of a state, refusals; and laws.

`lmdeploy.jsonl.gz` are sizes and plans of LMDeploy 0.18.0; `lmdeploy_more.jsonl.gz` is what tools/measure_lmdeploy.py
made of 0.15 to 0.18 with transformers 5.19, the caches that operators ask for themselves among it. Models are the facts
of their config.json that decide their cache.
"""

from __future__ import annotations

import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from engine_laws import NEEDS_ENCODER, takes_no_less
from hypothesis import given
from hypothesis import strategies as st
from strategies import models, tokens

import kvcalc
from kvcalc.cache.dtypes import BF16
from kvcalc.engines import Engine
from kvcalc.engines.base.footprint import Footprint
from kvcalc.engines.lmdeploy.reserve import Reserve
from kvcalc.fleet.demand import plan_of
from kvcalc.io.presets import preset_names
from kvcalc.report.blocks import BlocksReport
from kvcalc.report.sheet import Line

DATA = Path(__file__).parents[1] / "data"
LLAMA = 32 * 8 * 128 * 2  # layers, KV heads, head_dim, K and V: elements of a token of Llama 3.1 8B
IN_FEWER_BYTES = ("indexer", "CSA", "HCA", "shared K=V", "Gated DeltaNet", "GQA", "MQA", "MHA")
"""Layers that it may store in fewer bytes than the model: in fp8, states in bf16, and windows of all layers alike."""
LOST = {"google__gemma-3-1b-it": {"block_size": 64, "quant_policy": 8}}
"""Rows that were planned with kernel_block_size 16, which they do not say: 905,216 bytes are right with it."""


def size(name: str, t: int, kv_dtype: str = "bf16", *, tp: int = 1, **settings):
    ranks = kvcalc.Parallel(tp=tp)
    model = kvcalc.load(name)
    return kvcalc.size(model, tokens=t, kv_dtype=kv_dtype, engine="lmdeploy", parallel=ranks, engine_settings=settings)


def fit(name: str, available_bytes: int = 40 * 2**30, *, tp: int = 1, **settings) -> BlocksReport:
    report = kvcalc.fit(
        kvcalc.load(name),
        engine="lmdeploy",
        available_bytes=available_bytes,
        parallel=kvcalc.Parallel(tp=tp),
        engine_settings=settings,
    )
    assert isinstance(report, BlocksReport)
    return report


# Rows ---------------------------------------------------------------------------------------------------------------


def read(name: str) -> list[dict[str, Any]]:
    with gzip.open(DATA / name, "rt") as lines:
        return [json.loads(line) for line in lines]


@cache
def facts() -> dict[str, dict[str, Any]]:
    return {entry["name"]: entry["config"] for entry in read("lmdeploy_facts.jsonl.gz")}


@cache
def model_of(name: str, mtp: bool = False) -> kvcalc.Model:
    return kvcalc.load(facts()[name], mtp=mtp)


def asked(row: dict[str, Any]) -> kvcalc.SizeReport | BlocksReport:
    question = {**row["question"], "parallel": kvcalc.Parallel(**row["question"]["parallel"])}
    ask = kvcalc.size if row["call"] == "size" else kvcalc.fit
    return ask(model_of(row["model"], row.get("mtp", False)), **question)


def is_lost(row: dict[str, Any]) -> bool:
    return LOST.get(row["model"], {}).items() <= row["question"]["engine_settings"].items() and row["model"] in LOST


ROWS = read("lmdeploy.jsonl.gz")
MORE = read("lmdeploy_more.jsonl.gz")


@pytest.mark.parametrize("row", [row for row in ROWS if not is_lost(row)], ids=lambda row: row["name"])
def test_sizes_and_blocks_are_those_of_lmdeploy(row):
    ((field, wanted),) = row["want"].items()
    assert getattr(asked(row), field) == wanted


def test_the_rows_that_lost_a_setting_are_right_with_it():
    lost = [row for row in ROWS if is_lost(row)]
    assert len(lost) == 2
    for row in lost:
        ((field, wanted),) = row["want"].items()
        assert getattr(asked(row), field) != wanted
        settings = {**row["question"]["engine_settings"], "kernel_block_size": 16}
        assert getattr(asked({**row, "question": {**row["question"], "engine_settings": settings}}), field) == wanted


@pytest.mark.parametrize("row", [row for row in MORE if "refused" not in row], ids=lambda row: row["name"])
def test_plans_are_those_of_lmdeploy_in_all_that_it_says(row):
    report = asked(row)
    assert isinstance(report, BlocksReport)
    resolved, states = dict(report.resolved), report.stages[0][1:]
    assert (report.num_blocks, report.bytes_per_block) == (row["num_blocks"], (row["block_bytes"],))
    assert report.block_size == row["block_size"]
    assert sum(pool.slots + pool.spare_slots for pool in states) == row["state_slots"]
    assert sum(pool.bytes_per_slot for pool in states) == row["state_slot_bytes"]
    assert resolved["max_prefill_token_num"] == row["max_prefill_token_num"]
    assert resolved["vocab_size"] == row["vocab_size"]
    assert f"window_size={row['window_size']}," in report.log_line
    model, ranks = model_of(row["model"], row["mtp"]), kvcalc.Parallel(**row["question"]["parallel"])
    assert report.max_model_len == min(model.published.longest_tokens, row["max_session_len"])
    one = kvcalc.size(
        model,
        tokens=1,
        engine=row["question"]["engine"],
        parallel=ranks,
        engine_settings=row["question"]["engine_settings"],
    )
    assert one.most_rank_bytes == row["block_bytes"] + row["state_slot_bytes"]


@pytest.mark.parametrize("row", [row for row in MORE if "refused" in row], ids=lambda row: row["name"])
def test_what_lmdeploy_refuses_is_refused(row):
    """In its words, where these are the newest's."""
    with pytest.raises(kvcalc.KvcalcError) as refusal:
        asked(row)
    if row["refused"] != "AssertionError" and row["question"]["engine"] == "lmdeploy@0.18.0":
        assert row["refused"] in str(refusal.value)


# Sizes worked out by hand -------------------------------------------------------------------------------------------

SIZES = {
    "blocks of 64": (("llama-3.1-8b", 65), {}, 128 * LLAMA * 2),
    "as the command line calls them": (("llama-3.1-8b", 65), {"cache_block_seq_len": 32}, 96 * LLAMA * 2),
    "int8": (("llama-3.1-8b", 64), {"quant_policy": 8}, 64 * 32 * 8 * 2 * (128 + 4)),
    "int4": (("llama-3.1-8b", 64), {"quant_policy": 4}, 64 * 32 * 8 * 2 * (64 + 4)),
    "fp8 without scales": (("llama-3.1-8b", 64), {"quant_policy": 17}, 64 * LLAMA),
    "TurboQuant": (("llama-3.1-8b", 64), {"quant_policy": 42}, 64 * 32 * 8 * (64 + 4 + 32 + 2)),
    "the latent as one key": (("r1", 1), {}, 64 * 61 * 576 * 2),
    "its value of no width has scales": (("r1", 1), {"quant_policy": 8}, 64 * 61 * (576 + 4 + 4)),
    "without FlashMLA in blocks of 32": (("r1", 1), {"use_flash_mla": False}, 32 * 61 * 576 * 2),
    "as on an A100": (("r1", 1), {"gpu": "a100-80gb"}, 32 * 61 * 576 * 2),
    "a sparse latent": (("deepseek-v3.2", 1), {}, 64 * 61 * (576 * 2 + 132)),
    "in fp8": (("deepseek-v3.2", 1), {"quant_policy": 16}, 64 * 61 * (656 + 132)),
    "an expanded latent": (("minicpm3-4b", 1), {}, 64 * 62 * 40 * 96 * 2 * 2),
    # 8192 x 4 and 32 x 128 x 128 in bf16 of 36 layers; 12 layers of 2 heads of 256
    "a state": (
        ("qwen3-next-80b-a3b", 1),
        {},
        36 * (8192 * 4 + 32 * 128 * 128) * 2 + 64 * 12 * 2 * 256 * 2 * 2,
    ),
    # 43 windows of 128; 21 CSA of 64 entries, index keys, and 16 rows of two; 20 HCA of 2 entries and 256 rows
    "DeepSeek-V4": (
        ("deepseek-v4-flash", 1),
        {},
        43 * 128 * 584 + 21 * (64 * (584 + 132) + 16 * 2 * (512 + 128) * 4) + 20 * (2 * 584 + 256 * 512 * 4),
    ),
    # Llama's config has no window; Mistral's first has one of 4,096 in all layers: 64 blocks and one more
    "a window": (("mistral-7b-v0.1", 9000), {}, 65 * 64 * LLAMA * 2),
    "TurboMind pads nothing": (
        ("qwen2.5-7b", 16),
        {"backend": "turbomind", "block_size": 16, "quant_policy": 8},
        16 * 28 * 4 * 2 * (128 + 4),
    ),
    "TurboMind's latent is K and V": (
        ("glm-4.7-flash", 64),
        {"backend": "turbomind", "quant_policy": 4},
        64 * 47 * (576 // 2 + 4),
    ),
}


@pytest.mark.parametrize(("asked", "settings", "wanted"), SIZES.values(), ids=SIZES)
def test_sizes_are_those_worked_out_by_hand(asked, settings, wanted):
    assert size(*asked, **settings).total_bytes == wanted


def test_entries_of_deepseek_v4_were_padded_before_0_18():
    """Two entries of 584 bytes fill 1,280 in a block of each of 20 layers."""
    model = kvcalc.load("deepseek-v4-flash")
    new, old = (kvcalc.size(model, tokens=1, engine=f"lmdeploy@{version}").total_bytes for version in ("0.18", "0.17"))
    assert old - new == 20 * (1280 - 2 * 584)


@pytest.mark.parametrize(
    ("kernel", "policy", "padding"),
    [(16, 8, 2 * (256 - 64) // 16), (32, 8, 2 * (256 - 128) // 32), (64, 8, 0), (16, 0, 0)],
)
def test_each_tensor_of_what_a_kernel_reads_is_padded_to_256_bytes(kernel, policy, padding):
    """Llama 3.1 8B on 8 ranks: one head of 128; K and V fill 256 bytes, their scales do not."""
    settings = {"block_size": 64, "kernel_block_size": kernel, "quant_policy": policy}
    token_bytes = 2 * (128 + 4) if policy else 2 * 256
    report = size("llama-3.1-8b", 64, tp=8, **settings)
    assert report.most_rank_bytes == 64 * 32 * (token_bytes + padding)


def test_padding_that_ranks_alone_have_is_told(cli):
    """A whole model's scales fill 256 bytes, those of one head on each of 8 ranks do not."""
    line = "size --preset llama-3.1-8b --tokens 8K --engine lmdeploy --tp 8 --engine-set block_size=16"
    shown = cli(f"{line} --engine-set quant_policy=8").stdout
    assert "more of k_scales_padding, v_scales_padding" in " ".join(shown.split())


def test_kv_dtype_asks_for_what_a_setting_would():
    for kv_dtype, policy in (("int4", 4), ("int8", 8), ("fp8", 16)):
        by_dtype = size("llama-3.1-8b", 64, kv_dtype)
        assert by_dtype.total_bytes == size("llama-3.1-8b", 64, quant_policy=policy).total_bytes
    assert size("llama-3.1-8b", 64, "fp16").total_bytes == size("llama-3.1-8b", 64).total_bytes


def test_ranks_share_heads_and_hold_latents_whole():
    shared, latent = (size(name, 64, tp=16) for name in ("llama-3.1-8b", "r1"))
    assert {rank.bytes for rank in shared.per_rank} == {64 * LLAMA * 2 // 8}  # 8 heads among 16: one each
    assert {rank.bytes for rank in latent.per_rank} == {64 * 61 * 576 * 2}


# What fits ----------------------------------------------------------------------------------------------------------


def test_logits_come_off_the_memory_before_a_share_of_it_becomes_blocks():
    """(8192 + 2 x 1024) x 128,256 x 2 bytes of logits, and int(0.8 x the rest) // 8,388,608."""
    report = fit("llama-3.1-8b", 40 * 2**30)
    assert report.reserved_bytes == (8192 + 2 * 1024) * 128_256 * 2
    assert report.num_blocks == int((40 * 2**30 - report.reserved_bytes) * 0.8) // (64 * LLAMA * 2)
    assert report.tokens == (report.num_blocks - 1) * 64
    assert report.max_concurrency == (report.num_blocks - 1) / (131_072 / 64)
    assert report.max_requests == 1024


def test_states_come_first_a_slot_for_each_sequence_and_two_more():
    report = fit("qwen3.5-27b", 60 * 2**30, max_batch_size=100, prefix_cache_state_budget=5)
    blocks, states = report.stages[0]
    assert (states.slots, states.spare_slots, states.bytes_per_slot) == (100, 7, 79_429_632)
    left = 60 * 2**30 - 107 * 79_429_632 - report.reserved_bytes
    assert blocks.slots + blocks.spare_slots == report.num_blocks == int(left * 0.8) // blocks.bytes_per_slot
    assert report.allocated_bytes == (states.bytes + blocks.bytes,)


def test_sequences_at_a_time_are_those_of_the_gpu():
    by_gpu = {gpu: fit("llama-3.1-8b", gpu=gpu).max_requests for gpu in ("h100", "h200", "a100-80gb", "b200", "l4")}
    assert by_gpu == {"h100": 1024, "h200": 1024, "a100-80gb": 384, "b200": 128, "l4": 128}


def test_an_iteration_is_halved_where_logits_leave_fewer_than_16_blocks():
    """Gemma 3 27B: 6 GB hold 68 blocks beside the logits of 4,096 tokens, 7 GB only 40 beside those of 8,192."""
    found = [fit("gemma-3-27b", gigabytes * 10**9) for gigabytes in (6, 7)]
    assert [report.num_blocks for report in found] == [68, 40]
    assert [dict(report.resolved)["max_prefill_token_num"] for report in found] == [4096, 8192]


def test_a_session_is_no_longer_than_memory_but_for_a_block():
    report = fit("llama-3.1-8b", 4 * 2**30)
    assert report.max_model_len == (report.num_blocks - 2) * 64
    assert fit("llama-3.1-8b", session_len=4096).max_model_len == 4096
    windowed = fit("mistral-7b-v0.1", 4 * 2**30)
    assert windowed.max_model_len == 32_768
    assert windowed.request_blocks == 4096 // 64 + 1


def test_a_report_speaks_as_the_log_does():
    report = fit("llama-3.1-8b", 2**35, tp=2, session_len=4096)
    head = f"CacheConfig(max_batches=1024, block_size=64, num_cpu_blocks=0, num_gpu_blocks={report.num_blocks}, "
    assert report.log_line.startswith(head)
    data = report.to_dict()
    assert data["log_lines"] == [report.log_line]
    assert data["stages"][0][0]["bytes"] == report.allocated_bytes[0] == data["allocated_bytes"][0]
    (sheet,) = report.sheets()
    assert sheet.title == "llama-3.1-8b in lmdeploy 0.18.0 on h100-80gb, TP 2"
    assert sheet.rows[0][:4] == ("32 blocks", "block of 64", report.num_blocks - 1, 1)
    assert sheet.lines[0] == Line("total", f"{report.tokens:,} tokens", "answer")


RESERVES = st.builds(
    Reserve,
    block_bytes=st.integers(1, 2**24),
    states_bytes=st.integers(0, 2**34),
    scores_bytes=st.sampled_from([0, 2**29]),
    vocab_size=st.integers(1, 300_000),
    batches=st.integers(1, 1024),
    prefill_tokens=st.sampled_from([0, 1, 7, 1024, 8192]),
    share=st.floats(0.01, 0.99),
    num_blocks=st.just(0),
)


@given(RESERVES, st.integers(3, 10**6))
def test_the_least_memory_holds_its_blocks_and_a_byte_less_does_not(reserve, blocks):
    """But where a byte less makes LMDeploy halve an iteration, which may hold more."""
    least = reserve.least_bytes(blocks)
    found = reserve.found(least)
    assert found.num_blocks >= blocks
    try:
        fewer = reserve.found(least - 1)
    except kvcalc.NotApplicableError:
        return
    assert fewer.num_blocks < blocks or fewer.prefill_tokens < found.prefill_tokens


@given(RESERVES, st.integers(0, 2**37), st.integers(1, 10**5))
def test_what_fits_needs_no_more_than_there_is(reserve, memory, blocks):
    try:
        found = reserve.found(memory)
    except kvcalc.NotApplicableError:
        return
    assert (found.num_blocks >= blocks) <= (reserve.least_bytes(blocks) <= memory)
    assert found.reserved_bytes + reserve.states_bytes + found.num_blocks * reserve.block_bytes <= memory


@given(
    st.sampled_from(["llama-3.1-8b", "gemma-2-9b", "qwen3.5-27b", "r1", "deepseek-v4-flash"]),
    st.integers(1, 1100),
    st.integers(1, 8192),
    st.integers(2**30, 2**38),
)
def test_a_plan_answers_alike_from_every_side(name, users, context, memory):
    plan = plan_of(kvcalc.load(name), Engine.of("lmdeploy"), BF16, kvcalc.Parallel())
    longest, most = plan.max_tokens(users, memory), plan.max_sequences(context, memory)
    fits = plan.fits(context, users, memory)
    assert fits == (users <= most) == (context <= longest)
    assert not fits or plan.needed(context, users)[0] <= memory
    assert most <= 1024
    if longest and longest < (plan.max_model_len or 0):
        assert not plan.fits(longest + 1, users, memory)


@given(st.sampled_from(["llama-3.1-8b", "gpt-oss-20b", "gemma-3-27b", "r1"]), st.integers(0, 2**36))
def test_what_fits_is_exact(name, budget):
    footprint = Footprint.of(kvcalc.load(name), Engine.of("lmdeploy"), BF16)
    most = footprint.max_tokens(budget)
    assert most is not None
    assert footprint.bytes(most) <= budget or most == 0
    assert footprint.bytes(most + 1) > budget


# Laws ---------------------------------------------------------------------------------------------------------------


@given(models(), tokens)
def test_it_takes_no_less_than_a_model_needs_and_never_less_for_a_token_more(model, t):
    """But where it stores less of a token, or windows of all layers alike. What it does not store it refuses."""
    windowed = any("sliding_window" in group.facts for group in model.groups)  # one block table ends for all layers
    takes_no_less(model, t, "lmdeploy", (*IN_FEWER_BYTES, "MLA") if windowed else IN_FEWER_BYTES)


def test_nor_for_any_preset():
    presets = [kvcalc.load(name) for name in preset_names() if name not in NEEDS_ENCODER]
    assert sum(takes_no_less(model, 8191, "lmdeploy", IN_FEWER_BYTES) for model in presets) >= 88


# What is refused ----------------------------------------------------------------------------------------------------

REFUSED = {
    "a type that it has no class for": (
        lambda: size("olmo-2-7b", 1),
        "LMDeploy 0.18.0 has no class for models of type olmo2, as olmo-2-7b is",
    ),
    "a type that came later": (
        lambda: kvcalc.size(kvcalc.load("kimi-k2.5"), tokens=1, engine="lmdeploy@0.16"),
        "LMDeploy 0.16.0 has no class for models of type kimi_k2, as kimi-k2.5 is",
    ),
    "sparse latents as they were": (
        lambda: kvcalc.size(kvcalc.load("deepseek-v3.2"), tokens=1, engine="lmdeploy@0.16"),
        "how LMDeploy 0.16.0 stores sparse latents and DeepSeek-V4",
    ),
    "drafts that one rank holds": (
        lambda: kvcalc.size(kvcalc.load("glm-4.5", mtp=True), tokens=1, engine="lmdeploy@0.17"),
        "in LMDeploy 0.17.0 one rank holds all heads of the draft layers of glm-4.5",
    ),
    "a GPU of another maker": (
        lambda: size("llama-3.1-8b", 1, gpu="mi300x"),
        "mi300x is not an NVIDIA GPU; kvcalc models LMDeploy's NVIDIA kernels only",
    ),
    "nor TurboMind": (
        lambda: size("r1", 1, backend="turbomind"),
        "TurboMind 0.18.0 has no class for models of type deepseek_",
    ),
    "a format of GGUF": (lambda: size("llama-3.1-8b", 1, "q8_0"), "LMDeploy stores no cache in q8_0"),
    "float32": (lambda: size("llama-3.1-8b", 1, "fp32"), "LMDeploy stores no cache in fp32"),
    "fp8 in TurboMind": (
        lambda: size("llama-3.1-8b", 1, backend="turbomind", quant_policy=16),
        "invalid quant_policy for TurboMind: 16",
    ),
    "blocks of TurboMind": (
        lambda: fit("llama-3.1-8b", backend="turbomind"),
        "how many blocks TurboMind's allocator creates",
    ),
    "a sparse latent in int8": (
        lambda: size("deepseek-v3.2", 1, quant_policy=8),
        "Sparse MLA does not support quant_policy=8. Use none/0 for BF16 or fp8/16 for FP8.",
    ),
    "a sparse latent without FlashMLA": (
        lambda: size("deepseek-v3.2", 1, gpu="a100-80gb"),
        "DeepSeek-V3.2 requires flash_mla to be available.",
    ),
    "FlashMLA in blocks of 32": (
        lambda: size("r1", 1, block_size=32),
        "Please set block_size to 64 for flash_mla.",
    ),
    "an index in smaller pieces": (
        lambda: size("deepseek-v3.2", 1, kernel_block_size=32),
        "DSA indexer cache requires equal logical and kernel block sizes, got 64 and 32.",
    ),
    "what a method left": (
        lambda: kvcalc.size(
            kvcalc.apply_method(kvcalc.load("llama-3.1-8b"), "streaming-llm"), tokens=9, engine="lmdeploy"
        ),
        "LMDeploy does not support the method: with it, all layers of llama-3.1-8b with StreamingLLM keep other tensors than their own",
    ),
    "stages": (
        lambda: kvcalc.fit(
            kvcalc.load("llama-3.1-8b"), engine="lmdeploy", available_bytes=2**35, parallel=kvcalc.Parallel(pp=2)
        ),
        "LMDeploy's PyTorch engine does not support this layout (pp 2)",
    ),
    "no room for states": (
        lambda: fit("qwen3.5-27b", 2**34),
        "No enough gpu memory for state cache. Please reduce max_batch_size.",
    ),
    "no room for blocks": (lambda: fit("llama-3.1-8b", 2**30), "No enough gpu memory for kv cache."),
    "no room for an iteration": (
        lambda: fit("llama-3.1-8b", 100 * 2**20, max_prefill_token_num=4, max_batch_size=1),
        "No enough gpu memory for runtime.",
    ),
    "a request longer than a session": (
        lambda: plan_of(
            kvcalc.load("llama-3.1-8b"), Engine.of("lmdeploy", {"session_len": 100}), BF16, kvcalc.Parallel()
        ).needed(101, 1),
        "a request of 101 tokens exceeds session_len (100)",
    ),
}
BAD_VALUES = {
    "a policy": (lambda: size("r1", 1, quant_policy=2), "quant_policy must be one of 0, 8, 4, 16, 17, 42, not 2"),
    "a backend": (lambda: size("r1", 1, backend="triton"), "backend must be one of pytorch, turbomind, not 'triton'"),
    "a number of blocks for a share": (
        lambda: size("r1", 1, cache_max_entry_count=1),
        "cache_max_entry_count must be above 0 and below 1, not 1",
    ),
    "a block that is no power of two": (
        lambda: size("r1", 1, block_size=48),
        "kernel_block_size must be >= 16 and a power of 2, but got 48",
    ),
    "a block that its pieces do not fill": (
        lambda: size("r1", 1, block_size=64, kernel_block_size=128),
        "but got block_size 64 and kernel_block_size 128",
    ),
    "hardly any blocks": (
        lambda: size("r1", 1, num_gpu_blocks=8),
        "num_gpu_blocks should be greater than 16, but got 8",
    ),
    "no vocabulary": (
        lambda: fit("yi-34b"),
        "the vocabulary size of yi-34b is unknown",
    ),
}
ALL_REFUSED = {
    **{what: (kvcalc.NotApplicableError, *case) for what, case in REFUSED.items()},
    **{what: (kvcalc.InvalidValueError, *case) for what, case in BAD_VALUES.items()},
}


@pytest.mark.parametrize(("error", "ask", "words"), ALL_REFUSED.values(), ids=ALL_REFUSED)
def test_what_it_cannot_do_is_refused_with_its_reason_and_bad_values_with_theirs(error, ask, words):
    with pytest.raises(error) as refusal:
        ask()
    assert words in str(refusal.value)
    assert refusal.value.help


def test_what_becomes_of_windows_is_said():
    assert "regardless of its window" in " ".join(size("gemma-3-27b", 1).notes)
    assert "keeps only the last 4,096 tokens, even in full-attention layers" in " ".join(size("gemma-2-9b", 1).notes)
    for name in ("llama-3.1-8b", "deepseek-v4-flash"):  # whose windows are rings among its states
        assert not any("block table" in note for note in size(name, 1).notes)


def test_whose_numbers_they_are_is_said():
    """LMDeploy's command takes TurboMind for what that has, unless told."""
    ours = "these numbers are for LMDeploy's PyTorch engine (--backend pytorch); by default it serves this model with TurboMind"
    assert size("llama-3.1-8b", 1).notes == fit("llama-3.1-8b").notes == (ours,)
    assert size("llama-3.1-8b", 1, backend="turbomind").notes == ()
    assert size("r1", 1).notes == ()
