"""The architectures of llama.cpp: the config.json types converted to each, and what its class decides.

Source: llama.cpp, src/llama-arch.cpp (names), conversion/*.py (which class of a model is
converted to which), src/llama-model.cpp (create_memory) and src/models/*.cpp (load_arch_hparams).
"""

from __future__ import annotations

from kvcalc.errors import NotApplicableError
from kvcalc.model import Model

MODEL_TYPES: dict[str, tuple[str, ...]] = {
    "llama": ("llama", "mistral", "mixtral", "ministral", "internlm3", "iquestcoder", "yi"),
    "llama4": ("llama4_text",),
    "llama-embed": (),
    "mistral3": ("ministral3",),
    "mistral4": ("mistral4",),
    "deci": ("nemotron-nas", "deci"),
    "falcon": ("falcon",),
    "grok": (),
    "gpt2": ("gpt2",),
    "gptneox": ("gpt_neox",),
    "mpt": ("mpt",),
    "baichuan": ("baichuan",),
    "starcoder": ("gpt_bigcode",),
    "starcoder2": ("starcoder2",),
    "refact": (),
    "bloom": ("bloom",),
    "stablelm": ("stablelm",),
    "qwen": ("qwen",),
    "qwen2": ("qwen2",),
    "qwen2moe": ("qwen2_moe",),
    "qwen2vl": ("qwen2_vl_text", "qwen2_5_vl_text"),
    "qwen3": ("qwen3",),
    "qwen3moe": ("qwen3_moe",),
    "qwen3next": ("qwen3_next",),
    "qwen3vl": ("qwen3_vl_text",),
    "qwen3vlmoe": ("qwen3_vl_moe_text",),
    "qwen3tts": (),
    "qwen35": ("qwen3_5_text",),
    "qwen35moe": ("qwen3_5_moe_text",),
    "qwen4exp": ("qwen4_exp_text",),
    "phi2": ("phi",),
    "phi3": ("phi3",),
    "phimoe": ("phimoe",),
    "plamo": (),
    "plamo2": (),
    "plamo3": (),
    "codeshell": (),
    "orion": ("orion",),
    "internlm2": ("internlm2",),
    "minicpm": ("minicpm",),
    "minicpm3": ("minicpm3",),
    "gemma": ("gemma",),
    "gemma2": ("gemma2",),
    "gemma3": ("gemma3_text",),
    "gemma3n": ("gemma3n_text",),
    "gemma4": ("gemma4_text", "gemma4_unified_text"),
    "mamba": ("mamba", "falcon_mamba"),
    "mamba2": ("mamba2",),
    "maple": (),
    "jamba": ("jamba",),
    "falcon-h1": ("falcon_h1",),
    "xverse": ("xverse",),
    "command-r": ("cohere",),
    "cohere2": ("cohere2",),
    "cohere2moe": ("cohere2_moe",),
    "dbrx": ("dbrx",),
    "olmo": ("olmo",),
    "olmo2": ("olmo2", "olmo3"),
    "olmoe": ("olmoe",),
    "muse-glimmer": ("muse_glimmer_text",),
    "openelm": (),
    "arctic": (),
    "deepseek": ("deepseek",),
    "deepseek2": ("deepseek_v3", "deepseek_v2", "kimi_k2", "glm4_moe_lite", "youtu"),
    "deepseek2-ocr": ("deepseek_ocr2_text", "unlimited_ocr_text"),
    "deepseek32": ("deepseek_v32",),
    "deepseek4": ("deepseek_v4",),
    "chatglm": ("chatglm", "glm"),
    "glm4": ("glm4", "glm4v_text", "glm_ocr_text"),
    "glm4moe": ("glm4_moe", "glm4v_moe_text", "solar_open"),
    "glm-dsa": ("glm_moe_dsa",),
    "glm5-next": ("glm5_next_text",),
    "bitnet": ("bitnet",),
    "t5": ("t5",),
    "t5encoder": (),
    "jais": (),
    "jais2": ("jais2",),
    "nemotron": ("nemotron",),
    "nemotron_h": ("nemotron_h",),
    "nemotron_h_moe": (),
    "exaone": ("exaone",),
    "exaone4": ("exaone4",),
    "exaone-moe": ("exaone_moe",),
    "rwkv6": (),
    "rwkv6qwen2": (),
    "rwkv7": (),
    "arwkv7": (),
    "granite": ("granite",),
    "granitemoe": ("granitemoe", "granitemoeshared"),
    "granitehybrid": ("granitemoehybrid", "bamba"),
    "graniteswitch": (),
    "granite_swa": ("granite_swa", "granitemoe_swa"),
    "chameleon": ("chameleon",),
    "plm": (),
    "bailingmoe": (),
    "bailingmoe2": (),
    "bailingmoe3": ("bailing_hybrid",),
    "dots1": ("dots1",),
    "dots3note": ("dots3_note_text",),
    "arcee": ("arcee",),
    "afmoe": ("afmoe",),
    "laguna": ("laguna",),
    "ernie4_5": ("ernie4_5",),
    "ernie4_5-moe": ("ernie4_5_moe", "ernie4_5_vl_moe_text"),
    "paddleocr": ("paddleocr_vl_text",),
    "hunyuan-moe": ("hunyuan_v1_moe",),
    "hunyuan-dense": ("hunyuan_v1_dense",),
    "hunyuan_vl": ("hunyuan_vl_text",),
    "hy_v3": ("hy_v3",),
    "hy_v4": ("hy_v4",),
    "smollm3": ("smollm3",),
    "gpt-oss": ("gpt_oss",),
    "lfm2": ("lfm2",),
    "lfm2moe": ("lfm2_moe",),
    "smallthinker": (),
    "seed_oss": ("seed_oss",),
    "grovemoe": (),
    "apertus": ("apertus",),
    "minimax-01": ("minimax", "minimax_text_01", "minimax_m1"),
    "minimax-m2": ("minimax_m2",),
    "minimax-m3": ("minimax_m3_vl_text", "minimax_m3"),
    "hrm_text": ("hrm_text",),
    "cogvlm": (),
    "pangu-embedded": (),
    "mimo2": ("mimo_v2_flash",),
    "step35": ("step3p5",),
    "spark2_5": (),
    "maincoder": (),
    "kimi-linear": ("kimi_linear",),
    "kimi-k3": (),
    "talkie": (),
    "mellum": ("mellum",),
    "nanbeige": (),
    "pockettts": (),
    "bert": ("bert", "roberta", "camembert", "xlm-roberta"),
    "modern-bert": (),
    "nomic-bert": (),
    "nomic-bert-moe": (),
    "neo-bert": (),
    "jina-bert-v2": (),
    "jina-bert-v3": (),
    "eurobert": (),
    "gemma-embedding": (),
    "dream": (),
    "llada": (),
    "llada-moe": (),
    "rnd1": (),
    "gemma4-assistant": ("gemma4_assistant",),
    "eagle3": (),
    "dflash": (),
}
"""For each architecture, the config.json types converted to it, the most common one first."""

