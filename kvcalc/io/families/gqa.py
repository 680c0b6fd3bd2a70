"""Decoders of grouped-query attention whose layers differ at most in their reach: most models.

Source: transformers 5.23, configuration_*.py of each type (default layer_types) and cache_utils.py: without
layer_types, a sliding_window that is not null applies to every layer, else an attention_chunk_size does.
"""

from __future__ import annotations

from collections.abc import Callable

from kvcalc.io.families._config import Config
from kvcalc.io.families._decoder import (
    FULL,
    REFERENCE,
    SLIDING,
    Decoder,
    by_reach,
    decoder_of,
    full_each,
    gqa_layer,
    kinds_of,
    letters,
    whole_number_or,
)
from kvcalc.io.families._drafts import num_drafts

MODEL_TYPES = (
    *(
        "afmoe",
        "apertus",
        "apertus1p5_text",
        "arcee",
        "aria_text",
        "beam",
        "bert",
        "bert-generation",
        "big_bird",
        "biogpt",
        "bitnet",
    ),
    *("blip_text_model", "bloom", "camembert", "canary_decoder", "chameleon", "codegen", "cohere", "cohere2"),
    *("cohere2_moe", "cohere_asr", "cohere_compass_text", "cosmos3_edge_text", "ctrl", "cwm", "data2vec-text"),
    *("deepseek_ocr2_text", "diffllama", "doge", "electra", "emu3_text_model", "ernie", "ernie4_5", "ernie4_5_moe"),
    *("ernie4_5_vl_moe_text", "evolla", "exaone4", "exaone_moe", "flex_olmo", "flint", "gemma", "git", "glm", "glm4"),
    *("glm4_moe", "glm4v_moe_text", "glm4v_text", "glm_ocr_text", "gpt-sw3", "gpt2", "gpt_neox"),
    *("gpt_neox_japanese", "gpt_oss", "gptj", "granite", "granite4_vision_text", "granite_docling_text"),
    *("granite_swa", "granitemoe", "granitemoe_swa", "granitemoeshared", "helium", "hunyuan_v1_dense"),
    *(
        "hunyuan_v1_moe",
        "hunyuan_vl_text",
        "hy_v3",
        "hyperclovax",
        "idefics",
        "internlm3",
        "iquestcoder",
        "jais2",
        "jetmoe",
    ),
    *("kolibri1", "kosmos_2_text_model", "kosmos_2_5_text_model", "kyutai_speech_to_text", "laguna", "llama"),
    *("megatron-bert", "mellum", "minimax_m2", "ministral", "ministral3", "mistral", "mixtral", "molmo2_text"),
    *("moonshine_streaming", "moshi", "mpt", "muse_glimmer_text", "muse_spark_text", "musicgen_decoder"),
    *("musicgen_melody_decoder", "nanochat", "nemotron", "olmo", "olmo2", "olmo3", "olmoe", "openai-gpt", "opt"),
    *("paddleocr_vl_text", "persimmon", "phi", "phi3", "phi4_multimodal", "phimoe", "qwen3_omni_moe_text"),
    *("qwen3_vl_moe_text", "qwen3_vl_text", "rembert", "roberta", "roberta-prelayernorm", "roc_bert", "roformer"),
    *("sarvam_moe", "seed_oss", "solar_open", "stablelm", "starcoder2", "t5_gemma_module", "t5gemma2_decoder"),
    *("unlimited_ocr_text", "vaultgemma", "voxtral_realtime_text", "xglm", "xlm", "xlm-roberta", "xlm-roberta-xl"),
    "xmod",
)
UNUSED = ("num_attention_heads_per_layer",)
"""Laguna: query heads, which share num_key_value_heads in every layer."""

_PATTERNS: dict[str, Callable[[int], list[str]]] = {
    "cohere_compass_text": letters("F"),
    "cwm": letters("FSSS"),
    "granite_swa": letters("FSSS"),
    "granitemoe_swa": letters("FSSS"),
    "gpt_oss": letters("SF"),
    "vaultgemma": letters("SF"),
    "t5_gemma_module": letters("SF"),
    "olmo3": letters("SSSF"),
    "kolibri1": letters("SSSSF"),
    "laguna": letters("F"),
    "mellum": letters("F"),
    "beam": lambda layers: [*full_each(6)(layers - 1), FULL],
    "flint": lambda layers: [FULL if i in (0, layers - 1) or i % 4 == 1 else SLIDING for i in range(layers)],
}
"""Default kinds of layers, for types whose layers differ."""

_PERIODS = {
    "afmoe": ("global_attn_every_n_layers", 4),
    "cohere2": ("sliding_window_pattern", 4),
    "exaone4": ("sliding_window_pattern", 4),
    "exaone_moe": ("sliding_window_pattern", 4),
    "t5gemma2_decoder": ("sliding_window_pattern", 6),
}
"""Types with a full layer at a fixed interval: the field of the interval, and its default."""

_IGNORES_HEAD_DIM = {
    *("bloom", "codegen", "ctrl", "gpt-sw3", "gpt2", "gptj", "opt", "xglm"),
    *("bert", "bert-generation", "big_bird", "camembert", "data2vec-text", "electra", "ernie", "megatron-bert"),
    *("rembert", "roberta", "roberta-prelayernorm", "roc_bert", "roformer", "xlm-roberta", "xlm-roberta-xl", "xmod"),
    *("biogpt", "blip_text_model", "git", "mpt", "openai-gpt", "xlm"),
}
"""Types whose code divides hidden_size by the heads, ignoring head_dim."""


def decoder(config: Config) -> Decoder:
    """Layers by layer_types; else by the type's own pattern, or all equal."""
    own_head_dim = config.model_type not in _IGNORES_HEAD_DIM
    return decoder_of(
        config,
        kinds_of(config, _default(config)),
        lambda kind, own: gqa_layer(kind, own, own_head_dim=own_head_dim),
        draft=FULL,
        num_drafts=num_drafts(config),
    )


def _default(config: Config) -> Callable[[int], list[str]]:
    model_type = config.model_type
    if model_type == "cohere2_moe":
        return lambda layers: _dense_then_sparse(config, layers)
    if model_type == "unlimited_ocr_text":
        kind = REFERENCE if "sliding_window" in config else FULL
        return lambda layers: [kind] * layers
    if model_type in _PERIODS:
        return _by_period(config, *_PERIODS[model_type])
    return _pattern_of(model_type) or by_reach(config)


def _pattern_of(model_type: str) -> Callable[[int], list[str]] | None:
    if model_type in ("muse_glimmer_text", "muse_spark_text"):  # counted from the last layer, which is full
        return lambda layers: [FULL if (layers - 1 - layer) % 4 == 0 else SLIDING for layer in range(layers)]
    return _PATTERNS.get(model_type)


def _by_period(config: Config, field: str, default: int) -> Callable[[int], list[str]]:
    if "sliding_window" not in config:
        return letters("F")
    pattern = config.value(field)
    if isinstance(pattern, str) and pattern and set(pattern) <= {"L", "G"}:  # EXAONE 4: local and global
        return letters(pattern.replace("L", "S").replace("G", "F"))
    return full_each(config.integer_or(field, default) or default)


def _dense_then_sparse(config: Config, layers: int) -> list[str]:
    """Cohere 2 MoE: the dense layers at the start have their own pattern."""
    dense = min(layers, whole_number_or(config, "first_k_dense_replace", 0))
    first = config.integer_or("prefix_dense_sliding_window_pattern", 1) or 1
    then = config.integer_or("sliding_window_pattern", 4) or 4
    return full_each(first)(dense) + full_each(then)(layers - dense)
