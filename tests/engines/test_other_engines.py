"""SGLang, MLX-LM and Ollama: laws that they share."""

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

ENGINES = ("sglang", "mlx_lm", "ollama")


def size(name: str, t: int, engine: str, sequences: int = 1, kv_dtype: str = "bf16", **settings):
    model = kvcalc.load(name)
    return kvcalc.size(model, tokens=t, sequences=sequences, kv_dtype=kv_dtype, engine=engine, engine_settings=settings)


def fit(name: str, engine: str, available_bytes: object = 40 * 2**30, *, tp: int = 1, pp: int = 1, **settings):
    ranks = kvcalc.Parallel(tp=tp, pp=pp)
    return kvcalc.fit(
        kvcalc.load(name), engine=engine, available_bytes=available_bytes, parallel=ranks, engine_settings=settings
    )


def test_kv_dtype_asks_for_what_a_setting_would():
    by_dtype = size("llama-3.1-8b", 100, "sglang", kv_dtype="fp8")
    assert by_dtype.total_bytes == size("llama-3.1-8b", 100, "sglang", kv_cache_dtype="fp8_e4m3").total_bytes


def test_ranks_share_heads_and_hold_latents_whole():
    ranks = kvcalc.Parallel(tp=16)
    shared, latent = (
        kvcalc.size(kvcalc.load(name), tokens=64, engine="sglang", parallel=ranks) for name in ("llama-3.1-8b", "r1")
    )
    whole = size("llama-3.1-8b", 64, "sglang").total_bytes
    assert {rank.bytes for rank in shared.per_rank} == {whole // 8}  # 8 heads among 16: one each
    assert {rank.bytes for rank in latent.per_rank} == {64 * 61 * 576 * 2}


# Laws over random models --------------------------------------------------------------------------------------------

NEEDS_ENCODER = ("llama-3.2-11b-vision", "llama-3.2-90b-vision", "bart-large", "t5-large")
SHORTER_RING = ("mimo-v2-flash", "mimo-v2.5-pro")
"""Models whose window, as their config has it, is one short of what a query sees; MLX-LM's ring is that long."""
WIDER_INDEX = ("dots3-note-prev",)
"""Models whose own index keys are float32; an engine stores them in the format of the cache."""
BY_NAME = (*SHORTER_RING, *WIDER_INDEX)
TAKES_LESS = {"sglang": ("indexer", "CSA", "HCA", "shared K=V", "pooled")}
TAKES_LESS["mlx_lm"] = ("Mamba", "RG-LRU", "WKV", "Lightning")
"""Layers that an engine may store in fewer bytes than the model's own dtype: index keys, and DeepSeek-V4 and V4.1, in fp8.

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
        if not any(word in group.label for word in TAKES_LESS.get(engine, ())) and model.name not in BY_NAME:
            assert taken >= layer_bytes(needed, t), (model.name, engine, group.name)
        if not any(tensor.name == "pending" for tensor in tensors):  # what waits for its group goes once that closes
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
    least = {"sglang": 118, "mlx_lm": 131, "ollama": 136}
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


@given(st.sampled_from(PLANNED), st.sampled_from(["sglang"]), st.integers(2**33, 2**37))
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


def test_weights_leave_a_share_of_the_memory():
    settings = {"mem_fraction_static": 0.9, "gpu": "h100-80gb"}
    sglang = kvcalc.fit(
        kvcalc.load("llama-3.1-8b"), engine="sglang", weights_bytes=16 * 10**9, engine_settings=settings
    )
    assert sglang.available_bytes == (85_045_477_376 - int(85_045_477_376 * (1 - 0.9)) - 16 * 10**9,)


def test_an_engine_without_a_planner_says_so():
    with pytest.raises(kvcalc.NotApplicableError, match="the engine mlx_lm has no planner") as refusal:
        fit("r1", "mlx_lm")
    assert refusal.value.help
