"""`kvcalc.fit` and sizes in whole blocks: laws over random models, and what is refused, in which words."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import gqa, mla, other_parts, tokens

import kvcalc
from kvcalc.attention.gated_deltanet import GatedDeltaNet
from kvcalc.attention.kda import KimiDeltaAttention
from kvcalc.attention.mamba import Mamba
from kvcalc.attention.mamba2 import Mamba2
from kvcalc.attention.mla import MultiHeadLatentAttention
from kvcalc.attention.short_conv import ShortConvolution
from kvcalc.model import Model, group_layers
from kvcalc.report.sheet import Line

GPUS = ("h100-80gb", "b200", "a100-80gb", "rtx-4090")
LEAST_BYTES = 40 * 2**30
STATES = (GatedDeltaNet, KimiDeltaAttention, Mamba, Mamba2, ShortConvolution)


WITHOUT_LENGTH = {
    "model_type": "mamba",
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "state_size": 16,
    "vocab_size": 100,
}


SEES_IMAGES_WHOLE = {
    "model_type": "gemma4",
    "vision_config": {},
    "text_config": {
        "model_type": "gemma4_text",
        "num_hidden_layers": 2,
        "layer_types": ["sliding_attention", "full_attention"],
        "hidden_size": 2816,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "num_global_key_value_heads": 2,
        "head_dim": 256,
        "global_head_dim": 512,
        "sliding_window": 1024,
        "attention_k_eq_v": True,
        "max_position_embeddings": 32_768,
        "use_bidirectional_attention": "vision",
    },
}


@cache
def loaded(name: str) -> kvcalc.Model:
    return kvcalc.load(name)


def fit(
    name: str | dict[str, object],
    *,
    tp: int = 1,
    pp: int = 1,
    dcp: int = 1,
    available_bytes: object = LEAST_BYTES,
    **settings,
):
    ranks = kvcalc.Parallel(tp=tp, pp=pp, dcp=dcp)
    model = loaded(name) if isinstance(name, str) else kvcalc.load(name)
    return kvcalc.fit(model, available_bytes=available_bytes, parallel=ranks, engine_settings=settings)


# Laws over random models --------------------------------------------------------------------------------------------


@st.composite
def servable(draw):
    """A model of kinds of layer that vLLM has: one latent or a few kinds of heads, and a few kinds of states."""
    latent = mla().filter(lambda part: isinstance(part, MultiHeadLatentAttention) and not part.reference_window)
    heads = gqa().filter(lambda part: not part.reference_window)
    attention = draw(st.lists(latent, max_size=1) if draw(st.booleans()) else st.lists(heads, max_size=2))
    states = draw(st.lists(other_parts(kinds=STATES), min_size=not attention, max_size=2))
    kinds = [*attention, *states]
    names = [f"kind{i}" for i in range(len(kinds))]
    order = [*names, *draw(st.lists(st.sampled_from(names), max_size=20))]
    return Model("random", group_layers(order, dict(zip(names, kinds, strict=True))), max_model_len=2**20)


def sized(model, t, **settings):
    return kvcalc.size(model, tokens=t, engine="vllm", engine_settings=settings)


@given(servable(), tokens, st.sampled_from(GPUS))
def test_vllm_takes_no_less_than_the_model_needs(model, t, gpu):
    """But for states, which are in the model's dtype unless its class says otherwise (in float32 they are ideal's)."""
    blocks = sized(model, t, gpu=gpu, mamba_ssm_cache_dtype="float32")
    ideal = kvcalc.size(model, tokens=t)
    for group, own in zip(blocks.groups, ideal.groups, strict=True):
        assert group.bytes >= own.bytes


@given(st.sampled_from(("llama-3.1-8b", "qwen2.5-0.5b", "falcon-7b", "r1")), st.integers(1, 8192))
def test_full_attention_wastes_less_than_a_page_of_each_layer(name, t):
    ideal, page_of_each_layer = kvcalc.size(loaded(name), tokens=t), sized(loaded(name), 1)
    assert ideal.total_bytes <= sized(loaded(name), t).total_bytes < ideal.total_bytes + page_of_each_layer.total_bytes


def test_windows_waste_more_since_batches_in_flight_are_reserved():
    """gpt-oss-20b: windows of 128 tokens, and 16,384 in flight on an H100."""
    model, t = loaded("gpt-oss-20b"), 8192
    wasted = sized(model, t).total_bytes - kvcalc.size(model, tokens=t).total_bytes
    assert wasted > sized(model, 1).total_bytes


def test_an_indexer_takes_less_than_the_model_needs():
    """Its keys are in fp8 with a scale, whatever the cache is in: 132 bytes for 256."""
    model = loaded("deepseek-v3.2")
    index, latent = sized(model, 64).groups[0].tensors
    *own_latent, own_index = kvcalc.size(model, tokens=64).groups[0].tensors
    assert (index.name, index.bytes) == ("indexer", 61 * 64 * 132)
    assert latent.bytes == sum(tensor.bytes for tensor in own_latent)
    assert own_index.bytes == 61 * 64 * 256


@given(servable(), tokens)
def test_a_longer_request_never_takes_less(model, t):
    assert sized(model, t).total_bytes <= sized(model, t + 1).total_bytes


FAMILIES = ("llama-3.1-8b", "gpt-oss-20b", "qwen3-next-80b-a3b", "deepseek-v3.2", "deepseek-v4-flash", "lfm2-1.2b")


@given(st.sampled_from(FAMILIES), st.sampled_from(GPUS[:2]), st.integers(2**29, 2**34), st.sampled_from([1, 2]))
def test_the_longest_request_fits_and_one_token_more_does_not(name, gpu, available_bytes, pp):
    """What is left beside the null block holds max_model_len tokens, and no more, unless the model ends there."""
    model = loaded(name)
    question = {"available_bytes": available_bytes, "parallel": kvcalc.Parallel(pp=pp)}
    try:
        report = kvcalc.fit(model, engine_settings={"gpu": gpu, "max_model_len": -1}, **question)
    except kvcalc.NotApplicableError:
        assume(False)
    spare = [have - block for have, block in zip(report.available_bytes, report.bytes_per_block, strict=True)]
    assert all(need <= left for need, left in zip(report.request_bytes, spare, strict=True))
    assert all(took <= available_bytes for took in report.allocated_bytes)
    if report.max_model_len < model.max_model_len:
        with pytest.raises(kvcalc.NotApplicableError, match="larger than the available KV cache memory"):
            kvcalc.fit(model, engine_settings={"gpu": gpu, "max_model_len": report.max_model_len + 1}, **question)


@given(st.sampled_from(FAMILIES), st.integers(2**34, 2**37))
def test_more_memory_is_never_fewer_blocks(name, available_bytes):
    less, more = (fit(name, available_bytes=n, max_model_len=4096) for n in (available_bytes, 2 * available_bytes))
    assert less.num_blocks <= more.num_blocks // 2 + 1 <= more.num_blocks
    assert less.tokens <= more.tokens


@given(st.sampled_from(FAMILIES), tokens)
def test_what_a_request_takes_of_its_layers_is_within_what_it_takes_of_the_pool(name, t):
    """Groups with fewer layers than the largest leave bytes of their blocks unused; no layer takes them twice."""
    model = loaded(name)
    length = min(t, model.max_model_len)
    report = fit(name, available_bytes=2**42, max_model_len=length)
    assert sized(model, length, max_model_len=length).total_bytes <= sum(report.request_bytes)


def test_a_model_of_one_kind_wastes_nothing_of_the_pool():
    report = fit("llama-3.1-8b", max_model_len=10_001)
    assert sized(loaded("llama-3.1-8b"), 10_001).total_bytes == sum(report.request_bytes) == 626 * 2_097_152


# Memory -------------------------------------------------------------------------------------------------------------


def test_memory_is_a_share_of_the_gpu_less_the_weights():
    model, settings = loaded("llama-3.1-8b"), {"gpu": "h100-80gb", "gpu_memory_utilization": 0.9}
    report = kvcalc.fit(model, weights_bytes=16 * 10**9, other_bytes=2**30, engine_settings=settings)
    # ceil(85,045,477,376 x 0.9) = 76,540,929,639, vLLM's own product
    assert report.available_bytes == (76_540_929_639 - 16 * 10**9 - 2**30,)
    assert report.num_blocks == report.available_bytes[0] // 2_097_152


def test_kv_cache_memory_bytes_is_the_memory():
    settings = {"kv_cache_memory_bytes": 20 * 2**30}
    assert kvcalc.fit(loaded("llama-3.1-8b"), engine_settings=settings).num_blocks == 10_240


def test_an_override_is_the_number_of_blocks():
    report = fit("llama-3.1-8b", available_bytes=1, num_gpu_blocks_override=9000)
    assert (report.num_blocks, report.tokens) == (9000, 144_000)


def test_each_stage_has_memory_of_its_own_and_the_least_decides():
    report = fit("r1", tp=8, pp=2, available_bytes=[20 * 2**30, 10 * 2**30], max_model_len=32_768)
    assert report.bytes_per_block == (571_392, 552_960)
    assert report.num_blocks == 10 * 2**30 // 552_960


def test_the_layers_of_stages_may_be_given():
    report = fit("r1", tp=8, pp=2, max_model_len=32_768, pp_layer_partition=[40, 21])
    assert report.bytes_per_block == (40 * 18_432, 21 * 18_432)


def test_a_report_speaks_as_the_log_does():
    report = fit("r1", tp=8, available_bytes=20 * 2**30, max_model_len=32_768)
    line = "GPU KV cache size: 305,584 tokens, Maximum concurrency for 32,768 tokens per request: 9.33x"
    assert report.log_line == report.to_dict()["log_line"] == line
    (sheet,) = report.sheets()
    assert sheet.title == "deepseek-r1 in vllm 0.33.0 on h100-80gb, TP 8"
    assert sheet.lines[0] == Line("total", line, "answer")
    assert sheet.rows == (("61", "mla_attention", "attn", 16, "18,432", 2048),)


def test_a_size_tells_pages_from_their_padding():
    report = kvcalc.size(loaded("nemotron-h-8b"), tokens=8192, engine="vllm")
    states, padding = report.groups[0].tensors
    assert (states.bytes_per_slot, padding.name, padding.bytes_per_slot) == (4_255_744, "states padding", 4096)


def test_a_size_takes_kv_dtype_for_kv_cache_dtype():
    model = loaded("llama-3.1-8b")
    in_fp8 = kvcalc.size(model, tokens=1, kv_dtype="fp8", engine="vllm")
    assert in_fp8.total_bytes == sized(model, 1, kv_cache_dtype="fp8").total_bytes == 1_048_576


def test_draft_layers_are_cached_and_widen_hybrids():
    """Qwen3-Next with its draft layer: 36 + 13 layers in groups of 13 (vLLM pads the three groups of states)."""
    report = fit("qwen3-next-80b-a3b", speculative={"method": "mtp", "num_speculative_tokens": 2}, max_model_len=4096)
    assert [len(group.layers) for group in report.groups] == [12, 12, 12, 13]
    assert [group.blocks_per_request for group in report.groups[:3]] == [5, 5, 5]  # 2, a checkpoint and 2 drafts


def test_a_draft_layer_may_have_a_window():
    """MiMo-V2-Flash's config does not mention its draft layer, which vLLM gives a window (mimo_v2_mtp.py)."""
    report = fit("mimo-v2-flash", tp=8, speculative={"method": "mtp"}, max_model_len=4096)
    assert sum(len(group.layers) for group in report.groups if group.kind == "sliding_window") == 40


