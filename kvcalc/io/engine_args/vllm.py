"""Arguments of `vllm serve` (0.33.0), with the variables that change what it plans.

Source: vllm/engine/arg_utils.py, vllm/entrypoints/openai/cli_args.py, and vllm/utils/argparse_utils.py for how they are
written: underscores for dashes, --json.key value, -O3, 128k and 128K.
"""

from __future__ import annotations

from kvcalc.io.engine_args import Flag, Program, names

_TP, _PP, _DP = Flag("tp"), Flag("pp"), Flag("dp")
_DCP, _MODEL = Flag("dcp"), Flag("model")
_FLAGS = {
    **{"model": _MODEL, "tensor-parallel-size": _TP, "tp": _TP, "pipeline-parallel-size": _PP, "pp": _PP},
    **{"data-parallel-size": _DP, "dp": _DP, "decode-context-parallel-size": _DCP, "dcp": _DCP},
    "kv-cache-dtype": Flag("kv_cache_dtype"),
    "max-model-len": Flag("max_model_len", {"auto": -1, "-1": -1}),
    "gpu-memory-utilization": Flag("gpu_memory_utilization"),
    "block-size": Flag("block_size"),
    "max-num-batched-tokens": Flag("max_num_batched_tokens"),
    "max-num-seqs": Flag("max_num_seqs"),
    "enable-prefix-caching": Flag("enable_prefix_caching"),
    "disable-hybrid-kv-cache-manager": Flag("disable_hybrid_kv_cache_manager"),
    "async-scheduling": Flag("async_scheduling"),
    "kv-cache-memory-bytes": Flag("kv_cache_memory_bytes"),
    "num-gpu-blocks-override": Flag("num_gpu_blocks_override"),
    "dtype": Flag("dtype"),
    "attention-backend": Flag("attention_backend"),
    "mamba-cache-dtype": Flag("mamba_cache_dtype"),
    "mamba-ssm-cache-dtype": Flag("mamba_ssm_cache_dtype"),
    "kv-cache-dtype-skip-layers": Flag("kv_cache_dtype_skip_layers"),
    "speculative-config": Flag("speculative"),
    "sc": Flag("speculative"),
}
_SWITCHES = names("""
    O0 O1 O2 O3 allow-credentials calculate-kv-scales cudagraph-metrics data-parallel-external-lb
    data-parallel-hybrid-lb disable-async-output-proc disable-cascade-attn disable-custom-all-reduce
    disable-fastapi-docs disable-log-requests disable-log-stats disable-uvicorn-access-log enable-auto-tool-choice
    enable-chunked-prefill enable-ep-weight-filter enable-expert-parallel enable-force-include-usage
    enable-layerwise-nvtx-tracing enable-log-deltas enable-log-outputs enable-log-requests
    enable-logging-iteration-details enable-mfu-metrics enable-mm-embeds enable-offline-docs
    enable-per-request-metrics enable-prompt-embeds enable-prompt-tokens-details enable-request-id-headers
    enable-server-load-tracking enable-sleep-mode enable-ssl-refresh enable-tokenizer-info-endpoint enforce-eager ep
    exclude-tools-when-tool-choice-none headless interleave-mm-strings kv-cache-metrics log-error-stack numa-bind
    ray-workers-use-nsight return-tokens-as-token-ids skip-mm-profiling skip-tokenizer-init tokens-only
    trust-remote-code trust-request-chat-template use-tqdm-on-load use-v2-block-manager
""")
_HARMLESS = names("""
    O all2all-backend allowed-headers allowed-local-media-path allowed-media-domains allowed-methods allowed-origins
    api-key api-server-count asc cc chat-template chat-template-content-format code-revision cohere-format
    collect-detailed-traces compilation-config config-format convert cudagraph-capture-sizes data-parallel-address
    data-parallel-backend data-parallel-rank data-parallel-rpc-port data-parallel-size-local
    data-parallel-start-rank data-parallel-supervisor-port default-chat-template-kwargs device-ids
    disable-access-log-for-endpoints distributed-executor-backend distributed-timeout-seconds download-dir dpa dpb
    dpl dpn dpp dpr fingerprint-mode fingerprint-value generation-config guided-decoding-backend
    h11-max-header-count h11-max-incomplete-event-size hf-config-path hf-token host ignore-patterns kv-events-config
    limit-mm-per-prompt load-format log-config-file logits-processors logprobs-mode long-prefill-token-threshold
    lora-modules master-addr master-port max-cudagraph-capture-size max-log-len max-logprobs
    max-long-partial-prefills max-num-partial-prefills max-parallel-loading-workers max-seq-len-to-capture
    media-io-kwargs middleware mm-encoder-tp-mode mm-processor-cache-gb mm-processor-cache-type mm-processor-kwargs
    mm-shm-cache-max-object-size-mb model-impl model-loader-extra-config moe-backend n nnodes node-rank
    observability-config optimization-level otlp-traces-endpoint override-generation-config performance-mode port
    prefix-caching-hash-algo q quantization r reasoning-config reasoning-parser reasoning-parser-plugin
    response-role revision root-path runner safetensors-load-strategy scheduler-cls scheduling-policy seed
    served-model-name show-hidden-metrics-for-version shutdown-timeout ssl-ca-certs ssl-cert-reqs ssl-certfile
    ssl-ciphers ssl-keyfile stream-interval structured-outputs-config swap-space tokenizer tokenizer-mode
    tokenizer-revision tool-call-parser tool-parser-plugin tool-server uds uvicorn-log-level video-pruning-rate
    worker-cls worker-extension-cls
""")
"""How weights are quantised shows in their bytes; what CUDA graphs take, which enforce-eager leaves out and
compilation-config may change, is part of the reserve that is given.
"""
_SEVERAL = names("""
    allowed-headers allowed-methods allowed-origins api-key cudagraph-capture-sizes device-ids ignore-patterns
    logits-processors lora-modules middleware served-model-name
""")
_REFUSED = {
    "config": "arguments in a file are not read",
    "cpu-offload-gb": "it keeps weights in the host's memory, and which is not known here",
    "kv-offloading-size": "a second cache in the host's memory is not counted",
    "kv-transfer-config": "a connector may change the layout and the block size",
    "hf-overrides": "it changes the model; give the changed config.json as model",
    "prefill-context-parallel-size": "ranks that share a prompt are not known here",
    "pcp": "ranks that share a prompt are not known here",
    "attention-config": "kvcalc chooses the kernels as vLLM does by default, and they decide the block size",
    "no-enable-chunked-prefill": "whole prompts make batches longer; give --max-num-batched-tokens in its place",
    "enable-lora": "adapters take memory beside the weights; put them into reserve and leave the flag out",
    "additional-config": "what it holds is not known here",
    "mamba-cache-mode": "the mode follows from prefix caching here; use --no-enable-prefix-caching",
    "mamba-block-size": "the size of state blocks follows from the model here",
    "enable-dbo": "two batches at a time change what is in flight",
}
_REFUSED_WITH_REPLICAS = {
    "enable-expert-parallel": "replicas then share experts, and not all of them hold all weights",
}
_ENVIRONMENT = {
    "VLLM_PP_LAYER_PARTITION": Flag("pp_layer_partition"),
    "VLLM_USE_V2_MODEL_RUNNER": Flag("use_v2_model_runner"),
}

PROGRAM = Program(
    commands=(
        "vllm serve",
        "python -m vllm.entrypoints.openai.api_server",
        "python -m vllm.entrypoints.cli.main serve",
    ),
    flags=_FLAGS,
    switches=_SWITCHES,
    harmless=_HARMLESS,
    refused=_REFUSED,
    several=_SEVERAL,
    environment=_ENVIRONMENT,
    refused_with_replicas=_REFUSED_WITH_REPLICAS,
    takes_model=True,
)
