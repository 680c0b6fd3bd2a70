"""Arguments of SGLang's server, and the values that they may have."""

from __future__ import annotations

from dataclasses import dataclass

from kvcalc.dtypes import BF16, FP8, Dtype, dtype_named
from kvcalc.engines import count_from, one_of
from kvcalc.engines._checks import flag, share
from kvcalc.hardware import gpu_named

AUTO = "auto"
_MXFP8 = Dtype("mxfp8", 32, 33, "fp8 and a scale of one byte for 32")
STORED = {
    **{"bf16": BF16, "bfloat16": BF16, "fp8_e5m2": FP8, "fp8_e4m3": FP8, "mxfp8": _MXFP8},
    **{"nvfp4": dtype_named("nvfp4"), "fp4_mx_block16": dtype_named("nvfp4")._replace(name="fp4_mx_block16")},
}
FP4 = ("nvfp4", "fp4_mx_block16")
PAGES = {
    **{"flashmla": (64,), "hpc_ops": (64,), "trtllm_mla": (32, 64), "cutedsl_mla": (32, 64)},
    **{"trtllm_mha": (16, 32, 64, 128), "fa4": (128,)},
}
"""Page sizes that a backend can read; the first choice where another is asked for is 64, of fa4 128."""
BACKENDS = ("flashinfer", "fa3", "triton", "torch_native", "cutlass_mla", "flex_attention", "dsa", *PAGES)
DSA_BACKENDS = ("flashmla_sparse", "flashmla_kv", "flashmla_auto", "fa3", "tilelang", "trtllm")
_STATE_DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Settings:
    """Arguments of `sglang serve`, named and defaulted as SGLang 0.5.23 names them, and the GPU that it runs on.

    gpu: a name of presets/gpus.yaml; from Blackwell on, sparse latents are cached in fp8 unless told otherwise.
    kv_cache_dtype: auto (the model's, or size's kv_dtype), bf16, bfloat16, fp8_e4m3, fp8_e5m2, mxfp8, nvfp4,
    fp4_mx_block16.
    page_size: tokens of a page; None: 1, or what the backend insists on.
    attention_backend: of those that change the page size, or any other; None: SGLang's choice, with pages of 1.
    dsa_prefill_backend, dsa_decode_backend: kernels of sparse latents; with `trtllm`, or tilelang for both, a latent in
    fp8 has no scales. None: trtllm from Blackwell on.
    mem_fraction_static: share of the free memory for weights and caches together.
    max_total_tokens: most tokens of the pools. context_length: tokens of a model that caches none.
    swa_full_tokens_ratio: tokens of the sliding pool for each of the full one; None: 0.8, of DeepSeek-V4 0.1.
    disable_hybrid_swa_memory: sliding layers in the full pool.
    disable_radix_cache: no prefixes are kept, so that a request has one state and not 3.
    max_running_requests, chunked_prefill_size: without the radix cache they size the sliding pool and the Mamba pool;
    requests (None: 256) always size states of DeepSeek-V4.
    max_mamba_cache_size: states of the Mamba pool; None: as mamba_full_memory_ratio, states to tokens, makes it.
    mamba_ssm_dtype: of recurrent states; None: as the model's config says, float32 where it does not.
    """

    gpu: str = "h100-80gb"
    kv_cache_dtype: str = AUTO
    page_size: int | None = None
    attention_backend: str | None = None
    dsa_prefill_backend: str | None = None
    dsa_decode_backend: str | None = None
    mem_fraction_static: float | None = None
    max_total_tokens: int | None = None
    context_length: int | None = None
    swa_full_tokens_ratio: float | None = None
    disable_hybrid_swa_memory: bool = False
    disable_radix_cache: bool = False
    max_running_requests: int | None = None
    chunked_prefill_size: int | None = None
    max_mamba_cache_size: int | None = None
    mamba_full_memory_ratio: float = 0.9
    mamba_ssm_dtype: str | None = None

    def __post_init__(self) -> None:
        gpu_named(self.gpu)
        one_of(self.kv_cache_dtype, "kv_cache_dtype", (AUTO, *STORED))
        for field, choices in (
            ("attention_backend", BACKENDS),
            ("dsa_prefill_backend", DSA_BACKENDS),
            ("dsa_decode_backend", DSA_BACKENDS),
            ("mamba_ssm_dtype", _STATE_DTYPES),
        ):
            if getattr(self, field) is not None:
                one_of(getattr(self, field), field, choices)
        for field in ("page_size", "max_total_tokens", "context_length", "max_running_requests"):
            count_from(getattr(self, field), field, 1)
        for field in ("chunked_prefill_size", "max_mamba_cache_size"):
            count_from(getattr(self, field), field, 1)
        for field, example in (("mem_fraction_static", 0.85), ("swa_full_tokens_ratio", 0.8)):
            if getattr(self, field) is not None:
                share(getattr(self, field), field, example)
        share(self.mamba_full_memory_ratio, "mamba_full_memory_ratio", 0.9)
        for field in ("disable_hybrid_swa_memory", "disable_radix_cache"):
            flag(getattr(self, field), field)
