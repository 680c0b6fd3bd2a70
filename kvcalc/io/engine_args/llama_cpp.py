"""Arguments of llama.cpp's llama-server.

Source: common/arg.cpp of llama.cpp. Weights in the host's memory (override-tensor, n-cpu-moe) and prompts kept there
(cache-ram, ctx-checkpoints) leave the cache as it is.
"""

from __future__ import annotations

from kvcalc.io.engine_args import Flag, Program, names

_CONTEXT, _K, _V = Flag("tokens"), Flag("type_k"), Flag("type_v")
_SLOTS, _BATCH, _UBATCH = Flag("n_seq_max"), Flag("n_batch"), Flag("n_ubatch")
_FLAGS = {
    **{
        "model": Flag("model"),
        "m": Flag("model"),
        "hf-repo": Flag("model"),
        "hf": Flag("model"),
        "ctx-size": _CONTEXT,
        "c": _CONTEXT,
    },
    **{"cache-type-k": _K, "ctk": _K, "cache-type-v": _V, "ctv": _V, "parallel": _SLOTS, "np": _SLOTS},
    **{"batch-size": _BATCH, "b": _BATCH, "ubatch-size": _UBATCH, "ub": _UBATCH},
    **{"flash-attn": Flag("flash_attn"), "fa": Flag("flash_attn")},
    **{
        "swa-full": Flag("swa_full"),
        "kv-unified": Flag("kv_unified"),
        "kvu": Flag("kv_unified"),
    },
}
_SWITCHES = names("""
    cache-prompt cb check-tensors cmoe cont-batching context-shift cpu-moe dio direct-io e escape jinja log-colors
    log-disable log-prefix log-timestamps log-verbose metrics mlock mmap no-cont-batching no-host no-mmap no-slots
    no-warmup no-webui nocb offline prefill-assistant props slots sp special v verbose warmup webui
""")
_HARMLESS = names("""
    a alias api-key api-key-file api-prefix cache-ram cache-reuse chat-template chat-template-file
    chat-template-kwargs cram ctx-checkpoints ctxcp defrag-thold dt fit frequency-penalty gpu-layers grammar hf-file
    hf-token hff hft host json-schema keep log-file log-verbosity lora lora-scaled lv main-gpu mg min-p mm mmproj
    model-url mu n n-cpu-moe n-gpu-layers n-predict ncmoe ngl numa ot override-tensor path poll port predict
    presence-penalty prio reasoning-budget reasoning-format repeat-penalty rope-freq-base rope-freq-scale rope-scale
    rope-scaling s samplers seed slot-prompt-similarity slot-save-path sps ssl-cert-file ssl-key-file
    swa-checkpoints t tags tb temp temperature threads threads-batch threads-http timeout to top-k top-p typical
    verbosity yarn-attn-factor yarn-beta-fast yarn-beta-slow yarn-ext-factor yarn-orig-ctx
""")
_REFUSED = {
    "model-draft": "a draft model's own cache is not counted; size it alone",
    "md": "a draft model's own cache is not counted; size it alone",
    "no-kv-offload": "the cache is then in the host's memory",
    "nkvo": "the cache is then in the host's memory",
    "tensor-split": "how several GPUs share one context is not known here",
    "ts": "how several GPUs share one context is not known here",
    "split-mode": "how several GPUs share one context is not known here",
    "sm": "how several GPUs share one context is not known here",
    "rpc": "how several machines share one context is not known here",
    "override-kv": "it changes the model; give a GGUF file that says so",
}

PROGRAM = Program(
    commands=("llama-server",),
    flags=_FLAGS,
    switches=_SWITCHES,
    harmless=_HARMLESS,
    refused=_REFUSED,
    defaults={"defaults": "server"},
)
