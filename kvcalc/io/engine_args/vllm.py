"""Arguments of `vllm serve` (0.33.0), with the variables that change what it plans."""

from __future__ import annotations

from kvcalc.io.engine_args import Flag

COMMANDS = (
    "vllm serve",
    "python -m vllm.entrypoints.openai.api_server",
    "python3 -m vllm.entrypoints.openai.api_server",
)
TAKES_MODEL = True
"""Whether the model stands among the arguments without a flag."""

_TP, _PP, _DP = Flag("tp"), Flag("pp"), Flag("dp")
_DCP, _MODEL = Flag("dcp"), Flag("model", "text")
FLAGS = {
    **{"model": _MODEL, "tensor-parallel-size": _TP, "tp": _TP, "pipeline-parallel-size": _PP, "pp": _PP},
    **{"data-parallel-size": _DP, "dp": _DP, "decode-context-parallel-size": _DCP, "dcp": _DCP},
    "kv-cache-dtype": Flag("kv_cache_dtype", "text"),
    "max-model-len": Flag("max_model_len", "count", {"auto": -1, "-1": -1}),
    "gpu-memory-utilization": Flag("gpu_memory_utilization", "number"),
    "block-size": Flag("block_size"),
    "max-num-batched-tokens": Flag("max_num_batched_tokens"),
    "max-num-seqs": Flag("max_num_seqs"),
    "enable-prefix-caching": Flag("enable_prefix_caching", "flag"),
    "disable-hybrid-kv-cache-manager": Flag("disable_hybrid_kv_cache_manager", "flag"),
    "async-scheduling": Flag("async_scheduling", "flag"),
    "kv-cache-memory-bytes": Flag("kv_cache_memory_bytes"),
    "num-gpu-blocks-override": Flag("num_gpu_blocks_override"),
    "dtype": Flag("dtype", "text"),
    "mamba-cache-dtype": Flag("mamba_cache_dtype", "text"),
    "mamba-ssm-cache-dtype": Flag("mamba_ssm_cache_dtype", "text"),
    "kv-cache-dtype-skip-layers": Flag("kv_cache_dtype_skip_layers", "list"),
    "speculative-config": Flag("speculative", "json"),
    "sc": Flag("speculative", "json"),
}
SWITCHES = {
    *("trust-remote-code", "enable-auto-tool-choice", "enable-log-requests", "disable-log-requests"),
    *("disable-log-stats", "enable-chunked-prefill", "enforce-eager", "disable-custom-all-reduce", "headless"),
    *("enable-request-id-headers", "disable-uvicorn-access-log", "disable-fastapi-docs", "enable-sleep-mode"),
    *("enable-server-load-tracking", "enable-prompt-tokens-details", "enable-log-outputs", "use-tqdm-on-load"),
    *(
        "calculate-kv-scales",
        "enable-expert-parallel",
        "enable-tokenizer-info-endpoint",
        "return-tokens-as-token-ids",
        "skip-tokenizer-init",
    ),
    *("allow-credentials", "enable-force-include-usage", "enable-ssl-refresh", "generate-kv-cache-events"),
}
"""Flags without a value. CUDA graphs, which enforce-eager leaves out, are part of the reserve that is given."""
HARMLESS = {
    *("served-model-name", "max-log-len", "max-logprobs", "load-format", "model-impl", "generation-config"),
    *(
        "override-generation-config",
        "structured-outputs-config",
        "config-format",
        "hf-config-path",
        "model-loader-extra-config",
    ),
    *("scheduling-policy", "distributed-executor-backend", "max-parallel-loading-workers", "tokenizer-mode"),
    *("chat-template-content-format", "quantization", "q", "prefix-caching-hash-algo", "kv-events-config"),
    *("data-parallel-backend", "data-parallel-address", "data-parallel-rpc-port", "data-parallel-start-rank"),
    *("max-long-partial-prefills", "max-num-partial-prefills", "long-prefill-token-threshold", "observability-config"),
    *(
        "default-chat-template-kwargs",
        "max-seq-len-to-capture",
        "swap-space",
        "code-revision",
        "tokenizer-revision",
        "device-ids",
    ),
}
"""Flags whose names sound of memory and change nothing of the cache; how weights are quantised shows in their bytes."""
REFUSED = {
    "config": "arguments in a file are not read",
    "cpu-offload-gb": "it keeps weights in the host's memory, and which is not known here",
    "kv-offloading-size": "a second cache in the host's memory is not counted",
    "kv-transfer-config": "a connector may change the layout and the block size",
    "hf-overrides": "it changes the model; give the changed config.json as model",
    "prefill-context-parallel-size": "ranks that share a prompt are not known here",
    "pcp": "ranks that share a prompt are not known here",
    "attention-backend": "kvcalc chooses the kernels as vLLM does by default, and they decide the block size",
    "attention-config": "kvcalc chooses the kernels as vLLM does by default, and they decide the block size",
    "no-enable-chunked-prefill": "whole prompts make batches longer; give --max-num-batched-tokens in its place",
    "enable-lora": "adapters take memory beside the weights; put them into reserve and leave the flag out",
    "compilation-config": "graphs take memory; put it into reserve and leave the flag out",
    "additional-config": "what it holds is not known here",
    "mamba-cache-mode": "the mode follows from prefix caching here; use --no-enable-prefix-caching",
    "mamba-block-size": "the size of state blocks follows from the model here",
    "enable-dbo": "two batches at a time change what is in flight",
}
REFUSED_WITH_REPLICAS = {
    "enable-expert-parallel": "replicas then share experts, and not all of them hold all weights",
}
ENVIRONMENT = {
    "VLLM_PP_LAYER_PARTITION": Flag("pp_layer_partition", "list"),
    "VLLM_USE_V2_MODEL_RUNNER": Flag("use_v2_model_runner", "flag"),
}
