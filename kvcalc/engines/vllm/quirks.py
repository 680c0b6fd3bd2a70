"""What vLLM does for particular model types, each with its source file."""

from __future__ import annotations

from collections.abc import Collection

from kvcalc.engines.vllm.support import SUPPORT
from kvcalc.model import Model

USES_MLA = {
    *("axk1", "bailing_hybrid", "deepseek_v2", "deepseek_v3", "deepseek_v32", "deepseek_v4", "deepseek_v41_text"),
    "dots3_note",
    *("glm4_moe_lite", "glm5_next", "glm5_next_text", "glm_moe_dsa", "hy_v4", "kimi_k2", "kimi_linear"),
    *("longcat_flash", "pangu_ultra_moe", "sarvam_mla"),
}
"""Types whose latent vLLM's own classes cache unexpanded (model_arch_config_convertor.py), as its Transformers fallback
does with any (models/transformers/base.py); for all others it is every head's key and value."""
EXPANDS_LATENT = {"minicpm3"}
"""Types whose latent is expanded, and whose values are padded to the width of their keys (minicpm3.py)."""
HAS_SINKS = {"gpt_oss", "laguna", "mimo_v2_flash"}
"""Types with attention sinks, which not every kernel can read."""
WINDOW_INCLUDES_QUERY = {"mimo_v2_flash"}
"""Types whose sliding_window_size vLLM treats as the whole window (mimo_v2.py)."""
WINDOW_SEES_ONE_MORE = {"cohere2", "cohere2_moe"}
"""Types whose sliding_window leaves the query's own token out (commandr.py, cohere2_moe.py)."""
STATES_AS_CONFIG_SAYS = ("qwen3_5", "qwen4_exp")
"""Prefixes of types whose config names the format of their states (models/config.py; models/qwen4_exp)."""
STATES_AS_RELEASED = {"nemotron_h"}
"""Types whose states are in the version's own format unless their config names one (models/config.py, NemotronH)."""
EXPORTS_KDA_STATES = {"glm5_next", "glm5_next_text", "kimi_k3"}
"""Types whose KDA kernels leave states behind while reading a prompt, from Hopper on (kimi_k3, glm5next)."""
WITHOUT_GDN_CHECKPOINTS = {"olmo_hybrid"}
"""Types whose gated DeltaNet leaves no states behind while reading a prompt (olmo_hybrid.py)."""
ATTENTION_FREE = {"mamba", "falcon_mamba", "mamba2"}
"""Types with only states; all others with states are hybrids, whose prefixes keep states (IsHybrid)."""
SUMMARISES_REGIONS = {"step5"}
"""Types whose layers all use the layout of the kernels for region summaries (models/step5)."""
COPIES_NO_HEADS = {"param2moe", "PanguProMoE"}
"""Types whose KV heads are never copied to several ranks (param2moe.py, openpangu.py)."""
FULL_AFTER_LAST_GROUP = {"bailing_hybrid"}
"""Types whose layers after the last whole group are full if they are Kimi Delta Attention (bailing_moe_v3.py)."""
UNMENTIONED_DRAFT = {"mimo_v2_flash": True, "qwen3_next": False}
"""Types with one draft layer that their config does not mention, and whether it has a window (their *_mtp.py)."""
DRAFTS_AS_MTP = {
    *(
        "bailing_hybrid",
        "deepseek_v3",
        "deepseek_v32",
        "deepseek_v4",
        "deepseek_v41",
        "deepseek_v41_text",
        "dots3_note",
    ),
    *("ernie4_5_moe", "exaone4_5", "exaone4_5_text", "exaone_moe", "glm4_moe", "glm4_moe_lite", "glm5_next"),
    *("glm5_next_text", "glm_moe_dsa", "glm_ocr", "glm_ocr_text", "hy_v3", "hy_v4", "kimi_k3", "longcat_flash"),
    *("minimax_m3", "minimax_m3_vl", "mimo", "mimo_v2", "mimo_v2_flash", "pangu_ultra_moe", "qwen3_5"),
    *("qwen3_5_moe", "qwen3_5_moe_text", "qwen3_5_text", "qwen3_next", "qwen4_exp", "qwen4_exp_text", "step3p5"),
    *("step3p7", "step5"),
}
"""Types whose drafts are loaded as layers of multi-token prediction only (config/speculative.py)."""
INDEXES_FOR_DRAFTS = {"deepseek_v32", "glm_moe_dsa"}
"""Types whose draft layers always have their own indexer (deepseek_v2.py)."""
FP8_ON_BLACKWELL = {"glm_moe_dsa", "glm5_next", "glm5_next_text"}
"""Types whose cache is in fp8 by default on compute capability 10 (models/config.py)."""
BFLOAT16_IS_AUTO = {"deepseek_v32"}
"""Types for which bfloat16 means the model's dtype (models/config.py, DeepseekV32)."""
NO_PIPELINE = {"alice_ai", "gemma3n", "gemma3n_text", "mamba2", "whisper", "zamba2"}
"""Types without pipeline parallelism (models that do not implement SupportsPP)."""
LEAST_BATCHED_TOKENS = {"gemma4": 32 * (70 + 2 + 6)}
"""Types whose longest input must fit one batch: a video of 32 frames of 70 tokens and 8 more (gemma4_mm.py)."""


def is_one_of(model: Model, types: Collection[str]) -> bool:
    """Whether the decoder, or the whole model if it has several towers, is of one of these types."""
    return model.model_type in types or model.published.model_type in types


def uses_mla(model: Model) -> bool:
    """Whether the latent of MLA is cached unexpanded. A preset may give only the whole model's type."""
    by_config = bool(model.published.model_type)
    cached = model.model_type in USES_MLA or model.model_type in SUPPORT.by_fallback
    return not is_one_of(model, EXPANDS_LATENT) and (not by_config or cached)