def test_glm_drafts_have_an_indexer_of_their_own():
    """GLM-5.2 shares the indices of 21 layers among 78; its draft layer makes its own (vLLM deepseek_v2.py)."""
    report = fit("glm-5.2", tp=8, speculative={"method": "mtp"}, max_model_len=4096)
    (group,) = report.groups
    assert len(group.layers) == 78 + 21 + 2


def test_gemma_4_reads_blocks_of_64_tokens_where_two_kernels_share_a_layer():
    """On Blackwell images are Triton's and the rest FlashInfer's (triton_flashinfer.py); pages of windows hold 128."""
    report = fit(SEES_IMAGES_WHOLE, gpu="b200")
    assert dict(report.resolved)["attention_backends"] == ["TRITON_FLASHINFER"]
    assert [(g.kind, g.block_size) for g in report.groups] == [("sliding_window", 64), ("full_attention", 128)]
    assert [fit(SEES_IMAGES_WHOLE, gpu=gpu).block_size for gpu in ("h100-80gb", "rtx-5090")] == [16, 16]
    assert fit(SEES_IMAGES_WHOLE, kv_cache_dtype="fp8").block_size == 64  # pages of FlashAttention 4 for heads of 512


def test_sparse_latents_of_few_heads_have_kernels_of_their_own_on_blackwell():
    """FlashAttention 4 up to 16 heads on a rank (64 that share tokens), then FlashInfer's (platforms/cuda.py)."""
    chosen = [dict(fit("deepseek-v3.2", tp=tp, dcp=dcp, gpu="b200").resolved) for tp, dcp in ((8, 1), (8, 8), (4, 1))]
    kernels = [names["attention_backends"][-1] for names in chosen]
    assert kernels == ["FLASH_ATTN_MLA_SPARSE_FA4", "FLASHINFER_MLA_SPARSE", "FLASHMLA_SPARSE"]


