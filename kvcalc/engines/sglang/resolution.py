"""What SGLang makes of its arguments for one model: the format of its cache, its pages, and which pools it has.

Source: SGLang, server_args.py, arg_groups/, configs/model_config.py, mem_cache/kv_cache_configurator.py.
"""

from __future__ import annotations

from kvcalc.cache.dtypes import BF16, Dtype, dtype_named
from kvcalc.engines.sglang.compressed import PAGE as COMPRESSED_PAGE
from kvcalc.engines.sglang.compressed import V4, V41, Layout, is_compressed
from kvcalc.engines.sglang.settings import AUTO, PAGES, STORED, SglangSettings
from kvcalc.engines.sglang.tensors import HYBRID_TYPES, Rows, has_sparse_latent
from kvcalc.errors import NotApplicableError
from kvcalc.hardware import gpu_named
from kvcalc.model import Model

_BY_KV_DTYPE = {"fp8": "fp8_e4m3", "nvfp4": "nvfp4"}
_ANY_PAGE: tuple[int, ...] = ()
_TRTLLM, _TILELANG = "trtllm", "tilelang"
_DSA_PAGE, _LARGE_PAGE, _FA4_PAGE = 64, 64, 128
_BLACKWELL = 10
_RADIX_STATES = 3
"""States that a running request may hold while prefixes are cached (MAMBA_CACHE_SIZE_MAX_RUNNING_REQUESTS_RATIO)."""


def rows_of(model: Model, settings: SglangSettings, kv_dtype: Dtype) -> Rows:
    """How it stores tokens. Raises NotApplicableError for a format that it refuses."""
    name = cache_dtype(model, settings, kv_dtype)
    model_dtype = kv_dtype if kv_dtype.is_computed_in else BF16
    return Rows(
        dtype=model_dtype if name == AUTO else STORED[name],
        model_dtype=model_dtype,
        scaled_latent=name == "fp8_e4m3" and has_sparse_latent(model) and not _raw_latent(settings),
        page=page_of(model, settings),
        own_windows=has_own_windows(model, settings),
        states=request_states(settings),
        state_dtype=None if settings.mamba_ssm_dtype is None else dtype_named(settings.mamba_ssm_dtype),
        layout=layout_of(settings),
    )


def layout_of(settings: SglangSettings) -> Layout:
    """How entries of DeepSeek-V4 lie in a page (select_dsv4_kv_layout)."""
    return V41 if (gpu_named(settings.gpu).compute_capability or (0, 0))[0] == _BLACKWELL else V4


def cache_dtype(model: Model, settings: SglangSettings, kv_dtype: Dtype) -> str:
    """kv_cache_dtype as SGLang resolves it. Raises NotApplicableError where it refuses the one that is asked for."""
    name = settings.kv_cache_dtype
    if name == AUTO and not kv_dtype.is_computed_in:
        name = _BY_KV_DTYPE.get(kv_dtype.name, "")
    if not name:
        raise NotApplicableError(
            f"SGLang stores no cache in {kv_dtype}",
            help=f"use one of bf16, fp16, fp8, nvfp4, or kv_cache_dtype: {', '.join(STORED)}",
        )
    if is_compressed(model):
        if name not in (AUTO, "fp8_e4m3"):
            raise NotApplicableError(
                f"SGLang keeps DeepSeek-V4 in bytes of a layout of its own, not in {name}",
                help="leave kv_cache_dtype out, or write kv_cache_dtype=fp8_e4m3",
            )
        return "fp8_e4m3"
    if not has_sparse_latent(model):
        return name
    if name == AUTO and _is_blackwell(settings):
        name = "fp8_e4m3"
    if name not in (AUTO, "bf16", "bfloat16", "fp8_e4m3"):
        raise NotApplicableError(
            f"DeepSeek DSA only supports bf16/bfloat16 or fp8_e4m3 kv_cache_dtype, not {name}",
            help="write kv_cache_dtype=fp8_e4m3",
        )
    return name


def _raw_latent(settings: SglangSettings) -> bool:
    """Whether the kernels read a latent in fp8 without scales."""
    backends = (settings.dsa_prefill_backend, settings.dsa_decode_backend)
    if backends == (None, None):
        return _is_blackwell(settings)
    if _TILELANG in backends and set(backends) != {_TILELANG}:
        raise NotApplicableError(
            "CUDA TileLang FP8 KV requires both DSA backends to be tilelang; raw and scaled FP8 KV layouts cannot be "
            "mixed",
            help="set dsa_prefill_backend and dsa_decode_backend alike",
        )
    return _TRTLLM in backends or _TILELANG in backends


def _is_blackwell(settings: SglangSettings) -> bool:
    return (gpu_named(settings.gpu).compute_capability or (0, 0))[0] >= _BLACKWELL


def has_own_windows(model: Model, settings: SglangSettings) -> bool:
    """Whether sliding layers have a pool of their own."""
    types = {model.model_type, model.published.model_type}
    return bool(types & HYBRID_TYPES) and not settings.disable_hybrid_swa_memory


def request_states(settings: SglangSettings) -> int:
    """States that a request may hold."""
    return 1 if settings.disable_radix_cache else _RADIX_STATES


def page_of(model: Model, settings: SglangSettings) -> int:
    """Tokens of a page: as asked for, if the kernels can read it, else theirs."""
    if is_compressed(model):
        return COMPRESSED_PAGE
    if has_sparse_latent(model):
        return _DSA_PAGE
    asked = settings.page_size or 1
    pages = PAGES.get(settings.attention_backend or "", _ANY_PAGE)
    if not pages or asked in pages:
        return asked
    return _FA4_PAGE if settings.attention_backend == "fa4" else _LARGE_PAGE
