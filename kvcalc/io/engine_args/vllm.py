"""Arguments of `vllm serve` (0.33.0), with the variables that change its plan, and the flags of older versions.

Source: vllm/engine/arg_utils.py, vllm/entrypoints/common/cli_args.py, and vllm/utils/argparse_utils.py for their
syntax: underscores for dashes, any unique prefix, --json.key value, -O3, 128k and 128K, --disable-X for --enable-X.
"""

from __future__ import annotations

from kvcalc.io.engine_args._objects import attention_config, kv_transfer, model_overrides, speculative, speculative_part
from kvcalc.io.engine_args._own import (
    adapters,
    allows_hybrid,
    block_sizes_of_states,
    cache_space,
    config_file,
    device_ids,
    expert_parallel,
    lifts_length,
    lmcache_variables,
    offloaded_weights,
    prefills,
    role,
)
from kvcalc.io.engine_args._program import Program
from kvcalc.io.engine_args._rows import (
    Degree,
    Flag,
    Ignored,
    Names,
    Reads,
    Refused,
    Sets,
    Variable,
    Weighs,
    rows,
    words,
)

_LENGTHS = {"auto": -1, "-1": -1}
_SETTINGS = (
    Flag("kv-cache-dtype", Sets("kv_cache_dtype")),
    Flag("max-model-len", Sets("max_model_len", _LENGTHS)),
    Flag("gpu-memory-utilization", Sets("gpu_memory_utilization"), ("device-memory-utilization",)),
    Flag("block-size", Sets("block_size")),
    Flag("max-num-batched-tokens", Sets("max_num_batched_tokens")),
    Flag("max-num-seqs", Sets("max_num_seqs")),
    Flag("enable-prefix-caching", Sets("enable_prefix_caching"), takes="switch"),
    Flag("disable-hybrid-kv-cache-manager", Sets("disable_hybrid_kv_cache_manager"), takes="switch"),
    Flag("async-scheduling", Sets("async_scheduling"), takes="switch"),
    Flag("kv-cache-memory-bytes", Sets("kv_cache_memory_bytes")),
    Flag("num-gpu-blocks-override", Sets("num_gpu_blocks_override")),
    Flag("dtype", Sets("dtype")),
    Flag("attention-backend", Sets("attention_backend")),
    Flag("mamba-cache-dtype", Sets("mamba_cache_dtype")),
    Flag("mamba-ssm-cache-dtype", Sets("mamba_ssm_cache_dtype")),
    Flag("kv-cache-dtype-skip-layers", Sets("kv_cache_dtype_skip_layers"), takes="values"),
)
_LAYOUT = (
    Flag("tensor-parallel-size", Degree("tp"), ("tp",)),
    Flag("pipeline-parallel-size", Degree("pp"), ("pp",)),
    Flag("data-parallel-size", Degree("dp"), ("dp",)),
    Flag("decode-context-parallel-size", Degree("dcp"), ("dcp",)),
)
_OWN = (
    Flag("model", Names("model")),
    Flag("speculative-config", Reads(speculative), ("sc",)),
    *rows(Reads(speculative_part), value="spec-method spec-model spec-tokens"),
    Flag("hf-overrides", Reads(model_overrides)),
    Flag("attention-config", Reads(attention_config), ("ac",)),
    Flag("kv-transfer-config", Reads(kv_transfer)),
    Flag("kv-offloading-size", Sets("kv_offloading_size", {"0": None, "0.0": None})),
    Flag("kv-offloading-backend", Sets("kv_offloading_backend")),
    Flag("mamba-cache-mode", Reads(block_sizes_of_states)),
    Flag("cpu-offload-gb", Reads(offloaded_weights)),
    Flag("config", Reads(config_file, decides=False)),
    Flag("enable-expert-parallel", Reads(expert_parallel), ("ep",), "switch"),
    Flag("device-ids", Reads(device_ids, decides=False)),
)
_WEIGHS = (
    *rows(
        Weighs("weight quantisation, which is part of the weights' bytes", "weights"),
        value="quantization|q quantization-config",
    ),
    *rows(Reads(adapters), switch="enable-lora", value="max-loras max-lora-rank"),
)
_OMNI = Refused(
    "vLLM-Omni serves several stages, each with its own engine, or a diffusion model without a KV cache",
    "size one stage's model with its own vllm serve command",
)
_REFUSED = (
    *rows(
        Refused("prefill context parallelism is not modelled", nothing=("1",)),
        value="prefill-context-parallel-size|pcp",
    ),
    *rows(Refused("its memory is unknown", nothing=("{}", "null", "None")), value="additional-config"),
    *rows(Refused("the size of state blocks is derived from the model"), value="mamba-block-size"),
    *rows(Refused("two concurrent batches change what is in flight"), switch="enable-dbo", value="ubatch-size"),
    *rows(Refused("windows are then ignored"), switch="disable-sliding-window"),
    *rows(
        Refused("another form of the state cache is not modelled"),
        switch="use-replayssm enable-mamba-shared-prefix-checkpoint",
        value="replayssm-buffer-len",
    ),
    *rows(
        Refused("retention of prefix blocks changes what a request holds"),
        switch="swa-bounded-replay",
        value="prefix-cache-retention-interval prefix-match-unit",
    ),
    *rows(Refused("a diffusion decoder has another kind of cache"), value="diffusion-config|dc"),
    *rows(Refused("a custom scheduler may hold any number of tokens"), value="scheduler-cls"),
    *rows(Refused("its batch limit is not modelled"), value="max-num-scheduled-tokens max-num-active-seqs"),
    *rows(Refused("another class may cache anything"), value="model-class-overrides"),
    *rows(Refused("GPU memory of embeddings is not modelled"), value="engram-config"),
    *rows(
        Refused("a pooling model keeps no cache between steps", nothing=("auto", "none", "generate", "draft")),
        value="runner convert",
    ),
    *rows(
        Refused("a pooling model keeps no cache between steps", nothing=("auto", "generate", "transcription")),
        value="task",
        until="0.12.0",
    ),
    Flag(
        "enable-chunked-prefill",
        Refused(
            "without chunked prefill, batches are longer",
            "also pass --max-num-batched-tokens",
            unless="max-num-batched-tokens",
            only_off=True,
        ),
        takes="switch",
    ),
    *rows(
        _OMNI,
        switch="""
            omni use-hsdp vae-use-tiling vae-use-slicing async-chunk enable-cpu-offload enable-layerwise-offload
        """,
        value="""
            deploy-config stage-configs-path num-gpus usp ring ulysses-degree ring-degree cfg-parallel-size
            hsdp-shard-size hsdp-replicate-size vae-patch-parallel-size vae-parallel-mode text-encoder-tp-size
            diffusion-attention-backend diffusion-load-format stage-init-timeout init-timeout cache-backend
            worker-backend
        """,
        apart=True,
    ),
)
_SERVER = Ignored("networking and logging")
_TEXT = Ignored("request and response format")
_LOADING = Ignored("loading of the model")
_KERNELS = Ignored("kernels, graphs and compiled code, which are part of the reserve")
_RANKS = Ignored("placement and communication of ranks")
_IMAGES = Ignored("image, audio and video encoders, which have no decoder KV cache")
_SCHEDULE = Ignored("scheduling order")
_EXPERTS = Ignored("placement of experts")
_WITH_LORA = Ignored("adapters, loaded only with --enable-lora")
_TRACES = Ignored("measurements")
_IGNORED = (
    *rows(
        _SERVER,
        switch="""
            aggregate-engine-logging allow-credentials disable-fastapi-docs disable-log-stats
            disable-uvicorn-access-log enable-flash-late-interaction enable-log-deltas enable-log-outputs
            enable-log-requests enable-logging-iteration-details enable-offline-docs enable-per-request-metrics
            enable-request-id-headers enable-scale-out enable-server-load-tracking enable-ssl-refresh
            enable-tokenizer-info-endpoint grpc headless log-error-stack fail-on-environ-validation
        """,
        value="""
            api-server-count|asc disable-access-log-for-endpoints fingerprint-mode fingerprint-value grpc-port
            h11-max-header-count h11-max-incomplete-event-size host log-config-file log-level logging-config
            max-log-len port root-path shutdown-timeout sse-keep-alive-interval ssl-ca-certs ssl-cert-reqs
            ssl-certfile ssl-ciphers ssl-keyfile uds uvicorn-log-level renderer-num-workers watchdog-config
        """,
        values="allowed-headers allowed-methods allowed-origins api-key middleware",
    ),
    *rows(
        _TEXT,
        switch="""
            cohere-is-reasoning-model enable-auto-tool-choice enable-force-include-usage enable-prompt-embeds
            enable-prompt-tokens-details exclude-tools-when-tool-choice-none return-sampling-mask
            return-tokens-as-token-ids skip-tokenizer-init tokens-only trust-request-chat-template
            trust-request-mm-kwargs use-fp64-gumbel enable-batch-sharded-sampling
        """,
        value="""
            anthropic-disabled-thinking-effort chat-template chat-template-content-format cohere-format
            default-chat-template-kwargs generation-config io-processor-plugin logprobs-mode max-logprobs
            override-generation-config pooler-config reasoning-config reasoning-effort-map reasoning-parser
            reasoning-parser-plugin response-role seed stream-interval structured-outputs-config tokenizer
            tokenizer-mode tokenizer-revision tool-call-parser tool-parser-plugin tool-server tool-strict-level
            watermark watermark-config
        """,
        values="logits-processors served-model-name",
    ),
    *rows(
        _LOADING,
        switch="allow-deprecated-quantization trust-remote-code use-tqdm-on-load",
        value="""
            code-revision config-format download-dir hf-config-path hf-token load-format
            max-parallel-loading-workers model-impl model-loader-extra-config pt-load-map-location revision
            safetensors-load-strategy safetensors-prefetch-block-size safetensors-prefetch-num-threads
            weight-transfer-config
        """,
        values="ignore-patterns",
    ),
    *rows(
        _KERNELS,
        switch="""
            disable-cascade-attn disable-custom-all-reduce enable-flashinfer-autotune
            enable-mamba-cache-stochastic-rounding enforce-eager kv-sharing-fast-prefill monokernel
            enable-shm-tensor-arena
        """,
        value="""
            compilation-config|cc gdn-prefill-backend ir-op-priority kda-decode-backend kda-prefill-backend
            kernel-config linear-backend mamba-backend mamba-cache-philox-rounds mamba-ssu-algorithm
            max-cudagraph-capture-size moe-backend optimization-level|O performance-mode sparse-indexer-topk-backend
        """,
        values="cudagraph-capture-sizes",
    ),
    *rows(
        _RANKS,
        switch="""
            data-parallel-external-lb|dpe data-parallel-hybrid-lb|dph data-parallel-multi-port-external-lb|dpm
            dcp-q-replicate disable-nccl-for-dp-synchronization enable-fault-tolerance enable-hc-sp
            enable-nccl-comm-suspend numa-bind ray-workers-use-nsight
        """,
        value="""
            all2all-backend cp-kv-cache-interleave-size cpu-distributed-timeout-seconds data-parallel-address|dpa
            data-parallel-backend|dpb data-parallel-rank|dpn data-parallel-rpc-port|dpp data-parallel-size-local|dpl
            data-parallel-start-rank|dpr data-parallel-supervisor-port dcp-comm-backend dcp-kv-cache-interleave-size
            distributed-executor-backend distributed-timeout-seconds dp-supervisor-probe-failure-threshold
            dp-supervisor-probe-interval-s dp-supervisor-probe-timeout-s dp-sync-interval fault-tolerance-config
            master-addr master-port nnodes|n node-rank|r worker-cls worker-extension-cls
        """,
        values="numa-bind-cpus numa-bind-nodes",
    ),
    *rows(
        _IMAGES,
        switch="""
            disable-chunked-mm-input enable-mm-embeds interleave-mm-strings mm-device-do-normalize mm-encoder-only
            skip-mm-profiling
        """,
        value="""
            allowed-local-media-path ec-manager-config ec-transfer-config limit-mm-per-prompt media-io-kwargs
            mm-encoder-attn-backend mm-encoder-attn-dtype mm-encoder-fp8-scale-path mm-encoder-fp8-scale-save-margin
            mm-encoder-fp8-scale-save-path mm-encoder-tp-mode mm-hasher-algorithm mm-processor-cache-gb
            mm-processor-cache-type mm-processor-device mm-processor-kwargs mm-shm-cache-max-object-size-mb
            mm-tensor-ipc video-pruning-method video-pruning-rate
        """,
        values="allowed-media-domains",
    ),
    *rows(
        Ignored("the image encoder is not loaded: the weights are smaller, and the cache is the same", tells=True),
        switch="language-model-only",
    ),
    *rows(Weighs("GPU memory kept for images", "reserve"), value="mm-ipc-gpu-memory-gb"),
    *rows(
        _SCHEDULE,
        switch="long-prefill-token-threshold-adaptive scheduler-reserve-full-isl",
        value="""
            long-prefill-token-threshold max-num-queued-reqs max-num-queued-tokens prefill-schedule-interval
            scheduling-policy
        """,
    ),
    *rows(
        _EXPERTS,
        switch="enable-elastic-ep enable-ep-weight-filter enable-eplb enable-return-routed-experts",
        value="""
            aux-output-config dbo-decode-token-threshold dbo-prefill-token-threshold elastic-ep-max-dp-size
            eplb-config expert-placement-strategy
        """,
    ),
    *rows(
        _WITH_LORA,
        switch="""
            enable-mixed-moe-lora-format enable-moe-shared-loras enable-tower-connector-lora fully-sharded-loras
            specialize-active-lora
        """,
        value="default-mm-loras lora-dtype max-cpu-loras max-lora-cls-labels",
        values="lora-modules lora-target-modules",
    ),
    *rows(
        Ignored("details of weight offloading with --cpu-offload-gb"),
        value="offload-backend offload-prefetch-step",
        values="cpu-offload-params offload-params",
    ),
    *rows(
        Weighs("some layers' weights are then kept on the host", "ranks"),
        value="offload-group-size offload-num-in-group",
    ),
    *rows(
        Ignored("memory of a sleeping server"),
        switch="enable-cumem-allocator enable-sleep-mode sleep-mode-offload-cudagraph",
        value="sleep-mode-backend",
        values="sleep-preserve-parameter-names",
    ),
    *rows(
        _TRACES,
        switch="""
            cudagraph-metrics enable-layerwise-nvtx-tracing enable-mfu-metrics enable-trace-replay
            jit-monitor-verbose kv-cache-metrics
        """,
        value="""
            custom-histogram-buckets jit-monitor-mode kv-cache-metrics-sample kv-events-config otlp-traces-endpoint
            per-request-spec-decode-metrics profiler-config show-hidden-metrics-for-version
        """,
        values="collect-detailed-traces",
    ),
    *rows(Ignored("prefix hashing"), value="prefix-caching-hash-algo"),
)
_OLD = Ignored("a flag of older versions without effect on the cache")
_REMOVED = (
    *rows(_OLD, switch="worker-use-ray", value="quantization-param-path", until="0.6.6"),
    *rows(
        Refused("draft flags of older versions are not modelled", "write it as --speculative-config"),
        switch="speculative-disable-mqa-scorer disable-logprobs-during-spec-decoding",
        value="""
            speculative-model num-speculative-tokens ngram-prompt-lookup-max ngram-prompt-lookup-min
            speculative-disable-by-batch-size speculative-draft-tensor-parallel-size|spec-draft-tp
            speculative-max-model-len speculative-model-quantization spec-decoding-acceptance-method
            typical-acceptance-sampler-posterior-alpha typical-acceptance-sampler-posterior-threshold
        """,
        until="0.7.3",
    ),
    *rows(
        _OLD,
        switch="""
            enable-prompt-adapter enable-reasoning expand-tools-even-if-tool-choice-none multi-step-stream-outputs
            use-v2-block-manager
        """,
        value="""
            device max-prompt-adapter-token max-prompt-adapters num-scheduler-steps override-neuron-config
            qlora-adapter-name-or-path tokenizer-pool-extra-config tokenizer-pool-size tokenizer-pool-type
        """,
        values="long-lora-scaling-factors prompt-adapters",
        until="0.9.2",
    ),
    *rows(
        _OLD,
        switch="""
            disable-async-output-proc guided-decoding-disable-additional-properties
            guided-decoding-disable-any-whitespace guided-decoding-disable-fallback
        """,
        value="guided-decoding-backend max-seq-len-to-capture preemption-mode scheduler-delay-factor",
        until="0.10.2",
    ),
    *rows(
        _OLD,
        switch="enable-lora-bias eplb-log-balancedness",
        value="""
            eplb-step-interval eplb-window-size lora-extra-vocab-size num-lookahead-slots num-redundant-experts
            override-pooler-config rope-theta
        """,
        until="0.11.0",
    ),
    *rows(
        Refused("it changes the model's context", "pass --max-model-len", unless="max-model-len"),
        value="rope-scaling",
        until="0.11.0",
    ),
    *rows(
        _OLD,
        switch="disable-mm-preprocessor-cache enable-multimodal-encoder-data-parallel",
        values="cuda-graph-sizes",
        until="0.12.0",
    ),
    *rows(_OLD, switch="disable-log-requests", value="logits-processor-pattern", until="0.16.0"),
    *rows(_OLD, switch="use-gpu-for-pooling-score", until="0.17.1"),
    *rows(
        Ignored("V1 allocates no swap space; V0 took this many GiB of host memory per GPU"),
        value="swap-space",
        until="0.17.1",
    ),
    *rows(_OLD, switch="disable-frontend-multiprocessing", until="0.18.1"),
    *rows(_OLD, value="max-long-partial-prefills max-num-partial-prefills", until="0.26.0"),
    *rows(_OLD, switch="calculate-kv-scales", value="override-attention-dtype", until="0.27.1"),
    *rows(_OLD, switch="enable-bf16x3-router-gemm", until="0.29.0"),
    *rows(
        Refused("another form of the state cache is not modelled"),
        switch="enable-mamba-fine-grained-prefix-cache",
        until="0.30.0",
    ),
)
"""The last version with the flag among those examined: 0.6.6, 0.7.3, 0.8.5, 0.9.2, 0.10.2 and each minor one from 0.11
on."""

