"""Model types published outside transformers whose cache kvcalc knows: a row each.

`PLAIN`, `SWITCHED` and `CLASSES` are separate types, `ALIASES` follow another type in engines as well. Only `CLASSES`
have defaults: in other configs omitted fields are missing.
Source: vLLM 0.33 (models/, transformers_utils/configs/), SGLang 0.5.23 (configs/), MLX-LM 0.32.2 (models/), and
the configuration_*.py published with each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from kvcalc.io.families._config import TypeEntry

Names = Mapping[str, str]
_GPT: Names = {"num_hidden_layers": "n_layer", "num_attention_heads": "n_head", "hidden_size": "n_embd"}
_PHI: Names = {**_GPT, "num_layers": "n_layer", "num_heads": "n_head", "model_dim": "n_embd"}
_PANGU_LATENT: Names = {
    "kv_lora_rank": "attention_kv_lora_dim",
    "qk_rope_head_dim": "attention_qk_rope_dim",
    "qk_nope_head_dim": "attention_qk_dim",
    "v_head_dim": "attention_v_dim",
}
_FALCON: Names = {
    "num_hidden_layers": "n_layer",
    "num_attention_heads": "n_head",
    "num_kv_heads": "n_head_kv",
    "n_embed": "hidden_size",
}

_MISTRAL: Names = {
    **{"num_hidden_layers": "n_layers", "num_attention_heads": "n_heads", "num_key_value_heads": "n_kv_heads"},
    **{"hidden_size": "dim", "intermediate_size": "hidden_dim"},
}

PLAIN = (
    *("bailing_moe", "bailing_moe_v2", "param2moe", "telechat3", "TeleFLM", "k2_horizon", "xllm", "solar"),
    *("llada2_moe", "grok-1", "hunyuan", "Klear", "talkie", "glm_image_text"),
)
"""Plain grouped-query attention; a window, if any, applies to every layer."""

SWITCHED = (
    *("sdar", "sdar_moe", "dots_ocr", "minicpmv", "minicpmo", "molmo", "Keye", "KeyeVL1_5", "isaac", "kimi_audio"),
    "moss_vl_text",
)
"""Grouped-query attention as in Qwen: a window counts only if use_sliding_window is true."""

CLASSES: Mapping[str, TypeEntry] = {
    "telechat": TypeEntry("gqa", {"num_hidden_layers": "n_layer", "num_attention_heads": "n_head"}),
    "lille-130m": TypeEntry(
        "gqa", {**_GPT, "num_key_value_heads": "n_kv_heads", "max_position_embeddings": "block_size"}
    ),
    "phi-msft": TypeEntry(
        "gqa",
        _PHI,
        {"n_layer": None, "n_head": None, "n_embd": None},  # no field for the number of KV heads
    ),
    "step1": TypeEntry(
        "gqa",
        {"num_key_value_heads": "num_attention_groups"},
        {
            **dict.fromkeys(("num_hidden_layers", "num_attention_heads", "hidden_size", "sliding_window")),
            "num_attention_groups": 1,
        },
    ),
    "step3_text": TypeEntry(
        "gqa",
        {"num_key_value_heads": "num_attention_groups", "max_position_embeddings": "max_position_embedding"},
        {
            **{"num_hidden_layers": 61, "num_attention_heads": 64, "num_attention_groups": 1, "head_dim": 256},
            **{"hidden_size": 7168, "max_position_embedding": 65536},
        },
    ),
    "spark2_5": TypeEntry(
        "windows",
        {},
        {
            **{"num_hidden_layers": 28, "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 256},
            **{"hidden_size": 2048, "sliding_window": 512, "max_position_embeddings": 8192, "layer_types": None},
        },
    ),
    "step5": TypeEntry(
        "windows",
        {"num_key_value_heads": "num_attention_groups"},
        {
            **{"num_hidden_layers": 48, "num_attention_heads": 40, "num_attention_groups": 8, "hidden_size": 5120},
            **{"max_position_embeddings": None, "max_seq_len": 4096, "layer_types": None, "head_dim": None},
            **{"sliding_window": None, "num_nextn_predict_layers": 0},
        },
    ),
    "iquest_q1": TypeEntry(
        "windows",
        {},
        {
            **{"num_hidden_layers": 88, "num_attention_heads": 48, "num_key_value_heads": 8, "head_dim": 128},
            **{"hidden_size": 3072, "sliding_window": 4096, "max_position_embeddings": 524288},
        },
    ),
    "openelm": TypeEntry("kv_switches", {"num_hidden_layers": "num_transformer_layers", "hidden_size": "model_dim"}),
    "afm7": TypeEntry(
        "kv_switches",
        {"num_hidden_layers": "num_layers", "num_attention_heads": "num_heads", "hidden_size": "hidden_dim"},
    ),
    "mistral-params": TypeEntry(
        "windows",
        {**_MISTRAL, "interleaved_sliding_window": "sliding_window"},
        {
            **dict.fromkeys(("n_layers", "n_heads", "n_kv_heads", "dim", "hidden_dim", "head_dim", "sliding_window")),
            "max_position_embeddings": 128_000,
        },
        like="mistral",
    ),
    "mistral-params-mla": TypeEntry("mla", _MISTRAL, like="deepseek_v3"),
    "llama-params": TypeEntry(
        "gqa",
        _MISTRAL,
        dict.fromkeys(("n_layers", "n_heads", "n_kv_heads", "dim", "head_dim", "max_position_embeddings")),
        like="llama",
    ),
    "gigachat3_5": TypeEntry(
        "gated_deltanet",
        {},
        {
            **{"num_hidden_layers": 12, "hidden_size": 1280, "num_attention_heads": 16, "num_key_value_heads": 16},
            **{"kv_lora_rank": 512, "qk_rope_head_dim": 64, "qk_nope_head_dim": 128, "v_head_dim": 128},
            **{"linear_num_key_heads": 8, "linear_num_value_heads": 16, "linear_conv_kernel_dim": 4},
            **{"linear_key_head_dim": 128, "linear_value_head_dim": 128, "max_position_embeddings": 4096},
            **{"layer_types": None, "full_attention_layers": None, "head_dim": 64, "num_nextn_predict_layers": 0},
        },
    ),
    "moondream3_text": TypeEntry(
        "gqa",
        {
            **{"num_hidden_layers": "n_layers", "num_attention_heads": "n_heads", "num_key_value_heads": "n_kv_heads"},
            **{"hidden_size": "dim", "max_position_embeddings": "max_context"},
        },
        {"n_layers": 24, "n_heads": 32, "n_kv_heads": 32, "dim": 2048, "max_context": 4096},
    ),
}
"""Types whose class has its own field names, or defaults for omitted fields."""


class Alias(NamedTuple):
    """like: type with the same rules. names: usual and own name of a field, if they differ from that type's."""

    like: str
    names: Mapping[str, str] = {}


