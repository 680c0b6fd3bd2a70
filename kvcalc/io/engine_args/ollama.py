"""Ollama's environment and the few arguments of `ollama serve` and `ollama run`.

Source: envconfig/config.go and cmd/cmd.go. A Modelfile (num_ctx) overrides the environment.
"""

from __future__ import annotations

from kvcalc.io.engine_args._program import Program
from kvcalc.io.engine_args._rows import Flag, Ignored, Sets, Variable, rows, words

_VARIABLES = {
    "OLLAMA_CONTEXT_LENGTH": Flag("OLLAMA_CONTEXT_LENGTH", Sets("context_length")),
    "OLLAMA_NUM_PARALLEL": Flag("OLLAMA_NUM_PARALLEL", Sets("num_parallel", {"0": None})),
    "OLLAMA_KV_CACHE_TYPE": Flag("OLLAMA_KV_CACHE_TYPE", Sets("kv_cache_type")),
    "OLLAMA_FLASH_ATTENTION": Flag("OLLAMA_FLASH_ATTENTION", Sets("flash_attention")),
}

PROGRAM = Program(
    by_variables=True,
    title="Ollama",
    engine="ollama",
    commands=("ollama serve", "ollama start", "ollama run"),
    flags=(
        *rows(
            Ignored("request and response format"),
            switch="verbose hidethinking insecure nowordwrap experimental experimental-yolo truncate help|h",
            value="format keepalive dimensions width height steps seed negative",
        ),
        Flag("think", Ignored("response format"), takes="maybe", known=("true", "false", "high", "medium", "low")),
    ),
    variables=tuple(Variable(name, flag) for name, flag in _VARIABLES.items()),
    own_variables=("OLLAMA_",),
    harmless=words("""
        OLLAMA_HOST OLLAMA_ORIGINS OLLAMA_MODELS OLLAMA_DEBUG* OLLAMA_KEEP_ALIVE OLLAMA_LOAD_TIMEOUT
        OLLAMA_MAX_LOADED_MODELS OLLAMA_MAX_QUEUE OLLAMA_NOHISTORY OLLAMA_NOPRUNE OLLAMA_LLM_LIBRARY
        OLLAMA_MULTIUSER_CACHE OLLAMA_NEW_ENGINE OLLAMA_SCHED_SPREAD OLLAMA_TMPDIR OLLAMA_RUNNERS_DIR
        OLLAMA_INTEL_GPU OLLAMA_VULKAN OLLAMA_REMOTES OLLAMA_VERSION OLLAMA_AUTH OLLAMA_API* OLLAMA_NO_CLOUD
        OLLAMA_GPU_OVERHEAD OLLAMA_EDITOR OLLAMA_CLOUD*
    """),
    takes_model=True,
    takes_text=True,
    images=(r"(^|/)ollama(:|$)",),
    starts=True,
    built=r"^ollama",
    shown_by=(*_VARIABLES, "OLLAMA_MODELS", "OLLAMA_KEEP_ALIVE", "OLLAMA_MAX_LOADED_MODELS"),
)
