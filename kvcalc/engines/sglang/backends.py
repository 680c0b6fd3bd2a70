"""SGLang's default attention kernels, and their page sizes.

On GPUs of compute capability 10.x (B200, B300) most models get TensorRT-LLM's kernels, which read pages of 64, or
FlashAttention 4, which reads pages of 128; elsewhere pages have 1 token, except MiniMax-M3's on Hopper.
Source: SGLang, arg_groups/model_override_base.py (get_default_attn_backend), arg_groups/model_overrides/,
arg_groups/overrides.py (_mla_backend_page_constraints, _fa4_page_constraint, _page_size_default).
"""

from __future__ import annotations

from kvcalc.attention.gqa import GroupedQueryAttention
from kvcalc.attention.indexer import Indexer
from kvcalc.attention.mla import MultiHeadLatentAttention
from kvcalc.engines.sglang.compressed import PAGE as COMPRESSED_PAGE
from kvcalc.engines.sglang.compressed import is_compressed
from kvcalc.engines.sglang.settings import PAGES, SglangSettings
from kvcalc.engines.sglang.tensors import has_sparse_latent, has_states, pooled_tokens
from kvcalc.engines.sglang.types import INKLING, QWEN_HYBRIDS, TRTLLM_LATENTS, is_of, type_of
from kvcalc.hardware import gpu_named
from kvcalc.model import Model

HOPPER, BLACKWELL = 9, 10
_FA3, _FA4, _FLASHINFER, _TRITON, _OTHER = "fa3", "fa4", "flashinfer", "triton", ""
_TRTLLM_MHA, _TRTLLM_MLA = "trtllm_mha", "trtllm_mla"
_DSA_PAGE, _QSA_PAGE, _FA4_PAGE, _SPARSE_PAGE = 64, 64, 128, 128
_BY_TYPE = {
    **dict.fromkeys(("diffusion_gemma", "falcon_h1", "jet_nemotron", "jet_vlm"), _TRITON),
    **dict.fromkeys(("lfm2", "lfm2_moe", "whisper"), _FLASHINFER),
    **dict.fromkeys(("mimo_v2", "mimo_v2_flash", "step3p5", "step3p7", *INKLING), _FA4),
    **dict.fromkeys(("kimi_k3", "kimi_k3_text", *TRTLLM_LATENTS), _TRTLLM_MLA),
    **dict.fromkeys(("gemma4", "gemma4_text", "gemma4_unified", "gpt_oss", "llama4", "llama4_text"), _TRTLLM_MHA),
    "iquest_q1": _FA3,
}
"""Kernels on compute capability 10.x for types that differ from the rule of their attention kind."""
_FOR_FP8_INDEX = "fp8_e4m3"


def major(settings: SglangSettings) -> int:
    """Major compute capability of the GPU; 0 if it is not NVIDIA's."""
    return (gpu_named(settings.gpu).compute_capability or (0, 0))[0]


def page_of(model: Model, settings: SglangSettings) -> int:
    """Tokens of a page: as set, if the kernels support it, else the kernels'."""
    if is_compressed(model):
        return COMPRESSED_PAGE
    if has_sparse_latent(model):
        return _DSA_PAGE * (pooled_tokens(model) or 1)
    if pooled_tokens(model):
        return _QSA_PAGE
    asked, backend = settings.page_size, backend_of(model, settings)
    if is_of(model, QWEN_HYBRIDS) and major(settings) == BLACKWELL and settings.attention_backend is None:
        asked = None  # arg_groups/model_overrides/qwen3_5.py sets both
    if backend == _FA4 and major(settings) == BLACKWELL and not has_latents(model):
        return _FA4_PAGE
    if asked is None and is_sparse(model) and (major(settings), backend) in _SPARSE_BACKENDS:
        return _SPARSE_PAGE
    pages = PAGES.get(backend, ())
    return asked or 1 if not pages else asked if asked in pages else pages[0]


_SPARSE_BACKENDS = {(HOPPER, _FA3), (BLACKWELL, _FA4), (BLACKWELL, _TRTLLM_MHA)}
"""GPUs and kernels with which MiniMax-M3's pages have 128 tokens (arg_groups/model_overrides/minimax_m3.py)."""


def backend_of(model: Model, settings: SglangSettings) -> str:
    """The given kernels, or SGLang's choice as far as it decides pages."""
    if settings.attention_backend is not None:
        return settings.attention_backend
    if major(settings) == HOPPER:
        return _TRTLLM_MHA if is_of(model, ("beam",)) else _FA3
    return _on_blackwell(model, settings) if major(settings) == BLACKWELL else _OTHER


def _on_blackwell(model: Model, settings: SglangSettings) -> str:
    if is_sparse(model):
        return _TRTLLM_MHA if settings.kv_cache_dtype == _FOR_FP8_INDEX else _FA4
    if is_of(model, QWEN_HYBRIDS):
        free = settings.disable_radix_cache or settings.mamba_radix_cache_strategy.startswith("extra_buffer")
        return _of_heads(model, settings) if free or settings.speculative_algorithm else _TRITON
    if type_of(model) in _BY_TYPE:
        return _BY_TYPE[type_of(model)]
    if has_latents(model) or (is_of(model, ("granitemoehybrid",)) and has_states(model)):
        return _FLASHINFER
    return _of_heads(model, settings)


def _of_heads(model: Model, settings: SglangSettings) -> str:
    """Kernels for K and V per head: TensorRT-LLM's need equal widths, and drafts without branches."""
    if settings.speculative_algorithm and settings.speculative_eagle_topk != 1:
        return _TRITON if is_of(model, QWEN_HYBRIDS) else _FLASHINFER
    heads = [part for group in model.groups for part in group.parts if isinstance(part, GroupedQueryAttention)]
    even = all(part.v_head_dim in (None, part.head_dim) for part in heads)
    return _TRTLLM_MHA if even else _TRITON if is_of(model, QWEN_HYBRIDS) else _FA4


def has_fp8_index(model: Model, settings: SglangSettings, kv_cache_dtype: str) -> bool:
    """Whether index keys next to K and V are also in fp8 (get_minimax_sparse_index_dtype)."""
    if kv_cache_dtype != _FOR_FP8_INDEX:
        return False
    on_blackwell = major(settings) == BLACKWELL and backend_of(model, settings) == _TRTLLM_MHA
    return major(settings) == HOPPER or on_blackwell


def is_sparse(model: Model) -> bool:
    """Whether some layers have K and V per head plus an index, like MiniMax-M3's."""
    return pooled_tokens(model) is None and any(
        isinstance(part, Indexer) and any(isinstance(other, GroupedQueryAttention) for other in group.parts)
        for group in model.groups
        for part in group.parts
    )


def has_latents(model: Model) -> bool:
    """Whether some layer caches a latent."""
    return any(isinstance(part, MultiHeadLatentAttention) for group in model.groups for part in group.parts)
