"""Arguments of llama.cpp's llama-server."""

from __future__ import annotations

from kvcalc.io.engine_args import Flag

COMMANDS = ("llama-server",)
_CONTEXT, _K, _V = Flag("tokens"), Flag("type_k", "text"), Flag("type_v", "text")
_SLOTS, _BATCH, _UBATCH = Flag("n_seq_max"), Flag("n_batch"), Flag("n_ubatch")
FLAGS = {
    **{"model": Flag("model", "text"), "m": Flag("model", "text"), "ctx-size": _CONTEXT, "c": _CONTEXT},
    **{"cache-type-k": _K, "ctk": _K, "cache-type-v": _V, "ctv": _V, "parallel": _SLOTS, "np": _SLOTS},
    **{"batch-size": _BATCH, "b": _BATCH, "ubatch-size": _UBATCH, "ub": _UBATCH},
    **{"flash-attn": Flag("flash_attn", "text"), "fa": Flag("flash_attn", "text")},
    **{
        "swa-full": Flag("swa_full", "flag"),
        "kv-unified": Flag("kv_unified", "flag"),
        "kvu": Flag("kv_unified", "flag"),
    },
}
DEFAULTS = {"defaults": "server"}
"""Settings of whoever starts it this way."""
SWITCHES = {"mlock", "no-mmap", "mmap", "jinja", "verbose", "v", "cont-batching", "cb", "metrics", "slots", "no-webui"}
HARMLESS = {"gpu-layers", "n-gpu-layers", "ngl", "threads", "t", "alias", "a", "chat-template", "main-gpu", "mg", "fit"}
REFUSED = {
    "model-draft": "a draft model's own cache is not counted; size it alone",
    "md": "a draft model's own cache is not counted; size it alone",
    "no-kv-offload": "the cache is then in the host's memory",
    "nkvo": "the cache is then in the host's memory",
    "tensor-split": "how several GPUs share one context is not known here",
    "ts": "how several GPUs share one context is not known here",
}
ENVIRONMENT: dict[str, Flag] = {}