def test_a_config_that_names_no_length_allows_any():
    """state-spaces/mamba-2.8b: 2,048 where nobody asks, else what is asked (config/model.py, _get_and_verify_max_len)."""
    assert [fit(WITHOUT_LENGTH, max_model_len=asked).max_model_len for asked in (None, 32_768)] == [2048, 32_768]


# What is refused ----------------------------------------------------------------------------------------------------

REFUSALS = {
    "more tokens than the model has positions": (
        lambda: fit("llama-3.1-8b", max_model_len=131_073),
        "User-specified max_model_len (131073) is greater than the derived max_model_len (131072)",
    ),
    "heads that ranks cannot share": (
        lambda: fit("llama-3.1-8b", tp=3),
        "Total number of attention heads (32) must be divisible by tensor parallel size (3)",
    ),
    "KV heads that ranks cannot share": (
        lambda: fit("qwen2.5-0.5b", tp=7),
        "vLLM cannot share 2 KV heads among tensor parallel size 7",
    ),
    "token ranks that do not divide the others": (
        lambda: fit("r1", tp=8, dcp=3),
        "tp_size=8 must be divisible by dcp_size=3",
    ),
    "token ranks without copies of heads": (
        lambda: fit("llama-3.1-8b", tp=8, dcp=2),
        "Decode context parallelism for GQA/MQA shares the 8 tensor parallel ranks of 8 KV heads, which is less than "
        "--decode-context-parallel-size 2 copies of each",
    ),
    "windows shared by token ranks": (
        lambda: fit("gpt-oss-20b", tp=16, dcp=2),
        "vLLM cannot divide sliding windows by decode context parallelism (dcp 2)",
    ),
    "stages of a model that has none": (
        lambda: fit("whisper-large-v3", pp=2),
        "Pipeline parallelism is not supported for this model (whisper)",
    ),
    "a stage without a cache": (
        lambda: fit("nemotron-h-8b", pp=52),
        "pipeline stage 1 has no layer with a cache",
    ),
    "a partition of other layers": (
        lambda: fit("r1", tp=8, pp=2, pp_layer_partition=[40, 20]),
        "pp_layer_partition (40, 20) must give 2 stages with 61 layers in total",
    ),
    "a format of another dtype": (
        lambda: fit("llama-3.1-8b", kv_cache_dtype="float16"),
        'kv_cache_dtype="float16" is incompatible with dtype="bfloat16"',
    ),
    "nvfp4 of a latent": (
        lambda: fit("r1", kv_cache_dtype="nvfp4"),
        "nvfp4 KV cache is not supported with MLA (Multi-head Latent Attention) backends",
    ),
    "fp8 that old kernels cannot read": (
        lambda: fit("gpt-oss-20b", gpu="a100-80gb", kv_cache_dtype="fp8"),
        "FP8 KV cache is not supported by the Triton attention backend on compute capability 8.0; native FP8 (fp8e4nv) "
        "requires SM89+",
    ),
    "DeepSeek-V4 in bf16": (
        lambda: fit("deepseek-v4-flash", kv_cache_dtype="bfloat16"),
        "DeepseekV4 fp8_ds_mla layout only supports fp8 kv-cache, got bfloat16",
    ),
    "DeepSeek-V4 on other kernels": (
        lambda: fit("deepseek-v4-flash", gpu="rtx-5090"),
        "vLLM's kernels for DeepSeek-V4 need compute capability 9 or 10, but rtx-5090 has 12.0",
    ),
    "a block that kernels cannot read": (
        lambda: fit("deepseek-v3.2", tp=8, block_size=32),
        "No valid attention backend found for compute capability 9.0 with head_size=576",
    ),
    "a sparse latent in bf16 that ranks share": (
        lambda: fit("deepseek-v3.2", tp=8, dcp=8),
        "DCP for FlashMLA sparse requires an fp8_ds_mla kv-cache; the bf16 sparse path is not supported under DCP",
    ),
    "TurboQuant of windows": (
        lambda: fit("mistral-7b-v0.1", kv_cache_dtype="turboquant_k8v4"),
        "No valid attention backend found for compute capability 9.0 with head_size=128, "
        "kv_cache_dtype=turboquant_k8v4",
    ),
    "states whose groups ranks cannot share": (
        lambda: fit("nemotron-h-8b", tp=16),
        "If tensor parallel world size (16) does not divide num_groups (8), then num_groups must equal 1",
    ),
    "the longest length of a config that names none": (
        lambda: fit(WITHOUT_LENGTH, max_model_len=-1),
        "max_model_len must be a positive integer, got int: -1",
    ),
    "a GPU of another make": (
        lambda: fit("r1", gpu="mi300x"),
        "mi300x is not an NVIDIA GPU; kvcalc models vLLM's NVIDIA kernels only",
    ),
    "a GPU of before Volta": (
        lambda: fit("r1", gpu="p40"),
        "p40 has compute capability 6.1, but kvcalc models vLLM's kernels only from 7.0 on",
    ),
    "any device of a size": (
        lambda: fit("r1", gpu="64GB"),
        "64GB device is not known to be an NVIDIA GPU; kvcalc models vLLM's NVIDIA kernels only",
    ),
    "drafts of a model that has none": (
        lambda: fit("llama-3.1-8b", speculative={"method": "mtp", "num_speculative_tokens": 1}),
        "llama-3.1-8b has no multi-token-prediction layers for speculative method 'mtp'",
    ),
    "drafts of another model": (
        lambda: fit("llama-3.1-8b", speculative={"method": "eagle3", "num_speculative_tokens": 3}),
        "the layers of the draft model of speculative method 'eagle3' are not in this model's config",
    ),
    "layers that vLLM does not have": (
        lambda: fit("rwkv-4-7b", max_model_len=1024),
        "vLLM 0.33.0 has no cache for the RWKV layers of rwkv-4-7b",
    ),
    "what a method left": (
        lambda: kvcalc.fit(kvcalc.apply_method(loaded("llama-3.1-8b"), "streaming-llm"), available_bytes=2**30),
        "vLLM 0.33.0 does not support methods that change the cache of all layers of llama-3.1-8b with StreamingLLM",
    ),
    "no memory for one token": (
        lambda: fit("llama-3.1-8b", available_bytes=2**20, max_model_len=-1),
        "Cannot auto-fit max_model_len: not enough GPU memory available to serve even a single token",
    ),
    "weights larger than the GPU": (
        lambda: kvcalc.fit(loaded("r1"), weights_bytes=10**12),
        "weights (1,000,000,000,000 bytes (1.00 TB, 931.32 GiB)) and the rest (0 bytes) leave nothing of the 78,241,839,186 bytes (78.24 GB, 72.87 GiB) that vllm uses of h100-80gb",
    ),
    "batches shorter than an encoder's prompt": (
        lambda: fit("whisper-large-v3", max_num_batched_tokens=100, max_model_len=448),
        "max_num_batched_tokens (100) is smaller than max_model_len (448), and prompts of a model with an encoder are "
        "not read in chunks",
    ),
}
BAD_VALUES = {
    "no memory": (lambda: kvcalc.fit(loaded("r1")), "memory for the cache unknown"),
    "memory said twice": (
        lambda: fit("r1", kv_cache_memory_bytes=1),
        "kv_cache_memory_bytes and available_bytes both give the memory of the cache",
    ),
    "memory of other stages": (
        lambda: fit("r1", available_bytes=[1, 2]),
        "available_bytes must be a number of bytes, or one per pipeline stage (1), not [1, 2]",
    ),
    "memory that is no whole number": (
        lambda: fit("r1", available_bytes=1.5),
        "available_bytes must be a number of bytes, or one per pipeline stage (1), not 1.5",
    ),
    "not a model": (
        lambda: kvcalc.fit(1, available_bytes=1),
        "a model is a preset's name, a path or a mapping, not 1",
    ),
    "a usage": (lambda: fit("r1", usage="batch"), "usage must be one of server, llm, not 'batch'"),
    "a share": (
        lambda: fit("r1", gpu_memory_utilization=92),
        "gpu_memory_utilization must be above 0 and at most 1, not 92",
    ),
    "a flag": (
        lambda: fit("r1", enable_prefix_caching="maybe"),
        "enable_prefix_caching must be true or false, not 'maybe'",
    ),
    "a length": (lambda: fit("r1", max_model_len=0), "max_model_len must be at least 1, not 0"),
    "a list": (lambda: fit("r1", pp_layer_partition=30), "pp_layer_partition must be a list, not 30"),
    "a mapping": (lambda: fit("r1", speculative="mtp"), "speculative must be a mapping, not 'mtp'"),
    "drafts": (
        lambda: fit("r1", speculative={"method": "ngram"}),
        "num_speculative_tokens must be a whole number of at least 1, not None",
    ),
    "a length that nobody knows": (
        lambda: fit("gemma-3-27b"),
        "the context of gemma-3-27b is unknown",
    ),
    "ranks that a size cannot tell": (
        lambda: kvcalc.size(loaded("r1"), tokens=1, parallel=kvcalc.Parallel(tp=8, dcp=8)),
        "how dcp (8) ranks divide tokens depends on an engine's blocks",
    ),
}


