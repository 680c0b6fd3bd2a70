"""Rules of transformers that changed between its versions, each a row with its source."""

from __future__ import annotations

from enum import Enum

from kvcalc.engines.base.versions import Release, Rule


class States(Enum):
    """Format in which a recurrent state is kept, which models compute in float32."""

    BY_CLASS = "as the model's own cache class keeps it"
    OF_THE_MODEL = "the model's dtype"
    FLOAT32 = "float32"


class TransformersRelease(Release):
    """A version of transformers. Between two known versions, a rule changes where their sources show it."""

    TITLE = "transformers"
    KNOWN = (
        *("4.57", "5.0", "5.1", "5.2", "5.3", "5.4", "5.5.4", "5.6", "5.7", "5.8", "5.9", "5.10", "5.11", "5.12"),
        *("5.13", "5.14", "5.15", "5.16", "5.17", "5.18", "5.19", "5.20", "5.21", "5.22", "5.23", "5.24"),
    )
    USUAL = "5.23"
    RECENT = "5.14"

    recurrent_states = Rule(
        "format of recurrent states (Mamba, gated DeltaNet)",
        States.BY_CLASS,
        {"5.5": States.OF_THE_MODEL, "5.14": States.FLOAT32},
        "cache_utils.py (LinearAttentionLayer)",
    )
    expands_latent = Rule(
        "whether keys and values are expanded from the latent of MLA before they are cached",
        True,
        {"5.15": False},
        "models/deepseek_v3/modeling_deepseek_v3.py",
    )
    expands_indexed_latent = Rule(
        "whether latents are also expanded with an indexer (DeepSeek-V3.2, GLM-5)",
        True,
        {"5.18": False},
        "models/deepseek_v32/modeling_deepseek_v32.py",
    )
    caches_index_keys = Rule(
        "whether an indexer's keys are part of the cache",
        False,
        {"5.11": True},
        "cache_utils.py (DynamicIndexedLayer)",
    )
    forgets_windows = Rule(
        "whether Gemma 3n and 4 without shared layers (num_kv_shared_layers 0) keep all tokens in every layer",
        True,
        {"5.14": False},
        "cache_utils.py (DynamicCache: layer_types[:-0])",
    )
    gemma3n_keeps_shared_window = Rule(
        "whether Gemma 3n keeps a second copy of the window that its last layers share",
        True,
        {"5.6": False},
        "models/gemma3n/modeling_gemma3n.py (shared_layers)",
    )
    gemma4_keeps_shared_window = Rule(
        "whether Gemma 4 keeps such a second copy",
        True,
        {"5.5.2": False},
        "models/gemma4/modeling_gemma4.py (shared_layers)",
    )
    lfm2_convolves_in_attention = Rule(
        "whether LFM2 also has a convolution state in its attention layers",
        True,
        {"5.5": False},
        "models/lfm2/modeling_lfm2.py (Lfm2HybridConvCache)",
    )
    olmo_hybrid_keeps_conv_columns = Rule(
        "whether OLMo Hybrid has a cache class of its own, with kernel - 1 columns and float32 states",
        True,
        {"5.15": False},
        "models/olmo_hybrid/modeling_olmo_hybrid.py (OlmoHybridDynamicCache)",
    )
    afmoe_keeps_every_token = Rule(
        "whether sliding layers of AFMoE keep all tokens",
        True,
        {"5.1": False},
        "models/afmoe/modeling_afmoe.py",
    )
    reads_cohere2_pattern = Rule(
        "whether the sliding_window_pattern of Cohere 2 is read",
        True,
        {"5.0": False, "5.4": True},
        "models/cohere2/configuration_cohere2.py",
    )
    reads_mimo_window_size = Rule(
        "whether the sliding_window_size of MiMo-V2-Flash is read",
        False,
        {"5.20": True},
        "models/mimo_v2_flash/configuration_mimo_v2_flash.py",
    )
    gates_in_float32 = Rule(
        "whether DeepSeek-V4 keeps the gates of its last compressed block in float32",
        False,
        {"5.24": True},
        "models/deepseek_v4/modeling_deepseek_v4.py (position_bias)",
    )
    xlm_caches = Rule(
        "whether XLM caches in generate()",
        False,
        {"5.24": True},
        "models/xlm/modeling_xlm.py",
    )
