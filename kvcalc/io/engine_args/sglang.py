"""Arguments of SGLang's server (0.5.23).

Source: docs/advanced_features/server_arguments.md and python/sglang/srt/server_args.py.
"""

from __future__ import annotations

from kvcalc.io.engine_args import Flag, Program, names

_TP, _PP, _MODEL = Flag("tp"), Flag("pp"), Flag("model")
_FLAGS = {
    **{"model-path": _MODEL, "model": _MODEL, "tp-size": _TP, "tp": _TP, "tensor-parallel-size": _TP},
    **{"pp-size": _PP, "pp": _PP, "pipeline-parallel-size": _PP},
    **{"dp-size": Flag("dp"), "dp": Flag("dp"), "data-parallel-size": Flag("dp")},
    "kv-cache-dtype": Flag("kv_cache_dtype"),
    "mem-fraction-static": Flag("mem_fraction_static"),
    "page-size": Flag("page_size"),
    "attention-backend": Flag("attention_backend"),
    "context-length": Flag("context_length"),
    "max-total-tokens": Flag("max_total_tokens"),
    "max-running-requests": Flag("max_running_requests"),
    "chunked-prefill-size": Flag("chunked_prefill_size"),
    "swa-full-tokens-ratio": Flag("swa_full_tokens_ratio"),
    "disable-hybrid-swa-memory": Flag("disable_hybrid_swa_memory"),
    "disable-radix-cache": Flag("disable_radix_cache"),
    "disable-overlap-schedule": Flag("disable_overlap_schedule"),
    "disable-cuda-graph": Flag("disable_cuda_graph"),
    "max-mamba-cache-size": Flag("max_mamba_cache_size"),
    "mamba-full-memory-ratio": Flag("mamba_full_memory_ratio"),
    "mamba-ssm-dtype": Flag("mamba_ssm_dtype"),
    "mamba-radix-cache-strategy": Flag("mamba_radix_cache_strategy"),
    "speculative-algorithm": Flag("speculative_algorithm"),
    "speculative-num-steps": Flag("speculative_num_steps"),
    "speculative-eagle-topk": Flag("speculative_eagle_topk"),
    "speculative-num-draft-tokens": Flag("speculative_num_draft_tokens"),
    "nsa-prefill-backend": Flag("dsa_prefill_backend"),
    "nsa-decode-backend": Flag("dsa_decode_backend"),
    "dsa-prefill-backend": Flag("dsa_prefill_backend"),
    "dsa-decode-backend": Flag("dsa_decode_backend"),
}
_SWITCHES = names("""
    checkpoint-engine-wait-weights-before-ready disable-cuda-graph-padding
    disable-custom-all-reduce disable-fast-image-processor disable-flashinfer-cutlass-moe-fp4-allgather
    disable-outlines-disk-cache disable-tokenizer-batch-decode enable-cache-report enable-custom-logit-processor
    enable-deterministic-inference enable-fp32-lm-head enable-metrics enable-mixed-chunk enable-multimodal
    enable-nan-detection enable-nccl-nvls enable-p2p-check enable-priority-scheduling
    enable-request-time-stats-logging enable-symm-mem enable-tokenizer-batch-encode enable-torch-compile
    enable-trace grpc-mode is-embedding log-requests log-requests-target quantize-and-serve show-time-cost
    skip-server-warmup skip-tokenizer-init sleep-on-idle trust-remote-code
""")
_HARMLESS = names("""
    api-key base-gpu-id bucket-time-to-first-token chat-template completion-template
    constrained-json-whitespace-pattern crash-dump-folder cuda-graph-bs cuda-graph-max-bs decode-log-interval device
    dist-init-addr dist-timeout download-dir dtype fastapi-root-path file-storage-path gpu-id-step grammar-backend
    hf-chat-template-name host load-balance-method load-format log-level log-level-http log-requests-level
    max-prefill-tokens max-queued-requests model-impl model-loader-extra-config modelopt-quant moe-a2a-backend
    moe-runner-backend nccl-port nnodes node-rank otlp-traces-endpoint port preferred-sampling-params
    prefill-max-requests priority-scheduling-preemption-threshold quantization quantization-param-path
    radix-eviction-policy random-seed reasoning-parser revision sampling-backend schedule-conservativeness
    schedule-policy served-model-name stream-interval tokenizer-mode tokenizer-path tokenizer-worker-num
    tool-call-parser tool-server torch-compile-max-bs warmups watchdog-timeout weight-loader-disable-mmap
""")
_SEVERAL = names("""
    cuda-graph-bs warmups
""")
_REFUSED = {
    "config": "arguments in a file are not read",
    "enable-dp-attention": "with it ranks hold whole heads: write tp: 1 and dp of the attention beside reserve",
    "speculative-draft-model-path": "the layers of a draft model of its own are not known here",
    "cpu-offload-gb": "it keeps weights in the host's memory, and which is not known here",
}

PROGRAM = Program(
    commands=("python -m sglang.launch_server", "sglang serve"),
    flags=_FLAGS,
    switches=_SWITCHES,
    harmless=_HARMLESS,
    refused=_REFUSED,
    several=_SEVERAL,
)