ALIASES: Mapping[str, Alias] = {
    "mimo_v2": Alias("mimo_v2_flash"),
    "pangu_ultra_moe": Alias("deepseek_v3", _PANGU_LATENT),
    "openpangu_v2": Alias("deepseek_v3", _PANGU_LATENT),
    "longcat_flash_ngram": Alias("longcat_flash"),
    "joyai_llm_flash": Alias("deepseek_v3"),
    "dots_vlm": Alias("deepseek_v3"),
    "nemotron_h_puzzle": Alias("nemotron_h"),
    **dict.fromkeys(("phi3_v", "phi4mm", "phi4-siglip"), Alias("phi3")),
    **dict.fromkeys(("RefinedWeb", "RefinedWebModel"), Alias("falcon", _FALCON)),
    "deepseek_ref": Alias("deepseek_v4"),
    "youtu_llm": Alias("youtu"),
    "unlimited_language": Alias("deepseek_v2"),
    "interns1_pro_text": Alias("qwen3_moe"),
    "interns2_mobius_text": Alias("qwen3_5_moe_text"),
}
"""Aliases of a type, with its rules in every engine."""

TOWERS: Mapping[str, tuple[str, str]] = {
    "openvla": ("text_config", "llama"),
    "interns1_pro": ("text_config", "interns1_pro_text"),
    "intern_s2_preview": ("text_config", "qwen3_5_moe_text"),
    "interns2_mobius": ("text_config", "interns2_mobius_text"),
    "moss_vl": ("text_config", "moss_vl_text"),
    "glm_image": ("text_config", "glm_image_text"),
    "step5_vl": ("text_config", "step5"),
    "step3_vl": ("text_config", "step3_text"),
    "unlimited-ocr": ("language_config", "unlimited_language"),
    "jet_vlm": ("text_config", "jet_nemotron"),
    "deepseek_v41": ("text_config", "deepseek_v41_text"),
    "moondream3": ("config", "moondream3_config"),
    "moondream3_config": ("text", "moondream3_text"),
}
"""Models with several towers: place of the text part, and its type if the part does not name it."""

ARCHITECTURES: Mapping[str, str] = {
    "LongcatFlashForCausalLM": "longcat_flash",
    "LongcatFlashNgramForCausalLM": "longcat_flash_ngram",
    "Grok1ForCausalLM": "grok-1",
    "Grok1ModelForCausalLM": "grok-1",
}
"""Types by the architecture, for files without a type."""
NAMED_BY_ARCHITECTURE = {"", "git"}
"""model_type of such files; Grok-2's is another model's."""


MISTRAL_PARAMS = ("dim", "n_layers", "n_heads")
"""Fields that identify a params.json in Mistral's or Meta's format."""
_META = "multiple_of"
"""A field only Meta's has, in Llama 1 to 3.3; it does not give the context."""
_MISTRAL_LATENT = "qk_nope_head_dim"


def mistral_type(values: Mapping[str, object]) -> str:
    """Type as which a params.json is read; empty for other files."""
    if "model_type" in values or "architectures" in values or not all(name in values for name in MISTRAL_PARAMS):
        return ""
    if _META in values:
        return "llama-params"
    return "mistral-params-mla" if values.get(_MISTRAL_LATENT) else "mistral-params"


def entries(known: Mapping[str, TypeEntry]) -> Iterator[tuple[str, TypeEntry]]:
    """Every row as an entry of a type, given transformers' types."""
    yield from ((name, TypeEntry("gqa")) for name in PLAIN)
    yield from ((name, TypeEntry("qwen")) for name in SWITCHED)
    yield from CLASSES.items()
    for name, (like, names) in ALIASES.items():
        yield name, TypeEntry(known[like].family, {**known[like].names, **names}, like=like)
    yield from ((name, TypeEntry(section=section, section_type=inner)) for name, (section, inner) in TOWERS.items())