@pytest.mark.parametrize(("ask", "what"), REFUSALS.values(), ids=list(REFUSALS))
def test_what_vllm_refuses_is_refused_in_its_words(ask, what):
    with pytest.raises(kvcalc.NotApplicableError if "partition" not in what else kvcalc.InvalidValueError) as error:
        ask()
    assert str(error.value).startswith(what)
    assert error.value.help


@pytest.mark.parametrize(("ask", "what"), BAD_VALUES.values(), ids=list(BAD_VALUES))
def test_bad_values_are_named(ask, what):
    with pytest.raises(kvcalc.InvalidValueError) as error:
        ask()
    assert error.value.what == what
    assert error.value.help


def test_unknown_names_are_refused_with_the_nearest():
    with pytest.raises(kvcalc.UnknownNameError, match="no GPU is called 'h1000'") as gpu:
        fit("r1", gpu="h1000")
    assert "h100" in gpu.value.help
    with pytest.raises(kvcalc.UnknownNameError, match="no kv_cache_dtype of vLLM is called 'fp8_e4m4'"):
        fit("r1", kv_cache_dtype="fp8_e4m4")
    with pytest.raises(kvcalc.NotApplicableError, match="the engine ideal has no planner"):
        kvcalc.fit(loaded("r1"), engine="ideal", available_bytes=1)


