"""SGLang, TensorRT-LLM and LMDeploy: sizes worked out by hand, laws, refusals; MLX-LM and Ollama share the laws."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import models, tokens

import kvcalc
from kvcalc.cache.dtypes import BF16
from kvcalc.engines import Engine
from kvcalc.engines.base.footprint import Footprint
from kvcalc.io.presets import preset_names

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


# What is refused ----------------------------------------------------------------------------------------------------


REFUSALS = {
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
    assert "whatever the model's own windows" in " ".join(size("gemma-3-27b", 1, "tensorrt_llm").notes)
    assert "whatever its window" in " ".join(size("gemma-3-27b", 1, "lmdeploy").notes)
