"""SGLang, TensorRT-LLM and LMDeploy: sizes worked out by hand, laws, refusals; MLX-LM and Ollama share the laws."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import models, tokens

import kvcalc
from kvcalc.attention.compressed import CompressedAttention
from kvcalc.attention.gqa import GroupedQueryAttention
from kvcalc.attention.none import NoCache
from kvcalc.cache.dtypes import BF16
from kvcalc.engines import Engine
from kvcalc.engines.base.footprint import Footprint
from kvcalc.io.presets import preset_names
from kvcalc.model import LayerGroup, Model
from kvcalc.report.sheet import Line

ENGINES = ("sglang", "tensorrt_llm", "mlx_lm", "ollama", "lmdeploy")


def size(name: str, t: int, engine: str, sequences: int = 1, kv_dtype: str = "bf16", **settings):
    model = kvcalc.load(name)
    return kvcalc.size(model, tokens=t, sequences=sequences, kv_dtype=kv_dtype, engine=engine, engine_settings=settings)


def fit(name: str, engine: str, available_bytes: object = 40 * 2**30, *, tp: int = 1, pp: int = 1, **settings):
    ranks = kvcalc.Parallel(tp=tp, pp=pp)
    return kvcalc.fit(
        kvcalc.load(name), engine=engine, available_bytes=available_bytes, parallel=ranks, engine_settings=settings
    )


def bytes_of(report, name: str) -> int:
    return sum(tensor.bytes for group in report.groups for tensor in group.tensors if tensor.name == name)


# Sizes worked out by hand -------------------------------------------------------------------------------------------

LLAMA = 32 * 8 * 128 * 2  # layers, KV heads, head_dim, K and V: elements of a token of Llama 3.1 8B
SIZES = {
    "SGLang pages of 1": (("llama-3.1-8b", 1001, "sglang"), {}, 1001 * LLAMA * 2),
    "SGLang pages of 64": (("llama-3.1-8b", 1001, "sglang"), {"page_size": 64}, 1024 * LLAMA * 2),
    "FlashMLA insists on 64": (("r1", 65, "sglang"), {"attention_backend": "flashmla"}, 128 * 61 * 576 * 2),
    "trtllm_mha takes 16": (
        ("llama-3.1-8b", 17, "sglang"),
        {"attention_backend": "trtllm_mha", "page_size": 16},
        32 * LLAMA * 2,
    ),
    "SGLang fp8": (("llama-3.1-8b", 1000, "sglang"), {"kv_cache_dtype": "fp8_e5m2"}, 1000 * LLAMA),
    "SGLang mxfp8": (("llama-3.1-8b", 1000, "sglang"), {"kv_cache_dtype": "mxfp8"}, 1000 * LLAMA * 33 // 32),
    "SGLang nvfp4": (("llama-3.1-8b", 1000, "sglang"), {"kv_cache_dtype": "nvfp4"}, 1000 * LLAMA * 9 // 16),
    # 512 fp8 + 4 float32 + 64 bf16 = 656 a layer, and 128 + 4 of the indexer; pages of 64
    "SGLang sparse latent in fp8": (
        ("deepseek-v3.2", 100, "sglang"),
        {"kv_cache_dtype": "fp8_e4m3"},
        128 * 61 * (656 + 132),
    ),
    "the same without scales": (
        ("deepseek-v3.2", 100, "sglang"),
        {"kv_cache_dtype": "fp8_e4m3", "dsa_decode_backend": "trtllm"},
        128 * 61 * (576 + 132),
    ),
    "on Blackwell by itself": (("deepseek-v3.2", 100, "sglang"), {"gpu": "b200"}, 128 * 61 * (576 + 132)),
    # 12 sliding layers hold 127 + 128 + 2 tokens, 12 full ones all: 8 heads of 64
    "SGLang's own sliding pool": (("gpt-oss-20b", 5000, "sglang"), {}, (257 + 5000) * 12 * 8 * 64 * 2 * 2),
    "none for Gemma 3": (("gemma-3-27b", 5000, "sglang"), {}, 5000 * 62 * 16 * 128 * 2 * 2),
    "or where it is not wanted": (
        ("gpt-oss-20b", 5000, "sglang"),
        {"disable_hybrid_swa_memory": True},
        5000 * 24 * 8 * 64 * 2 * 2,
    ),
    # model_executor/pool_configurator.py multiplies by num_hidden_layers: 35, of which 15 read others' caches, and 80
    "rows of layers that share": (("gemma-3n-e4b", 1000, "sglang"), {}, 1000 * 35 * 2 * 256 * 2 * 2),
    "rows of layers without attention": (
        ("llama-3.3-nemotron-super-49b", 1000, "sglang"),
        {},
        1000 * 80 * 8 * 128 * 2 * 2,
    ),
    # 36 layers: 8192 x 3 in bf16 and 32 x 128 x 128 in float32, three of each; 12 layers of 2 heads of 256
    "SGLang states of a request": (
        ("qwen3-next-80b-a3b", 100, "sglang"),
        {},
        3 * 36 * (8192 * 3 * 2 + 32 * 128 * 128 * 4) + 100 * 12 * 2 * 256 * 2 * 2,
    ),
    "one without prefixes": (
        ("qwen3-next-80b-a3b", 100, "sglang"),
        {"disable_radix_cache": True, "mamba_ssm_dtype": "bfloat16"},
        36 * (8192 * 3 * 2 + 32 * 128 * 128 * 2) + 100 * 12 * 2 * 256 * 2 * 2,
    ),
    # 3 pages of the window in 43 layers; 20 of 64 entries and keys, and 3 x 8 rows; 20 of 2 entries, and 128 rows
    "DeepSeek-V4 in SGLang": (
        ("deepseek-v4-flash", 5000, "sglang"),
        {},
        43 * 3 * 149_760
        + 21 * (20 * (37_440 + 64 * 132) + 3 * 8 * 2 * 2 * (512 + 128) * 4)
        + 20 * (20 * 1728 + 128 * 2 * 512 * 4),
    ),
    "its entries of 528 bytes on Blackwell": (
        ("deepseek-v4-flash", 5000, "sglang"),
        {"gpu": "b200"},
        43 * 3 * 256 * 528
        + 21 * (20 * (64 * 528 + 64 * 132) + 3 * 8 * 2 * 2 * (512 + 128) * 4)
        + 20 * (20 * 1536 + 128 * 2 * 512 * 4),
    ),
    "TensorRT-LLM blocks of 32": (("llama-3.1-8b", 1001, "tensorrt_llm"), {}, 1024 * LLAMA * 2),
    "of 64 in fp8": (
        ("llama-3.1-8b", 1025, "tensorrt_llm"),
        {"tokens_per_block": 64, "dtype": "fp8"},
        1088 * LLAMA,
    ),
    "in nvfp4": (("llama-3.1-8b", 32, "tensorrt_llm"), {"dtype": "nvfp4"}, 32 * LLAMA * 9 // 16),
    "the latent alone": (("r1", 33, "tensorrt_llm"), {}, 64 * 61 * 576 * 2),
    "an indexer beside it": (("glm-5.2", 32, "tensorrt_llm"), {}, 32 * (78 * 576 * 2 + 21 * 132)),
    # five windows of 1024 and one block, the sixth layer full: 52 and 10 layers, 16 heads of 128
    "windows": (
        ("gemma-3-27b", 4000, "tensorrt_llm"),
        {"max_attention_window": [1024] * 5 + [131_072]},
        (52 * 1056 + 10 * 4000) * 16 * 128 * 2 * 2,
    ),
    "LMDeploy blocks of 64": (("llama-3.1-8b", 65, "lmdeploy"), {}, 128 * LLAMA * 2),
    "LMDeploy int8": (("llama-3.1-8b", 64, "lmdeploy"), {"quant_policy": 8}, 64 * 32 * 8 * 2 * (128 + 4)),
    "LMDeploy int4": (("llama-3.1-8b", 64, "lmdeploy"), {"quant_policy": 4}, 64 * 32 * 8 * 2 * (64 + 4)),
    "LMDeploy's latent": (("r1", 1, "lmdeploy"), {}, 64 * 61 * 576 * 2),
}


@pytest.mark.parametrize(("asked", "settings", "wanted"), SIZES.values(), ids=SIZES)
def test_sizes_are_those_worked_out_by_hand(asked, settings, wanted):
    assert size(*asked, **settings).total_bytes == wanted


@pytest.mark.parametrize(
    ("name", "engine", "changed"),
    [
        ("llama-3.1-8b", "sglang", {"page_size": 64}),
        ("gpt-oss-20b", "sglang", {"disable_hybrid_swa_memory": True}),
        ("qwen3-next-80b-a3b", "sglang", {"disable_radix_cache": True}),
        ("llama-3.1-8b", "tensorrt_llm", {"tokens_per_block": 16}),
        ("llama-3.1-8b", "lmdeploy", {"block_size": 16}),
    ],
)
def test_a_wrong_setting_is_noticed(name, engine, changed):
    assert size(name, 5001, engine).total_bytes != size(name, 5001, engine, **changed).total_bytes


def test_kv_dtype_asks_for_what_a_setting_would():
    in_words = {"sglang": {"kv_cache_dtype": "fp8_e4m3"}, "tensorrt_llm": {"dtype": "fp8"}}
    for engine, settings in in_words.items():
        by_dtype = size("llama-3.1-8b", 100, engine, kv_dtype="fp8")
        assert by_dtype.total_bytes == size("llama-3.1-8b", 100, engine, **settings).total_bytes
    assert size("llama-3.1-8b", 64, "lmdeploy", kv_dtype="int4").total_bytes == SIZES["LMDeploy int4"][2]


@pytest.mark.parametrize("engine", ["sglang", "tensorrt_llm", "lmdeploy"])
def test_ranks_share_heads_and_hold_latents_whole(engine):
    ranks = kvcalc.Parallel(tp=16)
    shared, latent = (
        kvcalc.size(kvcalc.load(name), tokens=64, engine=engine, parallel=ranks) for name in ("llama-3.1-8b", "r1")
    )
    assert {rank.bytes for rank in shared.per_rank} == {64 * LLAMA * 2 // 8}  # 8 heads among 16: one each
    assert {rank.bytes for rank in latent.per_rank} == {64 * 61 * 576 * 2}


# Laws over random models --------------------------------------------------------------------------------------------

NEEDS_ENCODER = ("llama-3.2-11b-vision", "llama-3.2-90b-vision", "bart-large", "t5-large")
SHORTER_RING = ("mimo-v2-flash",)
"""Models whose window, as their config has it, is one short of what a query sees; MLX-LM's ring is that long."""
TAKES_LESS = {"sglang": ("indexer", "CSA", "HCA", "shared K=V"), "tensorrt_llm": ("indexer",)}
TAKES_LESS["mlx_lm"] = ("Mamba", "RG-LRU", "WKV", "Lightning")
"""Layers that an engine may store in fewer bytes than the model's own dtype: index keys, and DeepSeek-V4, in fp8.

MLX-LM has states of some kinds in the dtype of the weights, where the model's own are float32."""