WITHOUT_CACHE = frozenset(
    {
        *("bert", "modern-bert", "nomic-bert", "nomic-bert-moe", "neo-bert", "jina-bert-v2", "jina-bert-v3"),
        *("eurobert", "gemma-embedding", "dream", "llada", "llada-moe", "rnd1"),
    }
)
"""Encoders and diffusion models, which get no cache."""
DRAFTS = frozenset({"gemma4-assistant", "eagle3", "dflash"})
"""Draft models, which need the context of another model and may share its cache."""
WINDOWED = frozenset(
    {
        *("gemma2", "gemma3", "gemma3n", "gemma4", "gpt-oss", "cohere2", "cohere2moe", "olmo2", "llama4", "exaone4"),
        *("exaone-moe", "afmoe", "mellum", "plamo3", "smallthinker", "laguna", "muse-glimmer", "step35", "mimo2"),
        *("granite_swa", "maple", "spark2_5", "lfm2", "dots3note", "deepseek4"),
    }
)
"""Those that keep sliding layers in a smaller cache; all others keep every token in every layer (phi3
intentionally)."""
EXPANDS_LATENT = frozenset({"minicpm3", "plm"})
"""Those that expand MLA's latent into keys and values of every head before caching."""
ROLLS_BACK = frozenset(
    {
        *("kimi-k3", "qwen35", "qwen35moe", "qwen4exp", "deepseek4", "glm5-next", "nemotron_h", "nemotron_h_moe"),
        *("lfm2", "lfm2moe", "bailingmoe3"),
    }
)
"""Those that can keep n_rs_seq extra copies of states, to roll back a draft; others ignore n_rs_seq."""
WITHOUT_FLASH_ATTENTION = frozenset({"grok"})
STREAM_FOR_EACH_SEQUENCE = frozenset({"deepseek4"})
"""Those whose cache is never unified, whatever kv_unified says."""
SKIPS_EMPTY_LAYERS = frozenset({"gemma3n", "gemma4", "nemotron_h", "nemotron_h_moe"})
"""Those that leave layers without a cache out of it; in all others they are layers without heads."""
K_ONLY_INDEX = frozenset({"qwen4exp"})
"""Those without MLA whose indexer still has no V."""

_ARCHITECTURE_OF = {name: name for name in MODEL_TYPES} | {
    model_type: name for name, types in MODEL_TYPES.items() for model_type in types
}


def architecture_of(model: Model) -> str:
    """Architecture as which llama.cpp runs `model`. Raises NotApplicableError if it has none for its model_type."""
    name = _ARCHITECTURE_OF.get(model.model_type)
    if name is None:
        raise NotApplicableError(
            f"llama.cpp has no architecture for {model.name} (model_type {model.model_type or 'not given'})",
            help="pass the model's GGUF file with --model, or try another --engine",
        )
    return name


def model_type_of(architecture: str) -> str:
    """Type of config.json that `architecture` is most often converted from; its own name if there is none."""
    return next(iter(MODEL_TYPES[architecture]), architecture)
