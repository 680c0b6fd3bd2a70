"""The engine sglang against SGLang 0.5.23's own pools: 208 start-ups of 52 models on 4 GPUs, planned without a GPU.

Each line of the data is a start-up: a model, the memory for the cache, settings, and what SGLang's own code made of them
(the facts of each model's config.json that decide its cache stand beside them), and 21 more hold its mem_fraction_static.
Besides: sizes worked out by hand, and what is refused.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import kvcalc
from kvcalc.attention.compressed import CompressedAttention
from kvcalc.attention.gqa import GroupedQueryAttention
from kvcalc.attention.mla import MultiHeadLatentAttention
from kvcalc.attention.none import NoCache
from kvcalc.engines import Engine
from kvcalc.engines.sglang.types import SELF_DRAFTING, UNCOUNTED_DRAFTS
from kvcalc.model import LayerGroup, Model, Published, Vision
from kvcalc.report.sheet import Line

DATA = Path(__file__).parents[1] / "data"


def lines(name: str) -> list[dict[str, Any]]:
    with gzip.open(DATA / f"{name}.jsonl.gz", "rt") as text:
        return [json.loads(line) for line in text]


def size(name: str, t: int, sequences: int = 1, kv_dtype: str = "bf16", **settings):
    model = kvcalc.load(name)
    return kvcalc.size(
        model, tokens=t, sequences=sequences, kv_dtype=kv_dtype, engine="sglang", engine_settings=settings
    )


def fit(
    name: str | Model,
    available_bytes: object = 40 * 2**30,
    *,
    tp: int = 1,
    pp: int = 1,
    dp: int = 1,
    **settings,
):
    model = kvcalc.load(name) if isinstance(name, str) else name
    ranks = kvcalc.Parallel(tp=tp, pp=pp, dp=dp)
    return kvcalc.fit(model, engine="sglang", available_bytes=available_bytes, parallel=ranks, engine_settings=settings)


def pool(report, name: str, stage: int = 0):
    return next(each for each in report.stages[stage] if each.name == name)


# Start-ups ------------------------------------------------------------------------------------------------------------

NOT_ASKED = ("mamba_radix_cache_strategy", "disable_overlap_schedule")
"""Arguments of a start-up that its question leaves out."""


@cache
def configs() -> dict[str, dict[str, Any]]:
    return {entry["name"]: entry["config"] for entry in lines("sglang_facts")}


def asked(row: dict[str, Any]) -> kvcalc.PoolReport:
    """The row's question. A config that names no draft layer is asked with SGLang's own words for drafts."""
    model, question = kvcalc.load(configs()[row["model"]]), dict(row["question"])
    settings = question["engine_settings"] | {
        name: value for name, value in row["server_args"].items() if name in NOT_ASKED
    }
    if row["mtp"]:
        settings["speculative_algorithm"] = "EAGLE"
    question |= {"parallel": kvcalc.Parallel(**question["parallel"]), "engine_settings": settings}
    return kvcalc.fit(model, **question)


def found(report: kvcalc.PoolReport, field: str, stage: int) -> object:
    if field in ("kv_bytes", "state_bytes"):
        return sum(each.bytes for each in report.stages[stage] if (each.name == "states") == (field == "state_bytes"))
    return dict(report.resolved)[field] if field == "page_size" else getattr(report, field)


def test_every_start_up_is_sglangs_own():
    """Tokens, pages, bytes of tokens and of states, and requests at a time, of 208 start-ups."""
    rows = lines("sglang")
    assert len(rows) == 208
    wrong = [
        (row["name"], row["question"], row["want"])
        for row in rows
        if {field: found(asked(row), field, row["stage"]) for field in row["want"]} != row["want"]
    ]
    assert wrong == []


NOT_PLANNED = (
    *(
        "does not give the number of draft layers",
        "has no draft layers",
        "does not give the width of its vision tower",
    ),
    "is not a multiple of tp",
)
"""Why kvcalc refuses what SGLang plans: its classes make up what a config leaves out, and it never asks query heads."""
RANKS = ("tp_size", "pp_size", "dp_size", "enable_dp_attention")


def planned(row: dict[str, Any]) -> dict[str, object]:
    """What kvcalc says of a row of tools/measure_sglang.py. Raises what it refuses."""
    arguments, stage = row["args"], row["stage"]
    tp, pp, dp = (arguments.get(name, 1) for name in RANKS[:3])
    model, ranks = kvcalc.load(row["config"]), kvcalc.Parallel(tp=tp // dp, pp=pp, dp=dp)
    settings = {name: value for name, value in arguments.items() if name not in RANKS} | {"gpu": row["gpu"]}
    available = [10**16] * pp
    available[stage] = row.get("want", {}).get("available_bytes", 2**36)
    engine = Engine.of("sglang", settings)
    share = engine.settled(model, ranks).mem_fraction_static
    report = kvcalc.fit(model, engine="sglang", available_bytes=available, parallel=ranks, engine_settings=settings)
    own = [each for each in report.stages[stage] if not each.name.startswith("drafts")]
    return {
        "tokens": report.tokens,
        "page_size": dict(report.resolved)["page_size"],
        **({} if pp > 1 else {"max_requests": report.max_requests}),
        "kv_bytes": sum(each.bytes for each in own if each.name != "states"),
        "state_bytes": sum(each.bytes for each in own if each.name == "states"),
        "mem_fraction_static": share,
    }


def test_what_was_measured_since_is_planned_alike():
    """87 start-ups with drafts, stages, strategies of states and every kind of kernel, on H100 and B200."""
    rows, refused = lines("sglang_measured"), []
    assert len(rows) == 87
    for row in rows:
        try:
            found_ = planned(row)
        except kvcalc.KvcalcError as error:
            refused.append((str(error), "refused" in row))
            continue
        assert found_ == {name: row["want"][name] for name in found_}, (row["name"], row["args"])
    named = [words for words, alike in refused if not alike]
    assert all(any(why in words for why in NOT_PLANNED) for words in named)
    assert (len(named), len(refused)) == (7, 9)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("page_size", 2),
        ("max_running_requests", 3),
        ("swa_full_tokens_ratio", 0.3),
        ("mamba_full_memory_ratio", 0.3),
        ("context_length", 1000),
        ("gpu", "b200"),
    ],
)
def test_start_ups_tell_other_settings_apart(setting, value):
    changed = [row | {"question": {**row["question"]}} for row in lines("sglang")]
    for row in changed:
        row["question"]["engine_settings"] = row["question"]["engine_settings"] | {setting: value}
    assert any(
        {field: found(asked(row), field, row["stage"]) for field in row["want"]} != row["want"] for row in changed[:60]
    )


GPUS = {
    **{"H100": "h100-80gb", "H200": "h200", "A100-80": "a100-80gb", "A100-40": "a100-40gb", "4090": "rtx-4090"},
    **{"L40S": "l40s", "L4": "l4", "T4": "t4", "B200": "b200", "5090": "rtx-5090", "RTX": "rtx-pro-6000"},
}
TOWERS = {
    "Qwen__Qwen2.5-VL-7B-Instruct.json": Vision(None, 3584),
    "Qwen__Qwen3-VL-32B-Instruct.json": Vision(None, 1152),
}
"""Vision towers as SGLang read them in those runs: it looks for num_hidden_layers, which they call depth."""


def fraction(row: dict[str, Any]) -> float:
    arguments = row["args"]
    dp = arguments.get("dp_size", 1)
    model = kvcalc.load("deepseek-v3.2" if row["mla"] else "llama-3.1-8b")
    if tower := TOWERS.get(row["config"]):
        model = replace(model, published=Published(model_type="vision", vision=tower))
    settings = {name: value for name, value in arguments.items() if name in Engine.of("sglang").setting_names()}
    engine = Engine.of("sglang", {"gpu": GPUS[row["name"].split()[0]], **settings})
    ranks = kvcalc.Parallel(tp=arguments.get("tp_size", 1) // dp, dp=dp)
    return engine.settled(model, ranks).mem_fraction_static


def test_every_share_of_memory_is_sglangs_own():
    rows = lines("sglang_mem_fraction")
    assert len(rows) == 21
    assert [fraction(row) for row in rows] == [row["mem_fraction_static"] for row in rows]


def test_a_share_that_is_given_stays():
    engine = Engine.of("sglang", {"mem_fraction_static": 0.5})
    assert engine.settled(kvcalc.load("r1"), kvcalc.Parallel()) is engine


# Sizes worked out by hand ---------------------------------------------------------------------------------------------

LLAMA = 32 * 8 * 128 * 2  # layers, KV heads, head_dim, K and V: elements of a token of Llama 3.1 8B
SIZES = {
    "pages of 1": (("llama-3.1-8b", 1001), {}, 1001 * LLAMA * 2),
    "pages of 64": (("llama-3.1-8b", 1001), {"page_size": 64}, 1024 * LLAMA * 2),
    "FlashMLA insists on 64": (("r1", 65), {"attention_backend": "flashmla"}, 128 * 61 * 576 * 2),
    "trtllm_mha takes 16": (
        ("llama-3.1-8b", 17),
        {"attention_backend": "trtllm_mha", "page_size": 16},
        32 * LLAMA * 2,
    ),
    "fp8": (("llama-3.1-8b", 1000), {"kv_cache_dtype": "fp8_e5m2"}, 1000 * LLAMA),
    "mxfp8": (("llama-3.1-8b", 1000), {"kv_cache_dtype": "mxfp8"}, 1000 * LLAMA * 33 // 32),
    "nvfp4": (("llama-3.1-8b", 1000), {"kv_cache_dtype": "nvfp4"}, 1000 * LLAMA * 9 // 16),
    # 512 fp8 + 4 float32 + 64 bf16 = 656 a layer, and 128 + 4 of the indexer; pages of 64
    "a sparse latent in fp8": (
        ("deepseek-v3.2", 100),
        {"kv_cache_dtype": "fp8_e4m3"},
        128 * 61 * (656 + 132),
    ),
    "the same without scales": (
        ("deepseek-v3.2", 100),
        {"kv_cache_dtype": "fp8_e4m3", "dsa_decode_backend": "trtllm"},
        128 * 61 * (576 + 132),
    ),
    "on Blackwell by itself": (("deepseek-v3.2", 100), {"gpu": "b200"}, 128 * 61 * (576 + 132)),
    # 12 sliding layers hold 127 + 128 + 2 tokens, 12 full ones all: 8 heads of 64
    "a sliding pool of its own": (("gpt-oss-20b", 5000), {}, (257 + 5000) * 12 * 8 * 64 * 2 * 2),
    "none for Gemma 3": (("gemma-3-27b", 5000), {}, 5000 * 62 * 16 * 128 * 2 * 2),
    "or where it is not wanted": (
        ("gpt-oss-20b", 5000),
        {"disable_hybrid_swa_memory": True},
        5000 * 24 * 8 * 64 * 2 * 2,
    ),
    # model_executor/pool_configurator.py multiplies by num_hidden_layers: 35, of which 15 read others' caches, and 80
    "rows of layers that share": (("gemma-3n-e4b", 1000), {}, 1000 * 35 * 2 * 256 * 2 * 2),
    "rows of layers without attention": (
        ("llama-3.3-nemotron-super-49b", 1000),
        {},
        1000 * 80 * 8 * 128 * 2 * 2,
    ),
    # 36 layers: 8192 x 3 in bf16 and 32 x 128 x 128 in float32, five of each; 12 layers of 2 heads of 256
    "states of a request": (
        ("qwen3-next-80b-a3b", 100),
        {},
        5 * 36 * (8192 * 3 * 2 + 32 * 128 * 128 * 4) + 100 * 12 * 2 * 256 * 2 * 2,
    ),
    "one without prefixes": (
        ("qwen3-next-80b-a3b", 100),
        {"disable_radix_cache": True, "mamba_ssm_dtype": "bfloat16"},
        36 * (8192 * 3 * 2 + 32 * 128 * 128 * 2) + 100 * 12 * 2 * 256 * 2 * 2,
    ),
    # 3 pages of the window in 43 layers; 20 of 64 entries and keys, and 3 x 8 rows; 20 of 2 entries, and 128 rows
    "DeepSeek-V4": (
        ("deepseek-v4-flash", 5000),
        {},
        43 * 3 * 149_760
        + 21 * (20 * (37_440 + 64 * 132) + 3 * 8 * 2 * 2 * (512 + 128) * 4)
        + 20 * (20 * 1728 + 128 * 2 * 512 * 4),
    ),
    "the same on Blackwell": (
        ("deepseek-v4-flash", 5000),
        {"gpu": "b200"},
        43 * 3 * 149_760
        + 21 * (20 * (37_440 + 64 * 132) + 3 * 8 * 2 * 2 * (512 + 128) * 4)
        + 20 * (20 * 1728 + 128 * 2 * 512 * 4),
    ),
    # with drafts twice as many rows, and the intermediate states of the four tokens that are verified: inputs of a
    # convolution once, 3 + 4 - 1 of them
    "states of drafted tokens": (
        ("qwen3-next-80b-a3b", 100),
        {"speculative_algorithm": "EAGLE"},
        36 * (5 * (8192 * 3 * 2 + 32 * 128 * 128 * 4) + 8192 * 6 * 2 + 4 * 32 * 128 * 128 * 4)
        + 100 * 12 * 2 * 256 * 2 * 2,
    ),
    # MiMo: 128 + 128 x 4 + 1 tokens of a window and two steps of 4; 39 layers of 8 heads, 9 of 4
    "drafts widen a window": (
        ("mimo-v2-flash", 5000),
        {"speculative_algorithm": "EAGLE"},
        ((128 + 512 + 1 + 8) * 39 * 8 + 5000 * 9 * 4) * (192 + 128) * 2,
    ),
}


@pytest.mark.parametrize(("asked_", "settings", "wanted"), SIZES.values(), ids=SIZES)
def test_sizes_are_those_worked_out_by_hand(asked_, settings, wanted):
    assert size(*asked_, **settings).total_bytes == wanted


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("llama-3.1-8b", {"page_size": 64}),
        ("gpt-oss-20b", {"disable_hybrid_swa_memory": True}),
        ("qwen3-next-80b-a3b", {"disable_radix_cache": True}),
        ("qwen3-next-80b-a3b", {"disable_overlap_schedule": True}),
        ("mimo-v2-flash", {"speculative_algorithm": "EAGLE", "speculative_num_steps": 5}),
    ],
)
def test_a_wrong_setting_is_noticed(name, changed):
    assert size(name, 5001).total_bytes != size(name, 5001, **changed).total_bytes


def test_stages_overlap_nothing_and_so_track_one_state_less():
    """Qwen3-Next on two stages: four states of a request and not five, also where a stage is sized by itself."""
    ranks = kvcalc.Parallel(pp=2)
    report = kvcalc.size(kvcalc.load("qwen3-next-80b-a3b"), tokens=1, engine="sglang", parallel=ranks)
    state = 18 * (8192 * 3 * 2 + 32 * 128 * 128 * 4)
    assert [rank.bytes for rank in report.per_rank] == [4 * state + 6 * 2 * 256 * 2 * 2] * 2


# Types that are stored otherwise than their config has them ------------------------------------------------------------


def small(model_type: str, **facts: Any) -> Model:
    """A config of a type with few layers."""
    return kvcalc.load(
        {"model_type": model_type, "hidden_size": 4096, "max_position_embeddings": 2**20, "num_attention_heads": 32}
        | facts
    )


MISTRAL_4 = {"num_hidden_layers": 36, "kv_lora_rank": 256, "q_lora_rank": 1024, "v_head_dim": 128}


def test_latents_without_a_class_are_stored_as_heads():
    """Mistral 4 on its fallback: 36 layers of 32 heads of 128 + 128, and on four ranks 8 heads each."""
    model = small("mistral4", num_key_value_heads=32, qk_nope_head_dim=64, qk_rope_head_dim=64, **MISTRAL_4)
    token = 36 * 32 * (128 + 128) * 2
    assert fit(model, 51_700_668_825).tokens == 51_700_668_825 // token == 87_654
    assert fit(model, 51_700_668_825, tp=4).tokens == 51_700_668_825 * 4 // token
    assert kvcalc.size(model, tokens=10, engine="sglang").total_bytes == 10 * token
    report = kvcalc.size(model, tokens=10, engine="sglang", parallel=kvcalc.Parallel(tp=4))
    assert {rank.bytes for rank in report.per_rank} == {10 * token // 4}
    assert isinstance(model.groups[0].parts[0], MultiHeadLatentAttention)


def test_some_of_them_call_the_rotary_part_a_head():
    """Youtu: K of 64, V of 128, of 16 heads in 32 layers, as SGLang planned it."""
    facts = {"num_hidden_layers": 32, "num_attention_heads": 16, "kv_lora_rank": 512, "q_lora_rank": 1536}
    facts |= {"qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128}
    assert fit(small("youtu", **facts), 54_861_599_604).tokens == 279_040


def test_layers_that_share_a_cache_have_rows_of_their_own_kind():
    """Gemma 4 E4B: 35 sliding layers of 2 heads of 256 and 7 full ones of 512, of which 18 write nothing."""
    kinds = ["sliding_attention"] * 5 + ["full_attention"]
    model = small(
        "gemma4_text",
        **{"num_hidden_layers": 42, "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 256},
        **{"global_head_dim": 512, "sliding_window": 512, "num_kv_shared_layers": 18, "layer_types": kinds * 7},
    )
    report = fit(model, 2**35)
    full, sliding = 7 * 2 * 512 * 2 * 2, 35 * 2 * 256 * 2 * 2
    assert [(each.layers, each.bytes_per_slot) for each in report.stages[0]] == [(7, full), (35, sliding)]
    assert report.tokens == int(2**35 // (full + 0.8 * sliding))
    held = kvcalc.size(model, tokens=10_000, engine="sglang").total_bytes
    assert held == 10_000 * full + (511 + 128 + 2) * sliding


def test_one_pool_has_the_heads_of_full_layers():
    """MiMo-V2-Flash without a sliding pool: its 39 sliding layers of 8 heads have rows of the 9 full ones' 4."""
    report = fit("mimo-v2-flash", disable_hybrid_swa_memory=True)
    assert pool(report, "full").bytes_per_slot == 48 * 4 * (192 + 128) * 2