def check_takes_no_less(model, t, engine) -> bool:
    """Whether the engine stores the model at all; if so, in no fewer bytes than the model needs."""
    try:
        stored = Engine.of(engine).serving(1).allocate(model, BF16)
    except kvcalc.KvcalcError:
        return False
    own = Engine.of("ideal").allocate(model, BF16)
    for group, tensors, needed in zip(model.groups, stored, own, strict=True):
        taken = layer_bytes(tensors, t)
        if not any(word in group.label for word in TAKES_LESS.get(engine, ())) and model.name not in SHORTER_RING:
            assert taken >= layer_bytes(needed, t), (model.name, engine, group.name)
        assert taken <= layer_bytes(tensors, t + 1)
    return True


def layer_bytes(tensors, t) -> int:
    """Bytes of one layer and sequence."""
    return sum(tensor.bytes_per_slot(BF16) * tensor.slot_rule.slots(t) for tensor in tensors)


@given(models(), tokens, st.sampled_from(ENGINES))
def test_an_engine_takes_no_less_than_a_model_needs_and_never_less_for_a_token_more(model, t, engine):
    """But for index keys in fp8. What it does not store it refuses."""
    check_takes_no_less(model, t, engine)


def test_nor_for_any_preset():
    """Of all presets so many, or more, are stored by the engine as far as kvcalc knows."""
    presets = [kvcalc.load(name) for name in preset_names() if name not in NEEDS_ENCODER]
    stored = {engine: sum(check_takes_no_less(model, 8191, engine) for model in presets) for engine in ENGINES}
    least = {"sglang": 118, "tensorrt_llm": 94, "mlx_lm": 131, "ollama": 136, "lmdeploy": 90}
    assert {engine: number >= least[engine] for engine, number in stored.items()} == dict.fromkeys(ENGINES, True), (
        stored
    )


