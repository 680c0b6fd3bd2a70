"""Arguments of SGLang's server (0.5.23)."""

from __future__ import annotations

from kvcalc.io.engine_args import Flag

COMMANDS = ("python -m sglang.launch_server", "python3 -m sglang.launch_server", "sglang serve")
_TP, _PP, _MODEL = Flag("tp"), Flag("pp"), Flag("model", "text")
FLAGS = {
    **{"model-path": _MODEL, "model": _MODEL, "tp-size": _TP, "tp": _TP, "tensor-parallel-size": _TP},
    **{"pp-size": _PP, "pp": _PP, "pipeline-parallel-size": _PP},
    **{"dp-size": Flag("dp"), "dp": Flag("dp"), "data-parallel-size": Flag("dp")},
    "kv-cache-dtype": Flag("kv_cache_dtype", "text"),
    "mem-fraction-static": Flag("mem_fraction_static", "number"),
    "page-size": Flag("page_size"),
    "attention-backend": Flag("attention_backend", "text"),
    "context-length": Flag("context_length"),
    "max-total-tokens": Flag("max_total_tokens"),
    "max-running-requests": Flag("max_running_requests"),
    "chunked-prefill-size": Flag("chunked_prefill_size"),
    "swa-full-tokens-ratio": Flag("swa_full_tokens_ratio", "number"),
    "disable-hybrid-swa-memory": Flag("disable_hybrid_swa_memory", "flag"),
    "disable-radix-cache": Flag("disable_radix_cache", "flag"),
    "max-mamba-cache-size": Flag("max_mamba_cache_size"),
    "mamba-full-memory-ratio": Flag("mamba_full_memory_ratio", "number"),
    "mamba-ssm-dtype": Flag("mamba_ssm_dtype", "text"),
    "nsa-prefill-backend": Flag("dsa_prefill_backend", "text"),
    "nsa-decode-backend": Flag("dsa_decode_backend", "text"),
    "dsa-prefill-backend": Flag("dsa_prefill_backend", "text"),
    "dsa-decode-backend": Flag("dsa_decode_backend", "text"),
}
SWITCHES = {
    *("trust-remote-code", "log-requests", "enable-metrics", "disable-cuda-graph", "enable-torch-compile"),
    *("skip-tokenizer-init", "disable-custom-all-reduce", "enable-cache-report"),
}
HARMLESS = {"served-model-name", "load-format", "quantization", "schedule-policy", "dtype"}
REFUSED = {
    "disable-overlap-schedule": "chunks in flight are counted with it",
    "config": "arguments in a file are not read",
    "enable-dp-attention": "with it ranks hold whole heads: write tp: 1 and dp of the attention beside reserve",
    "speculative-algorithm": "its draft layers are counted where the model itself has them",
    "cpu-offload-gb": "it keeps weights in the host's memory, and which is not known here",
}
ENVIRONMENT: dict[str, Flag] = {}