@pytest.mark.parametrize(
    ("name", "ranks", "each"),
    [
        # blocks of 16 tokens on each of the ranks that share them x bytes of a token x layers
        ("r1", kvcalc.Parallel(tp=8, dcp=8), [782 * 16 * 576 * 2 * 61]),
        ("r1", kvcalc.Parallel(tp=8), [6250 * 16 * 576 * 2 * 61]),
        ("llama-3-70b", kvcalc.Parallel(tp=16, dcp=2), [3125 * 16 * 2 * 128 * 2 * 80]),
        # 61 layers on 4 stages: one more on the last but one
        ("r1", kvcalc.Parallel(pp=4), [6250 * 16 * 576 * 2 * layers for layers in (15, 15, 16, 15)]),
    ],
)
def test_a_size_says_what_each_rank_of_vllm_takes_for_a_request(name, ranks, each):
    model = loaded(name)
    report = kvcalc.size(model, tokens=100_000, engine="vllm", parallel=ranks)
    assert [rank.bytes for rank in report.per_rank if not rank.tp_rank] == each
    assert report.to_dict()["parallel"].get("dcp", 1) == ranks.dcp
    if model.max_model_len >= 100_000:
        planned = kvcalc.fit(
            model, engine="vllm", available_bytes=2**40, parallel=ranks, engine_settings={"max_model_len": 100_000}
        )
        assert [planned.request_blocks * bytes_ for bytes_ in planned.bytes_per_block] == each