@given(
    st.sampled_from(["llama-3.1-8b", "gpt-oss-20b", "gemma-3-27b", "deepseek-v4-flash"]),
    st.sampled_from(ENGINES),
    st.integers(0, 2**36),
)
def test_what_fits_an_engine_is_exact(name, engine, budget):
    """The inverse of a size, in pages, rings and rings that come at once."""
    assume(name != "deepseek-v4-flash" or engine == "sglang")
    footprint = Footprint.of(kvcalc.load(name), Engine.of(engine), BF16)
    most = footprint.max_tokens(budget)
    assert most is not None
    assert footprint.bytes(most) <= budget or most == 0
    assert footprint.bytes(most + 1) > budget


PLANNED = ("llama-3.1-8b", "r1", "gpt-oss-20b", "qwen3-next-80b-a3b", "deepseek-v3.2", "gemma-3-27b")


@given(st.sampled_from(PLANNED), st.sampled_from(["sglang", "tensorrt_llm"]), st.integers(2**33, 2**37))
def test_pools_fill_the_memory_and_no_more_but_for_their_spare_slots(name, engine, available_bytes):
    try:
        report = fit(name, engine, available_bytes)
    except kvcalc.NotApplicableError:
        assume(False)
    (pools,) = report.stages
    usable = sum(pool.slots * pool.bytes_per_slot for pool in pools)
    assert usable <= available_bytes
    tokens_more = fit(name, engine, available_bytes + 2**30).tokens
    assert report.tokens <= tokens_more
    largest = max(pool.bytes_per_slot for pool in pools)
    assert available_bytes - usable <= (len(pools) + 1) * largest * 128


