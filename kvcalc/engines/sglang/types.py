"""Types of models that SGLang treats specially: rows of data, each list with its source file.

A list has types of whole models and of decoders as in their configs; SGLang itself goes by architecture, one for each
type. A vision model's wrapper is a different architecture from its decoder, and is listed separately.
"""

from __future__ import annotations

from collections.abc import Collection

from kvcalc.model import Model

INKLING = frozenset({"inkling", "inkling_mm_model", "inkling_text"})
OWN_WINDOWS = INKLING | frozenset(
    {
        *("beam", "diffusion_gemma", "diffusion_gemma_text", "gemma4", "gemma4_text", "gemma4_unified"),
        *("gemma4_unified_text", "gpt_oss", "granite_swa", "granitemoe_swa", "iquest_q1", "laguna", "llama4"),
        *("llama4_text", "mellum", "mimo_v2", "mimo_v2_flash", "muse_glimmer", "muse_glimmer_text", "muse_spark"),
        *("muse_spark_text", "spark2_5", "step3p5", "step3p7", "unlimited_ocr"),
    }
)
"""Sliding layers have their own pool; in all others each layer keeps every token (configs/model_config.py)."""

QWEN_HYBRIDS = frozenset(
    {
        *("intern_s2_preview", "interns2_mobius", "qwen3_5", "qwen3_5_moe", "qwen3_next", "qwen4_exp"),
        *("qwen4_exp_text",),
    }
)
KIMI_LINEAR = frozenset({"kimi_k3", "kimi_k3_text", "kimi_linear"})
NEMOTRON_H = frozenset({"nemotron_h", "nemotron_h_puzzle"})
EXTRA_BUFFERS = (
    (QWEN_HYBRIDS - {"interns2_mobius"})
    | KIMI_LINEAR
    | NEMOTRON_H
    | frozenset(
        {
            *("bailing_hybrid", "falcon_h1", "glm5_next", "glm5_next_text", "granitemoehybrid", "minicpmv4_6"),
            *("minicpmv4_7", "qwen3_5_moe_text", "qwen3_5_text"),
        }
    )
)
"""States of prefixes are tracked in extra buffers (arg_groups/overrides.py, _MAMBA_EXTRA_BUFFER_ARCHS)."""

NO_BUFFERS = frozenset(
    {"gigachat3_5", "interns2_mobius", "jet_nemotron", "jet_vlm", "lfm2", "lfm2_moe", "lfm2_vl", "zaya"}
)
"""Hybrids that have no such buffers, and so pages of 1 and no overlapping (_MAMBA_RADIX_CACHE_ARCHS)."""

LIGHTNING = frozenset({"bailing_hybrid", "minicpm_sala"})
"""Types whose lightning attention has a class that keeps its states (configs/hybrid_arch.py)."""

WITHOUT_PREFIXES = frozenset({"minicpm_sala", "whisper"})
"""Types for which the radix cache is off (arg_groups/model_overrides/minicpm.py, attention_hook.py)."""

EXPANDED_LATENTS = frozenset({"axk1", "axk2", "mistral4", "youtu"})
"""Latents that only the fallback to Transformers serves: K and V of every head are stored (configs/model_config.py)."""
ROTARY_HEADS = frozenset({"axk1", "axk2", "youtu"})
"""Those whose config classes call the rotary part head_dim, so that K has rows of only that width."""

SELF_DRAFTING = frozenset(
    {
        *("bailing_moe", "bailing_moe_v2", "deepseek_v3", "deepseek_v32", "deepseek_v4"),
        *("glm4_moe", "glm4_moe_lite", "glm_moe_dsa", "hy_v3", "hy_v4", "kimi_k2", "qwen4_exp", "qwen4_exp_text"),
    }
)
"""Drafts are read from the model's own checkpoint, as one layer (arg_groups/speculative_hook.py)."""

WIDELY_DRAFTED = frozenset({"grok-1", "llama"})
"""Drafts have branches if no number is given (arg_groups/speculative_hook.py, _auto_choose_speculative_params)."""

LOADED_AS_PREDICTORS = SELF_DRAFTING | frozenset(
    {
        *("bailing_hybrid", "dots3_note", "ernie4_5_moe", "exaone_moe", "gigachat3_5", "glm5_next", "glm5_next_text"),
        *("glm_ocr", "inkling", "inkling_mm_model", "inkling_text", "intern_s2_preview", "interns2_mobius"),
        *("longcat_flash", "mimo", "mimo_v2", "mimo_v2_flash", "nemotron_h", "nemotron_h_puzzle", "qwen3_5"),
        *("qwen3_5_moe", "qwen3_5_moe_text", "qwen3_5_text", "qwen3_moe", "qwen3_next", "step3p5", "step3p7"),
    }
)
"""As a draft, a checkpoint is loaded as its layers of multi-token prediction (configs/model_config.py)."""

UNCOUNTED_DRAFTS = (
    QWEN_HYBRIDS | NEMOTRON_H | frozenset({"mimo_v2", "mimo_v2_flash", "qwen3_5_moe_text", "qwen3_5_text"})
) - SELF_DRAFTING
"""Drafts without num_nextn_predict_layers in the config: no memory is reserved for their tokens."""

TRTLLM_LATENTS = frozenset(
    {"deepseek_v3", "kimi_k2", "kimi_k25", "longcat_flash", "longcat_flash_ngram", "mistral3", "pixtral"}
)
"""Latents that trtllm_mla reads on GPUs of compute capability 10.x (arg_groups/model_overrides/deepseek_v2.py)."""

SEES_ON_DEMAND = frozenset({"gemma3", "inkling_mm_model", "llama4", "step3_vl"})
"""Models whose vision tower is not loaded without --enable-multimodal (configs/model_config.py)."""

GRAPHS_WITH_IMAGES = frozenset(
    {
        *("cohere2_vision", "glm5_next", "interns2_mobius", "kimi_k25", "kimi_k3", "minimax_m3", "muse_glimmer"),
        *("muse_spark", "paddleocr_vl", "qwen3_5", "qwen3_5_moe", "qwen4_exp"),
    }
)
"""Models with a vision tower whose prefill is captured in graphs, as in text models (configs/model_config.py)."""

CROSS_ATTENDING = frozenset({"mllama", "mllama_text_model", "whisper"})
"""Cross-attention has rows of the pool as self-attention has (configs/model_config.py, encoder_decoder)."""


def type_of(model: Model) -> str:
    """The model's type, or its decoder's if it is not part of another model."""
    return model.published.model_type or model.model_type


def is_of(model: Model, types: Collection[str]) -> bool:
    """Whether the model is of one of these types."""
    return type_of(model) in types