_ATTENTION = next(flag for flag in _SETTINGS if flag.name == "attention-backend")
_CHUNKS = "VLLM_ALLOW_CHUNKED_LOCAL_ATTN_WITH_HYBRID_KV_CACHE"
_EXPANDED = "latents are then cached as keys and values of every head"
_VARIABLES = (
    Variable("VLLM_PP_LAYER_PARTITION", Flag("VLLM_PP_LAYER_PARTITION", Sets("pp_layer_partition"))),
    Variable("VLLM_USE_V2_MODEL_RUNNER", Flag("VLLM_USE_V2_MODEL_RUNNER", Sets("use_v2_model_runner"))),
    Variable("VLLM_ATTENTION_BACKEND", _ATTENTION),
    Variable(_CHUNKS, Flag(_CHUNKS, Reads(allows_hybrid))),
    Variable("VLLM_CPU_KVCACHE_SPACE", Flag("VLLM_CPU_KVCACHE_SPACE", Reads(cache_space))),
    *lmcache_variables(),
    Variable("VLLM_MLA_DISABLE", Flag("VLLM_MLA_DISABLE", Refused(_EXPANDED, nothing=("", "0", "false", "False")))),
    Variable(
        "VLLM_ALLOW_LONG_MAX_MODEL_LEN", Flag("VLLM_ALLOW_LONG_MAX_MODEL_LEN", Reads(lifts_length, decides=False))
    ),
)
_HARMLESS = words("""
    VLLM_ALL2ALL_BACKEND VLLM_ALLOW_RUNTIME_LORA_UPDATING VLLM_ALLREDUCE* VLLM_API_KEY VLLM_ASSETS_CACHE*
    VLLM_AUDIO_FETCH_TIMEOUT VLLM_BLOCKSCALE* VLLM_BUILD* VLLM_CACHE_ROOT VLLM_CHAT* VLLM_COHERE2*
    VLLM_COMPILE_CACHE* VLLM_CONFIGURE_LOGGING VLLM_CONFIG_ROOT VLLM_CPU_ATTN* VLLM_CPU_INT4* VLLM_CPU_MOE*
    VLLM_CPU_NUM* VLLM_CPU_OMP* VLLM_CUDART* VLLM_DEBUG* VLLM_DEEPEP* VLLM_DEEP_GEMM* VLLM_DISABLED_KERNELS
    VLLM_DISABLE_COMPILE_CACHE VLLM_DISABLE_LOG* VLLM_DISABLE_PYNCCL VLLM_DISABLE_REQUEST*
    VLLM_DISABLE_SHARED_EXPERTS_STREAM VLLM_DOCKER_BUILD_CONTEXT VLLM_DO_NOT_TRACK VLLM_DP_MASTER* VLLM_DP_RANK*
    VLLM_EC_* VLLM_ENABLE_CUDAGRAPH_GC VLLM_ENABLE_INDUCTOR* VLLM_ENABLE_MOE* VLLM_ENABLE_V1_MULTIPROCESSING
    VLLM_ENGINE_ITERATION_TIMEOUT_S VLLM_ENGINE_READY_TIMEOUT_S VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS
    VLLM_FLASHINFER* VLLM_FLASH_ATTN_VERSION VLLM_FUSED_MOE* VLLM_GC* VLLM_GPT_OSS* VLLM_GPU_NIC* VLLM_GPU_SYNC*
    VLLM_HOST_IP VLLM_HTTP_TIMEOUT* VLLM_HUMMING* VLLM_IMAGE* VLLM_IMAGE_FETCH_TIMEOUT VLLM_KEEP_ALIVE*
    VLLM_KIMI_K3* VLLM_KV_EVENTS* VLLM_KV_OFFLOAD_MAX* VLLM_LOGGING* VLLM_LOG_* VLLM_LORA* VLLM_MARLIN*
    VLLM_MAX_AUDIO* VLLM_MAX_MEDIA* VLLM_MAX_N_SEQUENCES VLLM_MAX_TOKENS_PER_EXPERT* VLLM_MEDIA*
    VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS VLLM_MLA_DISABLE_REQUANTIZATION VLLM_MM_INPUT_CACHE* VLLM_MOE*
    VLLM_MOONCAKE* VLLM_MQ_MAX* VLLM_MXFP4* VLLM_MXFP8* VLLM_NCCL* VLLM_NIXL* VLLM_NO_USAGE_STATS VLLM_NVFP4*
    VLLM_OMNI* VLLM_P2P* VLLM_PLUGINS VLLM_PORT VLLM_RANDOMIZE* VLLM_RAY* VLLM_ROCM* VLLM_RPC* VLLM_RUST*
    VLLM_SERVER_DEV_MODE VLLM_SHARED_EXPERTS* VLLM_SKIP* VLLM_SLEEP* VLLM_SSM_CONV_STATE_LAYOUT VLLM_STEP5*
    VLLM_TARGET_DEVICE VLLM_TEST* VLLM_TOOL* VLLM_TORCH* VLLM_TRACE* VLLM_TRITON* VLLM_TUNED_CONFIG_FOLDER
    VLLM_USAGE* VLLM_USE_AITER* VLLM_USE_AOT* VLLM_USE_BYTECODE_HOOK VLLM_USE_CUDNN* VLLM_USE_CUTLASS*
    VLLM_USE_DEEP_GEMM* VLLM_USE_DIRECT_DCP* VLLM_USE_EXPERIMENTAL_PARSER_CONTEXT VLLM_USE_FLASHINFER*
    VLLM_USE_FUSED* VLLM_USE_LAYERNAME VLLM_USE_MEGA_AOT* VLLM_USE_MODELSCOPE VLLM_USE_NCCL*
    VLLM_USE_PRECOMPILED VLLM_USE_RAY* VLLM_USE_RUST* VLLM_USE_SIMPLE_KV_OFFLOAD VLLM_USE_STANDALONE_COMPILE
    VLLM_USE_TRITON* VLLM_USE_TRTLLM* VLLM_USE_V1 VLLM_V1_OUTPUT* VLLM_V1_USE_OUTLINES_CACHE
    VLLM_V1_USE_PREFILL_DECODE_ATTENTION VLLM_VIDEO* VLLM_WEIGHT_OFFLOADING* VLLM_WORKER_MULTIPROC_METHOD
    VLLM_WSL2* VLLM_XGRAMMAR* VLLM_XLA* VLLM_XPU*
""")
_DYNAMO = (
    *rows(
        Ignored("NVIDIA Dynamo's request routing"),
        switch="is-decode-worker enable-local-indexer use-kv-events enable-multimodal use-vllm-tokenizer",
        value="""
            endpoint migration-limit custom-jinja-template dyn-tool-call-parser dyn-reasoning-parser store-kv
            request-plane event-plane kv-events-port-range multimodal-worker namespace
        """,
        values="connector",
        apart=True,
    ),
    *rows(Reads(prefills, decides=False), switch="is-prefill-worker", apart=True),
    *rows(Reads(role, decides=False), value="disaggregation-mode", apart=True),
)
"""Of python -m dynamo.vllm, which passes the rest to vLLM."""

PROGRAM = Program(
    title="vLLM",
    engine="vllm",
    commands=(
        "vllm serve",
        "python -m vllm.entrypoints.openai.api_server",
        "python -m vllm.entrypoints.api_server",
        "python -m vllm.entrypoints.grpc_server",
        "python -m vllm.entrypoints.cli.main serve",
        "python -m vllm serve",
        "python -m dynamo.vllm",
    ),
    length="max_model_len",
    flags=(*_SETTINGS, *_LAYOUT, *_OWN, *_WEIGHS, *_REFUSED, *_IGNORED, *_REMOVED, *_DYNAMO),
    variables=_VARIABLES,
    own_variables=("VLLM_",),
    harmless=_HARMLESS,
    takes_model=True,
    takes_prefixes=True,
    turns_around=True,
    images=(r"(^|/)vllm/vllm-openai(-[\w]+)?(:|$)", r"(^|/)vllm-openai(:|$)", r"(^|/)vllm/vllm-(tpu|cpu)[\w-]*(:|$)"),
    starts=True,
    built=r"vllm",
    config_flags=("--config",),
)