# Pools --------------------------------------------------------------------------------------------------------------


def test_sglang_pools_of_a_hybrid_model_worked_out_by_hand():
    """GPT-OSS in 32 GiB: 24,576 bytes a token and layer kind; floor(2^35 / (24,576 + 0.8 x 24,576)) = 776,722."""
    (full, sliding) = fit("gpt-oss-20b", "sglang", 2**35).stages[0]
    assert (full.slots, sliding.slots, full.spare_slots, full.bytes_per_slot) == (776_722, 621_377, 1, 24_576)


def test_sglang_sizes_the_sliding_pool_by_its_worst_case_without_prefixes():
    """10 requests x (127 + 128 + 2 x 1) + 2 x 2048 + 1 = 6,667 sliding tokens, and the rest full."""
    settings = {"disable_radix_cache": True, "max_running_requests": 10, "chunked_prefill_size": 2048}
    (full, sliding) = fit("gpt-oss-20b", "sglang", 2**35, **settings).stages[0]
    assert (sliding.slots, full.slots) == (6667, (2**35 - 6667 * 24_576) // 24_576)


def test_sglang_gives_states_their_share_first():
    """Qwen3-Next: 77,266,944 bytes a state; int((2^35 x 0.9 / 1.9 - one) / one) = 209 and a spare one."""
    report = fit("qwen3-next-80b-a3b", "sglang", 2**35)
    full, states = report.stages[0]
    assert (states.slots, states.spare_slots, states.bytes_per_slot) == (209, 1, 77_266_944)
    assert full.slots == (2**35 - 210 * 77_266_944) // 24_576 == report.tokens
    assert report.max_requests == 69


def test_a_model_of_states_alone_has_tokens_as_long_as_it_was_made_for():
    """Mamba-Codestral 7B: no token takes memory, and what there is goes to states."""
    report = fit("mamba-codestral-7b", "sglang", 2**33, context_length=4096)
    (states,) = report.stages[0]
    assert (report.tokens, states.name) == (4096, "states")
    assert report.log_lines[0].startswith(f"Mamba Cache is allocated. max_mamba_cache_size: {states.slots}, ")


def test_the_stage_with_fewest_tokens_decides():
    report = fit("llama-3.1-8b", "sglang", [2**34, 2**33], pp=2, page_size=64)
    assert report.tokens == 2**33 // 65_536 // 64 * 64
    assert [pool.slots for (pool,) in report.stages] == [report.tokens] * 2


def test_tensorrt_llm_shares_memory_equally_between_windows():
    windows = [1024] * 5 + [131_072]
    report = fit("gemma-3-27b", "tensorrt_llm", 2**35, max_attention_window=windows, max_tokens=64)
    by_name = {pool.name: pool for pool in report.stages[0]}
    assert by_name["window 1,024"].slots == 2**34 // (52 * 16 * 128 * 4 * 32)
    assert by_name["window 131,072"].slots == 2**34 // (10 * 16 * 128 * 4 * 32)


def test_blocks_that_wait_in_the_memory_of_a_host_are_counted_beside_the_pools():
    """Llama 3.1 8B: 131,072 bytes a token, blocks of 32; 10 GiB of a host hold 2,560 of them."""
    asked = {"max_tokens": 3200, "host_cache_size": 10 * 2**30}
    report = fit("llama-3.1-8b", "tensorrt_llm", **asked)
    ((pool,),), ((host,),) = report.stages, report.host
    assert (pool.slots, host.slots, host.bytes) == (100, 2560, 10 * 2**30)
    assert report.allocated_bytes == (pool.bytes,)
    assert [row[0] for row in report.sheets()[0].rows] == ["0", "0 (host)"]
    assert report.data()["host"][0][0]["slots"] == 2560
    windows = fit("gemma-3-27b", "tensorrt_llm", **asked, max_attention_window=[1024] * 5 + [131_072]).host[0]
    assert [pool.slots for pool in windows] == [5 * 2**30 // (layers * 16 * 128 * 4 * 32) for layers in (52, 10)]
    assert "host" not in fit("llama-3.1-8b", "tensorrt_llm").data()


def test_weights_leave_a_share_of_the_memory():
    settings = {"mem_fraction_static": 0.9, "gpu": "h100-80gb"}
    sglang = kvcalc.fit(
        kvcalc.load("llama-3.1-8b"), engine="sglang", weights_bytes=16 * 10**9, engine_settings=settings
    )
    assert sglang.available_bytes == (85_045_477_376 - int(85_045_477_376 * (1 - 0.9)) - 16 * 10**9,)
    trtllm = kvcalc.fit(kvcalc.load("llama-3.1-8b"), engine="tensorrt_llm", weights_bytes=16 * 10**9)
    assert trtllm.available_bytes == (int((85_045_477_376 - 16 * 10**9) * 0.9),)


def test_rows_that_nobody_writes_are_shared_among_ranks_as_others():
    """Gemma 3n E4B on two ranks and stages of 17 and 18 layers: one of 2 heads of 256 each, also where none is used."""
    first, last = fit("gemma-3n-e4b", "sglang", tp=2, pp=2).stages
    assert [pool.bytes_per_slot for pool in (*first, *last)] == [17 * 256 * 2 * 2, 18 * 256 * 2 * 2]


def test_a_report_of_pools_speaks_as_the_log_does():
    report = fit("llama-3.1-8b", "sglang", 2**34, tp=2)
    line = "KV Cache is allocated. dtype: torch.bfloat16, #tokens: 262144, K size: 8.00 GB, V size: 8.00 GB"
    assert report.log_line == report.data()["log_lines"][0] == line
    (sheet,) = report.sheets()
    assert sheet.title == "llama-3.1-8b in sglang 0.5.23 on h100-80gb, TP 2"
    assert sheet.rows == (("0", "32 full", "token", 262_144, 1, 262_145 * 65_536),)
    assert sheet.lines[0] == Line("total", "262,144 tokens", "answer")
    assert report.data()["stages"][0][0]["bytes"] == report.allocated_bytes[0]


def test_sglang_pools_of_deepseek_v4_worked_out_by_hand():
    """DeepSeek-V4-Flash in 40 GiB: 43 layers have a window, 21 are CSA, 20 HCA.

    A token takes a tenth of the window's 149,760 / 256 x 43 + 81,920 / 256 x 21 bytes, 45,888 / 256 x 21 of CSA and
    1,728 / 256 x 20 of HCA: 7,086.75 bytes. States of HCA come first, (257 x 128 + 256) rows of 4,096 in 20 layers.
    """
    report = fit("deepseek-v4-flash", "sglang", 40 * 2**30)
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
    assert fit("deepseek-v4-flash", "sglang", 40 * 2**30, max_total_tokens=1_000_000).tokens == 999_936


# What is refused ----------------------------------------------------------------------------------------------------


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
        lambda: size("deepseek-v4-flash", 1, "sglang", kv_cache_dtype="bfloat16"),
        "SGLang keeps DeepSeek-V4 in bytes of a layout of its own, not in bfloat16",
    ),
    "drafts of DeepSeek-V4": (
        lambda: kvcalc.size(kvcalc.load("deepseek-v4-flash", mtp=True), tokens=1, engine="sglang"),
        "how SGLang 0.5.23 sizes windows and states of DeepSeek-V4 that drafts",
    ),
    "entries of another width": (
        lambda: kvcalc.size(narrow_v4(), tokens=1, engine="sglang"),
        "made for entries of 512, compressed 4 to 1 with an index or 128 to 1 without, not for HCA 1/4 of 512",
    ),
    "layers that share, of which some would slide": (
        lambda: kvcalc.size(gemma_4_e4b(), tokens=1, engine="sglang"),
        "which rows SGLang has for shared layers of gemma-4-e4b, which cache nothing: it has some for every layer, and "
        "those of sliding and full differ",
    ),
    "a stage of layers that share": (
        lambda: kvcalc.size(kvcalc.load("gemma-3n-e4b"), tokens=1, engine="sglang", parallel=kvcalc.Parallel(pp=3)),
        "which cache nothing: it has some for every layer, and no other layer is on their pipeline stage",
    ),
    "other layers beside those of DeepSeek-V4": (
        lambda: kvcalc.fit(v4_and_gqa(), engine="sglang", available_bytes=2**35),
        "SGLang's pools of DeepSeek-V4 have no room for GQA-2 layers, as full layers of odd are",
    ),
    "lightning attention in SGLang": (
        lambda: size("minimax-text-01", 1, "sglang"),
        "how SGLang stores Lightning layers",
    ),
    "a format of GGUF": (lambda: size("r1", 1, "sglang", kv_dtype="q8_0"), "SGLang stores no cache in q8_0"),
    "a sparse latent in fp8_e5m2": (
        lambda: size("deepseek-v3.2", 1, "sglang", kv_cache_dtype="fp8_e5m2"),
        "DeepSeek DSA only supports bf16/bfloat16 or fp8_e4m3 kv_cache_dtype, not fp8_e5m2",
    ),
    "mixed layouts": (
        lambda: size("deepseek-v3.2", 1, "sglang", kv_cache_dtype="fp8_e4m3", dsa_prefill_backend="tilelang"),
        "CUDA TileLang FP8 KV requires both DSA backends to be tilelang",
    ),
    "too little memory": (lambda: fit("r1", "sglang", 1000), "Not enough memory. Please try to increase --mem-frac"),
    "too few states": (
        lambda: fit("qwen3-next-80b-a3b", "sglang", 2**28),
        "Not enough GPU memory for hybrid (mamba/linear-attention) state cache. Computed max_mamba_cache_size=0",
    ),
    "a sliding pool for no request": (
        lambda: fit("gpt-oss-20b", "sglang", 2**22),
        "SWA pool (75 tokens) cannot hold even one request",
    ),
    "FP4 pools": (
        lambda: fit("llama-3.1-8b", "sglang", kv_cache_dtype="nvfp4"),
        "which scales and which workspace SGLang keeps for nvfp4",
    ),
    "what a method left": (
        lambda: kvcalc.size(
            kvcalc.apply_method(kvcalc.load("llama-3.1-8b"), "streaming-llm"), tokens=9, engine="sglang"
        ),
        "SGLang has no such method: all layers of llama-3.1-8b with StreamingLLM keep other tensors than their own",
    ),
    "token ranks": (
        lambda: kvcalc.fit(
            kvcalc.load("r1"), engine="sglang", available_bytes=2**35, parallel=kvcalc.Parallel(tp=8, dcp=8)
        ),
        "how SGLang 0.5.23 lays pools out for decode context parallelism (dcp 8)",
    ),
    "states in TensorRT-LLM": (
        lambda: size("jamba-1.5-mini", 1, "tensorrt_llm"),
        "how TensorRT-LLM stores Mamba layers",
    ),
    "windows that cut a group": (
        lambda: size("llama-3.1-8b", 1, "tensorrt_llm", max_attention_window=[512, 131_072]),
        "max_attention_window gives all layers of llama-3.1-8b several windows ([512, 131072])",
    ),
    "not one block": (lambda: fit("r1", "tensorrt_llm", 1000), "not one block of the cache fits"),
    "int4 in TensorRT-LLM": (
        lambda: size("r1", 1, "tensorrt_llm", kv_dtype="int4"),
        "TensorRT-LLM stores no cache in int4",
    ),
    "a quantised latent": (
        lambda: size("r1", 1, "lmdeploy", quant_policy=8),
        "how LMDeploy stores MLA 512+64 layers with quant_policy 8",
    ),
    "no planner": (lambda: fit("r1", "lmdeploy"), "the engine lmdeploy has no planner of its own"),
}
BAD_VALUES = {
    "no fraction": (
        lambda: kvcalc.fit(kvcalc.load("r1"), engine="sglang", weights_bytes=1),
        "mem_fraction_static is not given",
    ),
    "no memory": (lambda: kvcalc.fit(kvcalc.load("r1"), engine="tensorrt_llm"), "nothing says what there is"),
    "a block size": (
        lambda: size("r1", 1, "tensorrt_llm", tokens_per_block=48),
        "tokens_per_block must be a power of two, not 48",
    ),
    "windows": (
        lambda: size("r1", 1, "tensorrt_llm", max_attention_window="512"),
        "max_attention_window must be a list of whole numbers, not '512'",
    ),
    "a policy": (lambda: size("r1", 1, "lmdeploy", quant_policy=2), "quant_policy must be one of 0, 4, 8, not 2"),
    "a flag": (
        lambda: size("r1", 1, "sglang", disable_radix_cache="no"),
        "disable_radix_cache must be true or false, not 'no'",
    ),
    "a share": (
        lambda: size("r1", 1, "sglang", swa_full_tokens_ratio=2),
        "swa_full_tokens_ratio must be above 0 and at most 1, not 2",
    ),
}


REFUSED = {
    **{what: (kvcalc.NotApplicableError, *case) for what, case in REFUSALS.items()},
    **{what: (kvcalc.InvalidValueError, *case) for what, case in BAD_VALUES.items()},
}


@pytest.mark.parametrize(("error", "ask", "words"), REFUSED.values(), ids=REFUSED)
def test_what_an_engine_cannot_do_is_refused_with_its_reason_and_bad_values_with_theirs(error, ask, words):
    with pytest.raises(error) as refusal:
        ask()
    assert words in str(refusal.value)
    assert refusal.value.help


def test_what_an_engine_ignores_is_said():
    assert "every layer keeps every token" in " ".join(size("gemma-3-27b", 1, "sglang").notes)
    assert "whatever the model's own windows" in " ".join(size("gemma-3-27b", 1, "tensorrt_llm").notes)
    assert "whatever its window" in " ".join(size("gemma-3-27b", 1, "lmdeploy").notes)
