"""Changes in Ollama: rules of its own engine, and the llama.cpp it starts since dropping it.

Source: Ollama's repository at the tags of these versions. Its own engine was run as of f63eea3d2, four days before it
was dropped; kvcache/ is the same there as in 0.24.0.
"""

from __future__ import annotations

from kvcalc.engines.base.versions import Release, Rule


class OllamaRelease(Release):
    """A version of Ollama."""

    TITLE = "Ollama"
    KNOWN = ("0.24.0", "0.32.15")
    OLDEST = "0.11.0"
    RECENT = "0.32.15"

    starts_llama_server = Rule(
        "whether it starts llama-server instead of its own engine", False, {"0.30.0": True}, "llm/server.go"
    )
    llama_cpp = Rule(
        "llama.cpp build of the llama-server it starts",
        "b9452",
        {
            **{"0.30.1": "b9479", "0.30.4": "b9493", "0.30.5": "b9509", "0.30.9": "b9626", "0.30.10": "b9672"},
            **{"0.30.11": "b9781", "0.31.0": "b9840", "0.31.2": "b9888", "0.32.2": "b10069", "0.32.3": "b10091"},
            **{"0.32.6": "b10242", "0.32.8": "b10353", "0.32.10": "b10380", "0.32.14": "b10434", "0.32.15": "b10488"},
        },
        "LLAMA_CPP_VERSION",
    )
    padding_without_flash = Rule(
        "cells per step without flash attention", 32, {"0.13.2": 256}, "ml/backend/ggml/ggml.go, CacheConfig"
    )
    keeps_stop_token = Rule(
        "whether windows of several sequences have an extra cell, and one as long as the context is ignored",
        False,
        {"0.12.4": True},
        "kvcache/causal.go, Init",
    )
    context_by_memory = Rule(
        "whether GPU memory raises the default context",
        False,
        {"0.15.5": True},
        "server/routes.go, Serve",
    )
