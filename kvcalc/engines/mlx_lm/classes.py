"""MLX-LM's modules: which one serves a model, and what it decides about caches.

Source: MLX-LM, mlx_lm/utils.py (MODEL_REMAPPING, _get_classes) and mlx_lm/models/*.py (make_cache, the attention's
__call__).
"""

from __future__ import annotations

from kvcalc.errors import NotApplicableError
from kvcalc.errors.foreign import name_shown
from kvcalc.model import Attention, Model

WITHOUT_MAKE_CACHE = frozenset(
    {
        *("Klear", "apertus", "bailing_moe", "bitnet", "cohere", "dbrx", "deepseek", "deepseek_v2", "deepseek_v3"),
        *("dots1", "ernie4_5", "ernie4_5_moe", "exaone", "gemma", "gemma2", "glm", "glm4", "glm4_moe"),
        *("glm4_moe_lite", "gpt2", "gpt_bigcode", "gpt_neox", "gptj", "granite", "granitemoe", "helium", "hunyuan"),
        *("hunyuan_v1_dense", "internlm2", "internlm3", "kimi_k25", "kimi_vl", "lille-130m", "llama4_text", "mimo"),
        *("minicpm", "minicpm3", "minimax", "mistral3", "mistral4", "mixtral", "nanochat", "nemotron", "olmo"),
        *("olmo2", "olmoe", "openelm", "phi", "phi3", "phi3small", "phimoe", "phixtral", "pixtral", "plamo", "qwen"),
        *("qwen2", "qwen2_moe", "qwen2_vl", "qwen3", "qwen3_moe", "qwen3_vl", "qwen3_vl_moe", "seed_oss", "smollm3"),
        *("solar_open", "stablelm", "starcoder2", "talkie", "telechat3", "youtu_llm"),
    }
)
"""Modules with MLX-LM's default caches: each layer keeps every token, or a ring of max_kv_size."""
ROTATES = frozenset(
    {
        *("afmoe", "baichuan_m1", "cohere2", "exaone4", "exaone_moe", "gear", "gemma3", "gemma3_text", "gemma3n"),
        *("gemma4", "gemma4_text", "gpt_oss", "iquestloopcoder", "laguna", "llama", "mellum", "mimo_v2_flash"),
        *("ministral3", "muse_glimmer", "muse_spark", "olmo3", "plamo3", "recurrent_gemma", "spark2_5", "step3p5"),
    }
)
"""Modules whose sliding layers have a RotatingKVCache; in other modules with their own caches they keep every token."""
LISTS = frozenset(
    {
        *("baichuan_m1", "deepseek_v32", "falcon_h1", "glm_moe_dsa", "longcat_flash", "longcat_flash_ngram"),
        "minimax_m3_vl",
    }
)
"""Modules whose layers have lists of caches (CacheList), which are never quantised."""
CHUNKS = frozenset({"llama4"})
"""Modules whose chunked layers have a ChunkedKVCache, which is never quantised either."""
OWN_CACHES = frozenset({"deepseek_v41"})
"""Modules with their own cache class."""
OTHERS = frozenset(
    {
        *("afm7", "bailing_hybrid", "bailing_moe_linear", "bailing_moe_v3", "granitemoehybrid", "jamba", "kimi_k3"),
        *("kimi_linear", "lfm2", "lfm2-vl", "lfm2_moe", "mamba", "mamba2", "nanbeige", "nemotron-nas", "nemotron_h"),
        *("olmo_hybrid", "plamo2", "prism_hadamard_qwen35", "qwen3_5", "qwen3_5_moe", "qwen3_next", "rwkv7"),
    }
)
"""Modules that make caches of every token, states, or both."""
MODULES = WITHOUT_MAKE_CACHE | ROTATES | LISTS | CHUNKS | OWN_CACHES | OTHERS
_REMAPPED = {
    "mistral": "llama",
    "llava": "mistral3",
    "phi-msft": "phixtral",
    "falcon_mamba": "mamba",
    "joyai_llm_flash": "deepseek_v3",
    "kimi_k2": "deepseek_v3",
    "qwen2_5_vl": "qwen2_vl",
    "minimax_m2": "minimax",
    "iquestcoder": "llama",
    "xverse": "llama",
    "gemma4_unified": "gemma4",
    "deepseek_v41_text": "deepseek_v41",
}
_OF_TEXT = {"minimax_m3": "minimax_m3_vl"}
"""Modules for the text-part types of presets, if the name differs."""
NEEDS_BOTH_KINDS = frozenset({"llama", "ministral3"})
"""Modules that know windows only from layer_types and need a full layer there: a window in all layers is ignored."""
WINDOW_WITHOUT_QUERY = frozenset({"mimo_v2_flash"})
"""Modules whose ring is one shorter than a query's window including itself."""
EXPANDS_LATENT = frozenset({"deepseek_v2", "minicpm3", "youtu_llm"})
"""Modules that cache keys and values of each head; all others cache the latent as keys and the rotary key as values."""
FILLS_VALUES = frozenset({"deepseek_v32", "glm_moe_dsa"})
"""Modules that store zeros of the keys' shape as values of index keys; minimax_m3_vl does not."""
STATES_IN_FLOAT32 = frozenset({"bailing_hybrid", "plamo2"})
"""Modules with float32 states for kinds that use the model's dtype elsewhere (compute_dt of ssm.py)."""
FAILS_QUANTISED = frozenset(
    {
        *("afm7", "gemma2", "olmo", "phi", "plamo", "plamo2", "stablelm"),
        *("bailing_hybrid", "bailing_moe_v3", "deepseek_v3", "glm4_moe_lite", "kimi_k25", "kimi_k3", "kimi_linear"),
        *("kimi_vl", "mistral4"),
    }
)
"""Modules that treat the cache's result as an array; when quantised it is a tuple of three."""


def module_of(model: Model) -> str:
    """MLX-LM's module for a model; empty if its type is unknown.

    Raises NotApplicableError with MLX-LM's message if it has none.
    """
    named = model.published.model_type or model.model_type
    name = _REMAPPED.get(named, named)
    if not model.published.model_type and name not in MODULES:  # a preset has the type of the text part
        whole = _OF_TEXT.get(named, named.removesuffix("_text"))
        name = _REMAPPED.get(whole, whole)
    if named and name not in MODULES:
        raise NotApplicableError(f"Model type {name_shown(named)} not supported.", help="try another --engine")
    return name


def makes_cache(module: str) -> bool:
    """Whether the module creates its own caches, ignoring max_kv_size."""
    return bool(module) and module not in WITHOUT_MAKE_CACHE


def window_of(part: Attention, module: str, model: Model) -> int | None:
    """Tokens of a part's ring; None if it keeps every token, or max_kv_size."""
    window = part_window(part) if module in ROTATES else None
    if window is None or (module in NEEDS_BOTH_KINDS and not _has_full_layers(model)):
        return None
    return max(1, window - 1) if module in WINDOW_WITHOUT_QUERY else window


def part_window(part: Attention) -> int | None:
    """Tokens of a part's window; None if unlimited."""
    window: int | None = getattr(part, "sliding_window", None)
    return window


def _has_full_layers(model: Model) -> bool:
    return any(part_window(part) is None for group in model.groups for part in group.parts)
