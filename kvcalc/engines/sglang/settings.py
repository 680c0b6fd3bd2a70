"""Arguments of SGLang's server, and the values that they may have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kvcalc.cache.dtypes import BF16, FP8, Dtype, dtype_named
from kvcalc.engines.base import Engine
from kvcalc.engines.base.devices import known_device
from kvcalc.engines.base.settings import count_from, flag, mapping, number_above_zero, one_of, setting, share
from kvcalc.engines.sglang.versions import SglangRelease

AUTO = "auto"
HOST_POOL = "host_pool"
"""Where a decode side keeps retracted requests: in a separate pool on the host."""
UNCHUNKED = -1
"""chunked_prefill_size for prompts read at once."""
_MXFP8 = Dtype("mxfp8", 32, 33, "fp8 and a scale of one byte for 32")
STORED = {
    **{"bf16": BF16, "bfloat16": BF16, "fp8_e5m2": FP8, "fp8_e4m3": FP8, "mxfp8": _MXFP8},
    **{"nvfp4": dtype_named("nvfp4"), "fp4_mx_block16": dtype_named("nvfp4")._replace(name="fp4_mx_block16")},
}
FP4 = ("nvfp4", "fp4_mx_block16")
PAGES = {
    **{"flashmla": (64,), "hpc_ops": (64,), "trtllm_mla": (64, 32), "cutedsl_mla": (64, 32)},
    "trtllm_mha": (64, 16, 32, 128),
}
"""Page sizes that a backend can read; the first replaces any other."""
BACKENDS = ("flashinfer", "fa3", "fa4", "triton", "torch_native", "cutlass_mla", "flex_attention", "dsa", *PAGES)
DSA_BACKENDS = ("flashmla_sparse", "flashmla_kv", "flashmla_auto", "fa3", "tilelang", "trtllm")
_STATE_DTYPES = ("float32", "bfloat16", "float16")
EXTRA_BUFFER, EXTRA_BUFFER_LAZY, NO_BUFFER = "extra_buffer", "extra_buffer_lazy", "no_buffer"
STRATEGIES = (AUTO, EXTRA_BUFFER, EXTRA_BUFFER_LAZY, NO_BUFFER)
OWN = ("EAGLE", "NEXTN")
"""Methods that draft with the model's own layers, if no other checkpoint is named."""
STANDALONE, DFLASH = "STANDALONE", "DFLASH"
ALGORITHMS = (*OWN, "EAGLE3", STANDALONE, DFLASH)


