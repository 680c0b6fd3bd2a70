"""Special rules of architectures in llama.cpp's reading of their metadata: the kind of each layer.

All others have attention over every token, in every layer. Source: llama.cpp as in llama-cpp-python 0.3.36,
src/models/*.cpp (load_arch_hparams) and src/llama-model.cpp (load_hparams, create_memory).
"""

from __future__ import annotations

from typing import NamedTuple


class Windows(NamedTuple):
    """Layers with limited reach, given by attention.sliding_window (0: none).

    every: interval whose last layer is full, if the file does not list the layers; 0: none is; None: it must list them.
    full_first: the first layer is full instead. window: default reach. always: reach regardless of the file. needed:
    whether the file must give it. chunked: whether they are chunks.
    """

    every: int | None = None
    full_first: bool = False
    window: int | None = None
    always: int | None = None
    needed: bool = False
    chunked: bool = False


WINDOWS = {
    "afmoe": Windows(4),
    "cohere2": Windows(4, needed=True),
    "cohere2moe": Windows(4, full_first=True, needed=True),
    "dots3note": Windows(needed=True),
    "exaone-moe": Windows(4, needed=True),
    "exaone4": Windows(4, window=4096),
    "gemma2": Windows(2, window=4096),
    "gemma3": Windows(6),
    "gemma3n": Windows(5, needed=True),
    "gemma4": Windows(needed=True),
    "gpt-oss": Windows(2, needed=True),
    "granite_swa": Windows(needed=True),
    "laguna": Windows(4, full_first=True),
    "lfm2": Windows(0),
    "llama4": Windows(4, window=8192, always=8192, chunked=True),
    "maple": Windows(needed=True),
    "mellum": Windows(4),
    "mimo2": Windows(needed=True),
    "muse-glimmer": Windows(4, needed=True),
    "olmo2": Windows(4),
    "phi3": Windows(0),
    "plamo3": Windows(8),
    "smallthinker": Windows(4, full_first=True, always=4096),
    "spark2_5": Windows(needed=True),
    "step35": Windows(needed=True),
}
EXAONE4_WITH_WINDOWS = 64
"""Layers of the only EXAONE 4 whose windows are not ignored."""

LATENT = frozenset({"deepseek2", "deepseek32", "glm-dsa", "mistral4"})
"""MLA if its keys exist; otherwise keys and values are cached for every head, as in old files."""
ALWAYS_LATENT = frozenset({"kimi-linear", "kimi-k3", "bailingmoe3", "glm5-next", "hy_v4", "dots3note"})
EXPANDED_LATENT = frozenset({"minicpm3", "plm"})
"""MLA without an absorbed form in the file."""

MAMBA, DELTA, CONV, KDA, LIGHTNING, WKV = "mamba", "delta", "conv", "kda", "lightning", "wkv"
RECURRENT = {
    **dict.fromkeys(("mamba", "mamba2", "jamba", "falcon-h1", "granitehybrid", "plamo2"), MAMBA),
    **dict.fromkeys(("nemotron_h", "nemotron_h_moe"), MAMBA),
    **dict.fromkeys(("qwen3next", "qwen35", "qwen35moe", "qwen4exp"), DELTA),
    **dict.fromkeys(("lfm2", "lfm2moe"), CONV),
    **dict.fromkeys(("kimi-linear", "kimi-k3", "bailingmoe3", "glm5-next"), KDA),
    "minimax-01": LIGHTNING,
    **dict.fromkeys(("rwkv6", "rwkv6qwen2", "rwkv7", "arwkv7"), WKV),
}
"""The kind of a recurrent layer."""
ALL_RECURRENT = frozenset({"mamba", "mamba2", "rwkv6", "rwkv6qwen2", "rwkv7", "arwkv7"})
BOTH = frozenset({"falcon-h1"})
"""Every layer is recurrent and attention."""
FULL_EVERY = {"qwen3next": 4, "qwen35": 4, "qwen35moe": 4, "qwen4exp": 4, "minimax-01": 8}
"""Interval of attention layers unless full_attention_interval or attention.recurrent_layers override it; in all other
architectures the recurrent layers are those without KV heads."""
BLOCKS = frozenset({"nemotron_h", "nemotron_h_moe"})
"""A layer is a single block: one with a feed-forward has nothing else."""
MAMBA_GROUPS = frozenset({"mamba2", "falcon-h1", "granitehybrid", "plamo2", "nemotron_h", "nemotron_h_moe"})
"""Those whose ssm.group_count is read."""

INDEXERS = frozenset({"deepseek32", "glm-dsa", "hy_v4", "dots3note", "minimax-m3", "glm5-next", "qwen4exp"})
INDEXERS_BY_LAYER = frozenset({"glm-dsa", "hy_v4", "dots3note", "glm5-next"})
"""attention.indexer.types lists the layers with their own indexer."""
LONG_CONTEXT_OF_GLM = 1_048_576
"""context_length from which glm-dsa without indexer.types is version 5.2, whose layers share indexers."""

KV_FROM_START = {"gemma3n": 20}
"""Layers from this one on cache nothing, regardless of the file."""
DRAFTS_WITH_THE_REST = frozenset(
    {
        *("falcon-h1", "jamba", "granitehybrid", "plamo2", "lfm2", "lfm2moe", "kimi-linear", "bailingmoe3", "kimi-k3"),
        *("nemotron_h", "nemotron_h_moe", "minimax-m3", "hy_v4", "deepseek4"),
    }
)
"""Layers for multi-token prediction are cached with all others, not in a separate context."""