def test_layers_that_attend_to_an_image_have_rows_as_others():
    """Llama 3.2 11B Vision: 40 layers of 8 heads of 128."""
    assert pool(fit("llama-3.2-11b-vision"), "full").bytes_per_slot == 40 * 8 * 128 * 2 * 2


def test_inkling_keeps_convolutions_of_both_kinds_of_layers_in_each():
    """66 layers: K and V of 8 and of 16 heads of 128, and two streams of 6144, 3 inputs of each; 0.1 goes to states."""
    local = [layer for layer in range(66) if layer % 6 < 5]
    heads = {"swa_num_attention_heads": 64, "swa_num_key_value_heads": 16, "swa_head_dim": 128}
    text = {
        **{"hidden_size": 6144, "num_hidden_layers": 66, "num_attention_heads": 64, "num_key_value_heads": 8},
        **{"head_dim": 128, "sliding_window_size": 512, "local_layer_ids": local, "sconv_kernel_size": 4},
        **{"model_max_length": 2**20, **heads},
    }
    model = kvcalc.load({"model_type": "inkling_mm_model", "text_config": text})
    for tp in (1, 4):
        report = fit(model, 51_700_668_825, tp=tp)
        states = pool(report, "states")
        assert states.bytes_per_slot == 66 * (2 * (8 + 16) * 128 // tp + 2 * 6144) * 3 * 2
        assert states.slots == int((51_700_668_825 * 0.1 / 1.1 - states.bytes_per_slot) // states.bytes_per_slot)
    assert fit(model, 51_700_668_825).tokens == 521_654


# Drafts ---------------------------------------------------------------------------------------------------------------


def test_drafts_of_deepseek_v4_double_its_rings():
    """Flash with 48 requests on 51.7 GB, as SGLang planned it; its draft has a window beside."""
    report = kvcalc.fit(
        kvcalc.load("deepseek-v4-flash", mtp=True),
        engine="sglang",
        available_bytes=51_700_668_825,
        engine_settings={"max_running_requests": 48},
    )
    assert (report.tokens, report.max_requests) == (6_378_496, 48)
    assert pool(report, "hca states").slots == 49 * 256
    assert pool(report, "drafts").layers == 1
    assert report.log_line.endswith(f"c4_state={637_696 // 256 * 16}, c128_state=0")


def test_drafts_that_the_config_does_not_count_take_nothing_of_tokens():
    """Qwen3.5-397B with four drafted tokens and 48 requests, as SGLang planned it: 562 states and what they leave."""
    config = configs()["Qwen__Qwen3.5-35B-A3B"]
    text = config["text_config"] | {"num_hidden_layers": 60, "linear_num_value_heads": 64, "mtp_num_hidden_layers": 1}
    model = kvcalc.load(config | {"text_config": text}, mtp=True)
    report = fit(model, 51_595_811_225, tp=8, max_running_requests=48)
    states, drafted = [each for each in report.stages[0] if each.name == "states"]
    assert (report.tokens, states.slots, drafted.slots, report.max_requests) == (2_172_785, 562, 48, 48)


def test_drafts_in_their_own_words_are_those_of_the_option():
    by_option = fit(kvcalc.load("r1", mtp=True), tp=8)
    by_setting = fit("r1", tp=8, speculative_algorithm="NEXTN")
    assert by_option.stages == by_setting.stages
    assert by_option.tokens == 40 * 2**30 // (62 * 576 * 2)
    assert not SELF_DRAFTING & UNCOUNTED_DRAFTS


def test_branches_of_a_draft_take_pages_of_their_own():
    """Three steps of four branches: a window holds 128 + 128 x 8 + 16, and twice ceil(18 / 16) pages for each branch."""
    settings = {"speculative_algorithm": "EAGLE", "speculative_num_steps": 3, "speculative_eagle_topk": 4}
    settings |= {"speculative_num_draft_tokens": 8, "page_size": 16}
    ahead = {False: 2 * 2 * 16 * 4, True: 32 * 4}  # without overlapping ceil((3 + 16) / 16) pages, once
    for off, tokens in ahead.items():
        report = size("mimo-v2-flash", 100_000, disable_overlap_schedule=off, **settings)
        window = -(-(128 + 128 * 8 + 16 + tokens) // 16) * 16
        assert report.total_bytes == (window * 39 * 8 + 100_000 * 9 * 4) * (192 + 128) * 2


# Requests and pages ---------------------------------------------------------------------------------------------------

STRETCHED = {"num_hidden_layers": 32, "num_key_value_heads": 8, "max_position_embeddings": 32_768}
CONTEXTS = {
    "as it is": ({}, 32_768),
    "linear": ({"rope_scaling": {"rope_type": "linear", "factor": 4.0}}, 131_072),
    "yarn": ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, 32_768),
    "seq_length comes first": ({"seq_length": 16_384}, 16_384),
}


@pytest.mark.parametrize(("facts", "context"), CONTEXTS.values(), ids=CONTEXTS)
def test_requests_follow_the_longest_context(facts, context):
    report = fit(small("llama", **STRETCHED | facts), 131_072 * 200_000)
    assert report.tokens == 200_000
    assert report.max_requests == min(4096, max(2048, int(200_000 / context * 512)))


def test_ranks_of_attention_share_requests():
    assert fit("llama-3.1-8b", dp=8, max_running_requests=100).max_requests == 12
    assert fit("llama-3.1-8b", max_total_tokens=100).max_requests == 50


PAGES = {
    "trtllm_mha": ("llama-3.1-8b", {"gpu": "b200"}, 64),
    "it reads 16, too": ("llama-3.1-8b", {"gpu": "b200", "page_size": 16}, 16),
    "and not 1": ("llama-3.1-8b", {"gpu": "b200", "page_size": 1}, 64),
    "heads of two widths": ("mimo-v2-flash", {"gpu": "b200"}, 128),
    "a latent of no DeepSeek-V3": ("deepseek-v2-lite", {"gpu": "b200"}, 1),
    "drafts of unknown width": ("llama-3.1-8b", {"gpu": "b200", "attention_backend": "flashinfer"}, 1),
    "hybrids stay with Triton": ("qwen3-next-80b-a3b", {"gpu": "b200", "page_size": 64}, 1),
    "but without prefixes": ("qwen3-next-80b-a3b", {"gpu": "b200", "disable_radix_cache": True}, 64),
    "consumer GPUs": ("llama-3.1-8b", {"gpu": "rtx-5090"}, 1),
    "FlashAttention 4 on Hopper": ("llama-3.1-8b", {"attention_backend": "fa4"}, 1),
    "on Blackwell": ("llama-3.1-8b", {"attention_backend": "fa4", "gpu": "b200"}, 128),
    "an index beside K and V": ("minimax-m3", {}, 128),
    "with pages asked for": ("minimax-m3", {"page_size": 64}, 64),
    "elsewhere": ("minimax-m3", {"gpu": "a100-80gb"}, 1),
    "on Blackwell in fp8": ("minimax-m3", {"gpu": "b200", "kv_cache_dtype": "fp8_e4m3"}, 128),
}


@pytest.mark.parametrize(("name", "settings", "page"), PAGES.values(), ids=PAGES)
def test_pages_are_those_of_the_kernels(name, settings, page):
    assert dict(fit(name, **settings).resolved)["page_size"] == page


STRATEGIES = {
    "extra buffers": ("qwen3-next-80b-a3b", {}, 5),
    "one of them": ("qwen3-next-80b-a3b", {"mamba_radix_cache_strategy": "extra_buffer_lazy"}, 4),
    "nothing overlaps": (
        "qwen3-next-80b-a3b",
        {"disable_overlap_schedule": True, "mamba_radix_cache_strategy": "extra_buffer"},
        4,
    ),
    "nor is it tracked then": ("qwen3-next-80b-a3b", {"disable_overlap_schedule": True}, 3),
    "unless pages are wanted": ("qwen3-next-80b-a3b", {"disable_overlap_schedule": True, "page_size": 16}, 4),
    "no buffers": ("lfm2-1.2b", {}, 3),
    "states alone": ("mamba-codestral-7b", {}, 3),
    "no prefixes": ("qwen3-next-80b-a3b", {"disable_radix_cache": True}, 1),
}


@pytest.mark.parametrize(("name", "settings", "states"), STRATEGIES.values(), ids=STRATEGIES)
def test_states_of_a_request_follow_how_prefixes_are_kept(name, settings, states):
    report = fit(name, 2**35, **settings)
    assert report.max_requests == min(pool(report, "states").slots // states, 4096)


# Pools ----------------------------------------------------------------------------------------------------------------


def test_pools_of_a_hybrid_model_worked_out_by_hand():
    """GPT-OSS in 32 GiB: 24,576 bytes a token and layer kind; floor(2^35 / (24,576 + 0.8 x 24,576)) = 776,722."""
    (full, sliding) = fit("gpt-oss-20b", 2**35).stages[0]
    assert (full.slots, sliding.slots, full.spare_slots, full.bytes_per_slot) == (776_722, 621_377, 1, 24_576)


def test_sizes_the_sliding_pool_by_its_worst_case_without_prefixes():
    """10 requests x (127 + 128 + 2 x 1) + 2 x 2048 + 1 = 6,667 sliding tokens, and the rest full."""
    settings = {"disable_radix_cache": True, "max_running_requests": 10, "chunked_prefill_size": 2048}
    (full, sliding) = fit("gpt-oss-20b", 2**35, **settings).stages[0]
    assert (sliding.slots, full.slots) == (6667, (2**35 - 6667 * 24_576) // 24_576)


def test_gives_states_their_share_first():
    """Qwen3-Next: 77,266,944 bytes a state; int((2^35 x 0.9 / 1.9 - one) / one) = 209 and a spare one."""
    report = fit("qwen3-next-80b-a3b", 2**35)
    full, states = report.stages[0]
    assert (states.slots, states.spare_slots, states.bytes_per_slot) == (209, 1, 77_266_944)
    assert full.slots == (2**35 - 210 * 77_266_944) // 24_576 == report.tokens
    assert report.max_requests == 209 // 5


def test_a_model_of_states_alone_has_tokens_as_long_as_it_was_made_for():
    """Mamba-Codestral 7B: no token takes memory, and what there is goes to states."""
    report = fit("mamba-codestral-7b", 2**33, context_length=4096)
    (states,) = report.stages[0]
    assert (report.tokens, states.name) == (4096, "states")
    assert report.log_lines[0].startswith(f"Mamba Cache is allocated. max_mamba_cache_size: {states.slots}, ")


def test_the_stage_with_fewest_tokens_decides():
    report = fit("llama-3.1-8b", [2**34, 2**33], pp=2, page_size=64)
    assert report.tokens == 2**33 // 65_536 // 64 * 64
    assert [pool.slots for (pool,) in report.stages] == [report.tokens] * 2


def test_prefill_chunks_follow_the_gpu_and_its_ranks():
    """gpt-oss-20b, 64 requests: the worst case of a window is 64 x 257 and two chunks of 8192, one on pipeline stages."""
    settings = {"disable_radix_cache": True, "max_running_requests": 64}
    assert pool(fit("gpt-oss-20b", **settings), "sliding").slots == 64 * 257 + 2 * 8192 + 1
    assert pool(fit("gpt-oss-20b", pp=2, **settings), "sliding").slots == 64 * 257 + 8192 + 1
    assert pool(fit("gpt-oss-20b", dp=8, **settings), "sliding").slots == 8 * 257 + 2 * 1024 + 1
    assert pool(fit("gpt-oss-20b", gpu="b200", **settings), "sliding").slots % 64 == 0
    by_share = fit("gpt-oss-20b", chunked_prefill_size=-1, **settings)
    assert pool(by_share, "sliding").slots == int(by_share.tokens * 0.8)


def test_rows_that_nobody_writes_are_shared_among_ranks_as_others():
    """Gemma 3n E4B on two ranks and stages of 17 and 18 layers: one of 2 heads of 256 each, also where none is used."""
    first, last = fit("gemma-3n-e4b", tp=2, pp=2).stages
    assert [pool.bytes_per_slot for pool in (*first, *last)] == [17 * 256 * 2 * 2, 18 * 256 * 2 * 2]


def test_a_report_of_pools_speaks_as_the_log_does():
    report = fit("llama-3.1-8b", 2**34, tp=2)
    line = "KV Cache is allocated. dtype: torch.bfloat16, #tokens: 262144, K size: 8.00 GB, V size: 8.00 GB"
    assert report.log_line == report.to_dict()["log_lines"][0] == line
    (sheet,) = report.sheets()
    assert sheet.title == "llama-3.1-8b in sglang 0.5.23 on h100-80gb, TP 2"
    assert sheet.rows == (("0", "32 full", "token", 262_144, 1, 262_145 * 65_536),)
    assert sheet.lines[0] == Line("total", "262,144 tokens", "answer")
    assert report.to_dict()["stages"][0][0]["bytes"] == report.allocated_bytes[0]


def test_pools_of_deepseek_v4_worked_out_by_hand():
    """DeepSeek-V4-Flash in 40 GiB: 43 layers have a window, 21 are CSA, 20 HCA.

    A token takes a tenth of the window's 149,760 / 256 x 43 + 81,920 / 256 x 21 bytes, 45,888 / 256 x 21 of CSA and
    1,728 / 256 x 20 of HCA: 7,086.75 bytes. States of HCA come first, (257 x 128 + 256) rows of 4,096 in 20 layers.
    """
    report = fit("deepseek-v4-flash", 40 * 2**30)
    states = (257 * 128 + 256) * 4096 * 20
    assert report.tokens == int((40 * 2**30 - states) / 7086.75) // 256 * 256 == 5_677_312
    pools = {pool.name: pool for pool in report.stages[0]}
    assert pools["sliding"].bytes == (2217 + 1) * 149_760 * 43  # 567,731 tokens and a page
    assert pools["csa"].bytes == (5_677_312 // 256 + 4) * (37_440 + 64 * 132) * 21
    assert pools["csa states"].bytes == (2217 * 8 + 12) * 10_240 * 21
    assert pools["hca"].bytes == (5_677_312 // 256 + 128) * 1728 * 20
    assert pools["hca states"].bytes == states
    assert report.log_line == (
        "DSV4 pool sizes: full=5677312, swa=567552, c4=1419328, c128=44354, c4_state=17736, c128_state=0"
    )
    assert fit("deepseek-v4-flash", 40 * 2**30, max_total_tokens=1_000_000).tokens == 999_936


# What is refused -----------------------------------------------------------------------------------------------------


def v4_and_gqa():
    """A model with a layer of each."""
    full = GroupedQueryAttention(num_query_heads=8, num_kv_heads=2, head_dim=512)
    window = CompressedAttention(num_query_heads=8, head_dim=512, sliding_window=128)
    return Model("odd", (LayerGroup.of("window", (0,), window), LayerGroup.of("full", (1,), full)))


def gemma_4_e4b():
    """24 of 42 layers have a cache, every sixth of them a full one of wider heads."""
    full = GroupedQueryAttention(num_query_heads=8, num_kv_heads=2, head_dim=512)
    sliding = GroupedQueryAttention(num_query_heads=8, num_kv_heads=2, head_dim=256, sliding_window=512)
    own = range(24)
    return Model(
        "gemma-4-e4b",
        (
            LayerGroup.of("sliding", [layer for layer in own if layer % 6 < 5], sliding),
            LayerGroup.of("full", [layer for layer in own if layer % 6 == 5], full),
            LayerGroup.of("shared", range(24, 42), NoCache()),
        ),
        model_type="gemma4_text",
    )


def narrow_v4():
    """A model with HCA that compresses 4 to 1."""
    part = CompressedAttention(num_query_heads=8, head_dim=512, sliding_window=128, compress_rate=4)
    return Model("odd", (LayerGroup.of("all", (0,), part),))


REFUSALS = {
    "DeepSeek-V4 in 16 bit": (
        lambda: size("deepseek-v4-flash", 1, kv_cache_dtype="bfloat16"),
        "SGLang keeps DeepSeek-V4 in its own byte layout, not in bfloat16",
    ),
    "entries of another width": (
        lambda: kvcalc.size(narrow_v4(), tokens=1, engine="sglang"),
        "support only entries of 512, compressed 4 to 1 with an index or 128 to 1 without, not for HCA 1/4 of 512",
    ),
    "layers that share, of which some would slide": (
        lambda: kvcalc.size(gemma_4_e4b(), tokens=1, engine="sglang"),
        "SGLang's rows for shared layers of gemma-4-e4b, which cache nothing: it has rows for every layer, and "
        "those of sliding and full differ",
    ),
    "other layers beside those of DeepSeek-V4": (
        lambda: kvcalc.fit(v4_and_gqa(), engine="sglang", available_bytes=2**35),
        "SGLang's pools of DeepSeek-V4 do not support GQA-2 layers, which the full layers of odd are",
    ),
    "lightning attention in SGLang": (
        lambda: size("minimax-text-01", 1),
        "how SGLang stores Lightning layers",
    ),
    "a format of GGUF": (lambda: size("r1", 1, kv_dtype="q8_0"), "SGLang stores no cache in q8_0"),
    "a sparse latent in fp8_e5m2": (
        lambda: size("deepseek-v3.2", 1, kv_cache_dtype="fp8_e5m2"),
        "DeepSeek DSA only supports bf16/bfloat16 or fp8_e4m3 kv_cache_dtype, not fp8_e5m2",
    ),
    "mixed layouts": (
        lambda: size("deepseek-v3.2", 1, kv_cache_dtype="fp8_e4m3", dsa_prefill_backend="tilelang"),
        "CUDA TileLang FP8 KV requires both DSA backends to be tilelang",
    ),
    "too little memory": (lambda: fit("r1", 1000), "Not enough memory. Please try to increase --mem-frac"),
    "too few states": (
        lambda: fit("qwen3-next-80b-a3b", 2**28),
        "Not enough GPU memory for hybrid (mamba/linear-attention) state cache. Computed max_mamba_cache_size=0",
    ),
    "a sliding pool for no request": (
        lambda: fit("gpt-oss-20b", 2**22),
        "SWA pool (75 tokens) cannot hold even one request",
    ),
    "FP4 pools": (
        lambda: fit("llama-3.1-8b", kv_cache_dtype="nvfp4"),
        "SGLang's scales and workspace for nvfp4",
    ),
    "what a method left": (
        lambda: kvcalc.size(
            kvcalc.apply_method(kvcalc.load("llama-3.1-8b"), "streaming-llm"), tokens=9, engine="sglang"
        ),
        "SGLang does not support the method: with it, all layers of llama-3.1-8b with StreamingLLM keep other tensors than their own",
    ),
    "token ranks": (
        lambda: kvcalc.fit(
            kvcalc.load("r1"), engine="sglang", available_bytes=2**35, parallel=kvcalc.Parallel(tp=8, dcp=8)
        ),
        "how SGLang 0.5.23 lays pools out for decode context parallelism (dcp 8)",
    ),
    "states that are tracked where they cannot be": (
        lambda: fit("lfm2-1.2b", mamba_radix_cache_strategy="extra_buffer"),
        "extra_buffer is not supported for lfm2; use no_buffer.",
    ),
    "or where there are none": (
        lambda: fit("r1", mamba_radix_cache_strategy="extra_buffer"),
        "--mamba-radix-cache-strategy extra_buffer needs mamba state, got deepseek_v3.",
    ),
    "overlapping without buffers": (
        lambda: fit("qwen3-next-80b-a3b", mamba_radix_cache_strategy="no_buffer"),
        "no_buffer do not support overlap schedule. Try to set disable_overlap_schedule=True.",
    ),
    "pages without buffers": (lambda: fit("lfm2-1.2b", page_size=16), "no_buffer only supports page_size=1."),
    "states for not one request": (
        lambda: fit("qwen3-next-80b-a3b", max_mamba_cache_size=4),
        "state cache is too small to serve any requests. max_mamba_cache_size=4, mamba_ratio=5",
    ),
    "a worst case without room": (
        lambda: fit("gpt-oss-20b", 2**28, disable_radix_cache=True, max_running_requests=64),
        "SWA pool cap (32833 tokens) leaves no room for the full KV pool",
    ),
    "drafts of another model": (
        lambda: fit("llama-3.1-8b", speculative_algorithm="EAGLE"),
        "llama-3.1-8b has no draft layers, and no other checkpoint is named",
    ),
    "drafts that are not counted": (
        lambda: fit(replace(kvcalc.load("r1"), draft_groups=()), speculative_algorithm="EAGLE"),
        "the config of deepseek-r1 does not give the number of draft layers",
    ),
}
BAD_VALUES = {
    "half of a draft": (
        lambda: fit("r1", speculative_algorithm="EAGLE", speculative_eagle_topk=1),
        "speculative_num_steps is not given, but other numbers of the draft are",
    ),
    "a share that nobody knows": (
        lambda: Engine.of("sglang").left_for_cache(2**36, 0),
        "mem_fraction_static is not given, and SGLang's default depends on the model and its ranks",
    ),
    "a vision tower of unknown width": (
        lambda: Engine.of("sglang").settled(
            replace(kvcalc.load("r1"), published=Published(vision=Vision())), kvcalc.Parallel()
        ),
        "the config of deepseek-r1 does not give the width of its vision tower",
    ),
    "nothing left": (
        lambda: Engine.of("sglang", {"gpu": "t4", "chunked_prefill_size": 16_384}).settled(
            kvcalc.load("r1"), kvcalc.Parallel()
        ),
        "SGLang would reserve all memory of t4",
    ),
    "an algorithm": (
        lambda: size("r1", 1, speculative_algorithm="NGRAM"),
        "speculative_algorithm must be one of EAGLE, NEXTN, EAGLE3, STANDALONE, DFLASH, not 'NGRAM'",
    ),
    "a flag": (
        lambda: size("r1", 1, disable_radix_cache="maybe"),
        "disable_radix_cache must be true or false, not 'maybe'",
    ),
    "a share": (
        lambda: size("r1", 1, swa_full_tokens_ratio=2),
        "swa_full_tokens_ratio must be above 0 and at most 1, not 2",
    ),
}


@pytest.mark.parametrize("name", ["llama3-8b", "gpt-oss-20b", "glm-5"])
def test_pools_have_the_format_that_is_asked_for(name):
    by_dtype = kvcalc.fit(name, engine="sglang", available_bytes="40GB", dtype="fp8")
    by_setting = kvcalc.fit(
        name, engine="sglang", available_bytes="40GB", engine_settings={"kv_cache_dtype": "fp8_e4m3"}
    )
    assert by_dtype.stages == by_setting.stages
    halves = kvcalc.fit(name, engine="sglang", available_bytes="40GB", dtype="fp16")
    assert halves.stages == kvcalc.fit(name, engine="sglang", available_bytes="40GB").stages != by_dtype.stages


REFUSED = {
    **{what: (kvcalc.NotApplicableError, *case) for what, case in REFUSALS.items()},
    **{what: (kvcalc.InvalidValueError, *case) for what, case in BAD_VALUES.items()},
}


@pytest.mark.parametrize(("error", "ask", "words"), REFUSED.values(), ids=REFUSED)
def test_what_it_cannot_do_is_refused_with_its_reason_and_bad_values_with_theirs(error, ask, words):
    with pytest.raises(error) as refusal:
        ask()
    assert words in str(refusal.value)
    assert refusal.value.help


def test_what_it_ignores_is_said():
    assert "every layer keeps every token" in " ".join(size("gemma-3-27b", 1).notes)
    assert "rows of the full layers' heads" in " ".join(size("mimo-v2-flash", 1, disable_hybrid_swa_memory=1).notes)
    assert "reserves no memory for draft layers" in " ".join(
        size("qwen3-next-80b-a3b", 1, speculative_algorithm="EAGLE").notes
    )


def test_pools_of_deepseek_v4_1_worked_out_by_hand():
    """Windows by their worst case, and rings: 32 requests of 768 tokens, two chunks, a page; 4 prefixes each of 384."""
    report = fit("deepseek-v4.1", max_running_requests=32, context_length=8192, chunked_prefill_size=8192)
    assert pool(report, "sliding").slots == (32 * 768 + 2 * 8192 + 256 + 4 * 32 * 384) // 256
    assert (pool(report, "open groups 1/2").slots, pool(report, "open groups 1/2").spare_slots) == (33 * 2, 4)
    assert report.log_lines[0].startswith(f"DSV4 pool sizes: full={report.tokens}, swa={353 * 256}, ")
    spare_page = 40 * 149_760  # which SGLang does not count
    assert sum(each.bytes for each in report.stages[0]) <= 40 * 2**30 + spare_page
    more = fit("deepseek-v4.1", max_running_requests=32, context_length=8192, swa_full_tokens_ratio=0.5)
    assert pool(more, "sliding").slots == more.tokens // 2 // 256


def test_deepseek_v4_1_without_prefixes_keeps_no_windows_of_them():
    settings = {"max_running_requests": 32, "context_length": 8192, "chunked_prefill_size": 8192}
    report = fit("deepseek-v4.1", disable_radix_cache=True, **settings)
    assert pool(report, "sliding").slots == -(-(32 * 768 + 2 * 8192 + 256) // 256)


def test_pooled_index_keys_have_pages_of_their_own_and_tails():
    """GLM-5.3-Flash: pages of 64 keys, so of 256 tokens; tails of all requests that may run, and of two more."""
    report = fit("glm-5.3-flash", context_length=8192)
    assert dict(report.resolved)["page_size"] == 256
    tails = pool(report, "tails")
    assert (tails.slots, tails.spare_slots) == (report.max_requests, 2)
    assert sum(each for _, each in tails.slot_bytes) == 11 * 2 * 4 * 128 * 2
    assert dict(pool(report, "full").slot_bytes)["index_k"] == 11 * 132 // 4


def test_ngram_states_have_slots_and_count_in_none():
    """Qwen3.8-Flash-Next: beside its 36 states each slot has the inputs of the n-gram convolution."""
    report = fit("qwen3.8-flash-next", context_length=8192, max_mamba_cache_size=100)
    without = fit("qwen3.8-flash-next", context_length=8192, max_mamba_cache_size=101)
    counted = dict(pool(report, "states").slot_bytes)
    assert counted.pop("ngram_conv_state") == 10_240 * 9 * 2
    fewer = (report.tokens - without.tokens) * 12 * (2 * 2 * 256 * 2 + 64)
    assert abs(fewer - sum(counted.values())) < 64 * 12 * 2112
    assert dict(report.resolved)["page_size"] == 64


def test_minicpm_sala_keeps_no_prefixes():
    config = {
        **{"model_type": "minicpm_sala", "num_hidden_layers": 4, "num_attention_heads": 8, "num_key_value_heads": 2},
        **{"head_dim": 64, "hidden_size": 512, "lightning_nh": 8, "lightning_head_dim": 64},
        "mixer_types": ["minicpm4", *["lightning-attn"] * 3],
    }
    report = fit(kvcalc.load(config), context_length=8192, max_running_requests=16)
    assert (pool(report, "states").slots, report.max_requests) == (16, 16)


@pytest.mark.parametrize(
    ("model", "settings", "words"),
    [
        ("deepseek-v4.1", {"gpu": "b200"}, "layout of DeepSeek-V4.1 only on Hopper, not on b200"),
        ("deepseek-v4.1", {"kv_cache_dtype": "bf16"}, "in its own byte layout, not in bf16"),
    ],
)
def test_other_layouts_of_deepseek_v4_1_are_refused(model, settings, words):
    with pytest.raises(kvcalc.NotApplicableError) as caught:
        fit(model, **settings)
    assert words in str(caught.value)


def test_keys_that_their_tokens_cannot_share_evenly_are_refused(tmp_path):
    lines = ["name: odd", "num_layers: 2", "attention: [gqa, indexer]", "num_query_heads: 8", "num_kv_heads: 2"]
    lines += ["head_dim: 128", "index_head_dim: 128", "index_pool_tokens: 3", "source: test", ""]
    (tmp_path / "odd.yaml").write_text("\n".join(lines))
    with pytest.raises(kvcalc.NotApplicableError, match="among its 3 tokens, of which 128 is not a multiple"):
        fit(kvcalc.load(tmp_path / "odd.yaml"))