@dataclass(frozen=True)
class SglangSettings(Engine):
    """Arguments of `sglang serve`, named and defaulted as SGLang names them, and the GPU that it runs on."""

    RELEASE = SglangRelease

    version: str = setting(SglangRelease.newest(), "version of SGLang")
    gpu: str = setting(
        "h100-80gb",
        "a name listed by `kvcalc gpus`; from Blackwell on, sparse latents are cached in fp8 by default",
    )
    kv_cache_dtype: str = setting(
        AUTO,
        "auto (the model's, or kv_dtype), bf16, bfloat16, fp8_e4m3, fp8_e5m2, mxfp8, nvfp4 or fp4_mx_block16",
    )
    page_size: int | None = setting(None, "tokens of a page; default: 1, or the backend's requirement")
    attention_backend: str | None = setting(
        None, "one that changes the page size, or any other; default: SGLang's choice for the model and the GPU"
    )
    dsa_prefill_backend: str | None = setting(
        None,
        "kernels of sparse latents; with trtllm, or tilelang for both, a latent in fp8 has no scales; default: trtllm "
        "from Blackwell on",
    )
    dsa_decode_backend: str | None = setting(None, "the same for decoding")
    mem_fraction_static: float | None = setting(
        None, "share of the free memory for weights and caches together; default: SGLang's own estimate of the rest"
    )
    max_total_tokens: int | None = setting(None, "most tokens of the pools")
    context_length: int | None = setting(None, "tokens of a model without a cache")
    swa_full_tokens_ratio: float | None = setting(
        None, "ratio of tokens in the sliding pool to the full one; default: 0.8, for DeepSeek-V4 0.1"
    )
    disable_hybrid_swa_memory: bool = setting(False, "sliding layers in the full pool")
    disable_radix_cache: bool = setting(False, "keep no prefixes, so that a request has one state instead of 3 to 5")
    disable_overlap_schedule: bool = setting(
        False, "one prefill chunk and one tracked state at a time; pipeline stages turn it on"
    )
    max_running_requests: int | None = setting(
        None,
        "concurrent requests; default: as many as tokens and states allow, at most 4,096, with drafts 48, for "
        "DeepSeek-V4 256. Without the radix cache it sizes the sliding pool and the Mamba pool",
    )
    chunked_prefill_size: int | None = setting(
        None, "prompt tokens of a prefill step, -1 for all; default: 2,048 to 16,384 by the GPU's memory"
    )
    max_mamba_cache_size: int | None = setting(None, "states of the Mamba pool; default: by mamba_full_memory_ratio")
    mamba_full_memory_ratio: float | None = setting(
        None, "ratio of state memory to token memory; default: 0.9, for Inkling 0.1"
    )
    mamba_radix_cache_strategy: str = setting(
        AUTO, "how states of prefixes are kept: auto, extra_buffer, extra_buffer_lazy or no_buffer"
    )
    mamba_ssm_dtype: str | None = setting(
        None, "dtype of recurrent states; default: from the model's config, else float32"
    )
    speculative_algorithm: str | None = setting(
        None,
        "EAGLE or NEXTN, which draft with the model's own layers or another checkpoint, EAGLE3, STANDALONE or DFLASH, "
        "which draft with another; default: EAGLE if the model's own are counted (--mtp)",
    )
    speculative_draft_model_path: str | None = setting(None, "another checkpoint that drafts: a name or a path")
    speculative_draft_kv_cache_dtype: str | None = setting(None, "format of its pool; default: kv_cache_dtype")
    speculative_num_steps: int | None = setting(None, "tokens drafted in sequence; default: 3, of Llama 5; DFLASH: 1")
    speculative_eagle_topk: int | None = setting(None, "branches of a draft; default: 1, of Llama 4")
    speculative_num_draft_tokens: int | None = setting(
        None, "tokens verified at once; default: steps plus one, of Llama 8, and DFLASH the draft's block_size"
    )
    enable_hierarchical_cache: bool = setting(False, "HiCache: a copy of the pools in host memory, per rank")
    hicache_ratio: float | None = setting(
        None, "ratio of host pools to device pools; default: 2, in buffer_only mode 1.2, or what fits on the host"
    )
    hicache_size: int = setting(0, "GB (10^9 bytes) of host memory per rank, instead of the ratio")
    hicache_host_memory_mode: str = setting("cache", "cache, or buffer_only before a storage backend")
    enable_lmcache: bool = setting(False, "LMCache instead of HiCache")
    lmcache: Mapping[str, object] | None = setting(
        None, "LMCache's own configuration: max_local_cpu_size, max_local_disk_size, in GiB per rank"
    )
    disaggregation_mode: str = setting("null", "null, prefill, or decode, whose host keeps retracted requests")
    disaggregation_decode_enable_offload_kvcache: bool = setting(
        False, "the decode side copies its cache to host memory on its way to a storage backend"
    )
    disaggregation_decode_retraction_backup: str | None = setting(
        None, "where the decode side keeps retracted requests: host_pool, cpu_tensor or none; default: by the cache"
    )
    disable_cuda_graph: bool = setting(False, "no CUDA graphs, so mem_fraction_static leaves no room for them")

    def __post_init__(self) -> None:
        known_device(type(self), self.gpu)
        one_of(self.kv_cache_dtype, "kv_cache_dtype", (AUTO, *STORED))
        for field, value, choices in (
            ("attention_backend", self.attention_backend, BACKENDS),
            ("dsa_prefill_backend", self.dsa_prefill_backend, DSA_BACKENDS),
            ("dsa_decode_backend", self.dsa_decode_backend, DSA_BACKENDS),
            ("mamba_ssm_dtype", self.mamba_ssm_dtype, _STATE_DTYPES),
            ("speculative_algorithm", self.speculative_algorithm, ALGORITHMS),
            ("speculative_draft_kv_cache_dtype", self.speculative_draft_kv_cache_dtype, (AUTO, *STORED)),
            ("mamba_radix_cache_strategy", self.mamba_radix_cache_strategy, STRATEGIES),
        ):
            if value is not None:
                one_of(value, field, choices)
        self._check_counts()
        for field, part, example in (
            ("mem_fraction_static", self.mem_fraction_static, 0.85),
            ("swa_full_tokens_ratio", self.swa_full_tokens_ratio, 0.8),
        ):
            if part is not None:
                share(part, field, example)
        for field in ("disable_hybrid_swa_memory", "disable_radix_cache", "disable_overlap_schedule"):
            flag(getattr(self, field), field)
        mapping(self.lmcache, "lmcache", "{max_local_cpu_size: 20}")
        for field in ("disable_cuda_graph", "enable_hierarchical_cache", "enable_lmcache"):
            flag(getattr(self, field), field)
        one_of(self.disaggregation_mode, "disaggregation_mode", ("null", "prefill", "decode"))
        flag(self.disaggregation_decode_enable_offload_kvcache, "disaggregation_decode_enable_offload_kvcache")
        if self.disaggregation_decode_retraction_backup is not None:
            field = "disaggregation_decode_retraction_backup"
            one_of(self.disaggregation_decode_retraction_backup, field, (HOST_POOL, "cpu_tensor", "none"))
        one_of(self.hicache_host_memory_mode, "hicache_host_memory_mode", ("cache", "buffer_only"))
        number_above_zero(self.hicache_ratio, "hicache_ratio")
        number_above_zero(self.mamba_full_memory_ratio, "mamba_full_memory_ratio")
        count_from(self.hicache_size, "hicache_size", 0)

    def _check_counts(self) -> None:
        for field, value in (
            ("page_size", self.page_size),
            ("max_total_tokens", self.max_total_tokens),
            ("context_length", self.context_length),
            ("max_running_requests", self.max_running_requests),
            ("max_mamba_cache_size", self.max_mamba_cache_size),
            ("speculative_num_steps", self.speculative_num_steps),
            ("speculative_eagle_topk", self.speculative_eagle_topk),
            ("speculative_num_draft_tokens", self.speculative_num_draft_tokens),
        ):
            count_from(value, field, 1)
        if self.chunked_prefill_size != UNCHUNKED:
            count_from(self.chunked_prefill_size, "chunked_prefill_size", 1)
