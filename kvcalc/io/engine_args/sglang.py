"""Arguments of SGLang's server (0.5.23), and the flags of older versions.

Source: python/sglang/srt/arg_groups/fields/ and their hooks, which resolve the flags.
"""

from __future__ import annotations

from kvcalc.io.engine_args._objects import model_overrides
from kvcalc.io.engine_args._own import (
    attention_replicas,
    config_file,
    disaggregation,
    draft,
    lifts_length,
    lmcache,
    lmcache_variables,
    offloaded_weights,
    pooled_adapters,
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

_SETTINGS = (
    *(
        Flag(name, Sets(name.replace("-", "_")))
        for name in words("""
            kv-cache-dtype mem-fraction-static page-size attention-backend context-length max-total-tokens
            max-running-requests chunked-prefill-size swa-full-tokens-ratio max-mamba-cache-size
            mamba-full-memory-ratio mamba-ssm-dtype mamba-radix-cache-strategy speculative-algorithm
            speculative-num-steps speculative-eagle-topk speculative-num-draft-tokens hicache-ratio hicache-size
            speculative-draft-kv-cache-dtype
            hicache-host-memory-mode disaggregation-decode-retraction-backup
        """)
    ),
    *(
        Flag(name, Sets(name.replace("-", "_")), takes="switch")
        for name in words("""
            disable-hybrid-swa-memory disable-radix-cache disable-overlap-schedule disable-cuda-graph enable-lmcache
            disaggregation-decode-enable-offload-kvcache
        """)
    ),
    Flag("enable-hierarchical-cache", Sets("enable_hierarchical_cache"), ("enable-hicache",), "switch"),
    Flag("dsa-prefill-backend", Sets("dsa_prefill_backend"), ("nsa-prefill-backend",)),
    Flag("dsa-decode-backend", Sets("dsa_decode_backend"), ("nsa-decode-backend",)),
)
_LAYOUT = (
    Flag("tp-size", Degree("tp"), ("tensor-parallel-size", "tp")),
    Flag("pp-size", Degree("pp"), ("pipeline-parallel-size", "pp")),
    Flag("dp-size", Degree("dp"), ("data-parallel-size", "dp")),
)
_OWN = (
    Flag("model-path", Names("model"), ("model",)),
    Flag("speculative-dflash-block-size", Sets("speculative_num_draft_tokens")),
    Flag("speculative-draft-model-path", Reads(draft), ("speculative-draft-model",)),
    Flag("enable-dp-attention", Reads(attention_replicas), takes="switch"),
    Flag("attn-dp-size", Reads(attention_replicas), ("attention-data-parallel-size",)),
    Flag("disaggregation-mode", Reads(disaggregation)),
    Flag("json-model-override-args", Reads(model_overrides)),
    Flag("cpu-offload-gb", Reads(offloaded_weights)),
    Flag("config", Reads(config_file, decides=False)),
)
_WEIGHS = (
    *rows(
        Weighs("weight quantisation, which is part of the weights' bytes", "weights"),
        value="quantization torchao-config",
    ),
    *rows(
        Weighs("some layers' weights are then kept on the host", "ranks"),
        value="offload-group-size offload-num-in-group",
    ),
    *rows(
        Weighs("some experts are then kept on the host", "ranks"), value="kt-num-gpu-experts paged-experts-num-resident"
    ),
)
_ONE_RANK = ("1",)
_NO_CACHE = Refused("an image or video pipeline has no decoder KV cache", "size a language model")
_REFUSED = (
    *rows(
        Refused("context parallelism is not modelled", nothing=_ONE_RANK),
        value="dcp-size|decode-context-parallel-size attn-cp-size|attention-context-parallel-size dwdp-size",
        switch="""
            enable-prefill-cp enable-kv-cache-sharding enable-dsa-cache-layer-split enable-cp-decode-attn-tp
        """,
    ),
    *rows(
        Refused("this form of the cache is not modelled"),
        switch="""
            enable-hisparse enable-unified-memory enable-page-major-kv-layout prefill-only-disable-kv-cache
            enable-int8-mamba-checkpoint enable-linear-replayssm enable-linear-replayssm-spec
            enable-encoder-swa-bounded-replay enable-decoder-swa-bounded-replay enable-session-radix-cache
            enable-streaming-session enable-deepseek-v4-fp4-indexer enable-gdn-replayssm-spec
        """,
        value="""
            c128-page-size int8-mamba-ckpt-size linear-replayssm-cache-len
            hisparse-config|hierarchical-sparse-attention-extra-config swa-prefix-tails mamba-max-states-per-path
            qsa-indexer-dtype hybrid-kvcache-ratio radix-cache-backend
        """,
    ),
    *rows(
        Refused("the draft pool then has another form"),
        switch="enable-multi-layer-eagle speculative-adaptive",
        value="""
            speculative-draft-window-size speculative-draft-sink-size speculative-dspark-block-size
            speculative-adaptive-config decoupled-spec-role uno-lora-path
        """,
    ),
    *rows(
        Refused("a diffusion language model is not modelled"),
        value="dllm-algorithm dllm-algorithm-config",
        switch="dllm-fdfo",
    ),
    *rows(Refused("a standalone encoder has no decoder KV cache", "size its language model"), switch="encoder-only"),
    *rows(Refused("two concurrent batches change what is in flight"), switch="enable-two-batch-overlap enable-pdmux"),
    *rows(Refused("sparse attention of old versions is not modelled"), switch="enable-double-sparsity"),
    *rows(
        Refused("the state strategy changes their number", nothing=("",)),
        value="mamba-track-interval mamba-scheduler-strategy",
    ),
    *rows(
        _NO_CACHE,
        switch="""
            enable-cfg-parallel use-fsdp-inference dit-cpu-offload dit-layerwise-offload text-encoder-cpu-offload
            vae-cpu-offload enable-cache-dit
        """,
        value="num-gpus ulysses-degree ring-degree sp-degree cache-dit-config",
        apart=True,
    ),
    *rows(
        Refused("these are arguments of a benchmark, not of a server", "pass the command that starts the server"),
        value="""
            dataset-name dataset-path random-input-len random-output-len num-prompts max-concurrency request-rate
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
_EXPERTS = Ignored("placement of experts; the cache is unchanged")
_HOST = Ignored("a cache in host memory, in addition to the one on the GPU", tells=True)
_IGNORED = (
    *rows(
        _SERVER,
        switch="""
            smg-grpc-mode grpc-mode enable-http2 enable-ssl-refresh log-requests show-time-cost enable-metrics
            enable-mfu-metrics enable-metrics-for-all-schedulers enable-request-time-stats-logging
            enable-forward-pass-metrics enable-trace export-metrics-to-file skip-server-warmup sleep-on-idle use-ray
            enable-http-worker-reuseport enable-nan-detection
        """,
        value="""
            host port fastapi-root-path grpc-port sidecar sidecar-args warmups http2-max-concurrent-streams
            http2-initial-connection-window-size ssl-keyfile ssl-certfile ssl-ca-certs ssl-keyfile-password api-key
            admin-api-key log-level log-level-http log-requests-level log-requests-format crash-dump-folder
            smg-http-sidecar-port|grpc-http-sidecar-port load-snapshot-publish-interval grpc-response-timeout-secs
            tokenizer-metrics-custom-labels-header extra-metric-labels gc-warning-threshold-secs decode-log-interval
            kv-events-config load-publish-endpoint forward-pass-metrics-worker-id forward-pass-metrics-ipc-name
            trace-modules otlp-traces-endpoint otlp-service-name export-metrics-to-file-dir watchdog-timeout
            soft-watchdog-timeout gated-launch-port engine-info-bootstrap-port
        """,
        values="""
            gc-threshold log-requests-target uvicorn-access-log-exclude-prefixes
            tokenizer-metrics-allowed-custom-labels bucket-time-to-first-token bucket-inter-token-latency
            bucket-e2e-request-latency prompt-tokens-buckets generation-tokens-buckets
        """,
    ),
    *rows(
        _TEXT,
        switch="""
            skip-tokenizer-init trust-request-chat-template enable-cache-report return-input-ids return-output-ids
            strip-thinking-cache enable-strict-thinking allow-auto-truncate stream-response-default-include-usage
            incremental-streaming-output constrained-json-disable-any-whitespace disable-outlines-disk-cache
            enable-custom-logit-processor enable-return-hidden-states enable-return-aux-hidden-states
            enable-return-indexer-topk enable-dynamic-batch-tokenizer enable-tokenizer-batch-encode
            disable-tokenizer-batch-decode enable-deterministic-inference enable-mis enable-response-store
            enable-watermark mlx-enable-sampling is-embedding
        """,
        value="""
            tokenizer-path tokenizer-mode tokenizer-backend tokenizer-worker-num detokenizer-worker-num
            served-model-name weight-version chat-template hf-chat-template-name completion-template
            file-storage-path sampling-mask-max-tokens default-chat-template-kwargs tool-server sampling-defaults
            preferred-sampling-params stream-interval batch-notify-size constrained-json-whitespace-pattern
            constrained-json-max-whitespace-cnt grammar-backend sampling-backend reasoning-parser tool-call-parser
            random-seed dynamic-batch-tokenizer-batch-size dynamic-batch-tokenizer-batch-timeout
            return-hidden-states-mode watermark-config rl-on-policy-target
        """,
        values="return-aux-hidden-state-layer-ids",
    ),
    *rows(
        _LOADING,
        switch="""
            trust-remote-code quantize-and-serve weight-loader-disable-mmap weight-loader-prefetch-checkpoints
            weight-loader-drop-cache-after-load remote-instance-weight-loader-start-seed-via-transfer-engine
            delete-ckpt-after-loading checkpoint-engine-wait-weights-before-ready enable-weights-cpu-backup
            enable-draft-weights-cpu-backup
        """,
        value="""
            load-format model-loader-extra-config revision model-impl model-config-parser dtype
            quantization-param-path modelopt-quant modelopt-checkpoint-restore-path modelopt-checkpoint-save-path
            modelopt-export-path rl-quant-profile startup-weight-load-mode weight-loader-prefetch-num-threads
            remote-instance-weight-loader-seed-instance-ip remote-instance-weight-loader-seed-instance-service-port
            remote-instance-weight-loader-send-weights-group-ports remote-instance-weight-loader-backend
            modelexpress-config download-dir decrypted-config-file decrypted-draft-config-file weight-cache-mode
            weight-cache-socket weight-cache-timeout speculative-draft-model-revision speculative-draft-load-format
            speculative-draft-model-quantization
        """,
        values="custom-weight-loader",
    ),
    Flag("model-checksum", _LOADING, takes="maybe"),
    *rows(
        _KERNELS,
        switch="""
            enable-fp32-lm-head enable-tf32-matmul disable-chunked-prefix-cache enable-lean-attention
            disable-flashinfer-autotune disable-prefill-cuda-graph disable-decode-cuda-graph
            disable-cuda-graph-padding enable-profile-cuda-graph enable-cudagraph-gc debug-cuda-graph
            enable-layerwise-nvtx-marker enable-nccl-nvls enable-symm-mem triton-attention-reduce-in-fp32
            flashinfer-mla-disable-ragged enable-fused-qk-norm-rope enable-precise-embedding-interpolation
            enable-fused-moe-sum-all-reduce disable-custom-all-reduce enable-mscclpp enable-torch-symm-mem
            enable-scattered-sconv pre-warm-nccl enable-quant-communications
            enforce-disable-flashinfer-allreduce-fusion enable-aiter-allreduce-fusion enable-torch-compile
            enable-torch-compile-debug-mode enable-mamba-cache-stochastic-rounding
            disable-aiter-allreduce-fusion-in-prefill disable-aiter-allreduce-fusion-in-decode enable-amd-monokernel
            enable-dsa-fused-indexer enable-nvidia-megakernel enable-flashinfer-allreduce-fusion
            enable-linker-mla-dedup enable-memory-saver enable-single-batch-overlap
        """,
        value="""
            decode-attention-backend prefill-attention-backend fp8-gemm-backend fp4-gemm-backend bf16-gemm-backend
            dsv4-prefill-backend dsa-paged-mqa-logits-backend dsa-topk-backend mamba-backend cuda-graph-config
            cuda-graph-backend-decode cuda-graph-backend-prefill cuda-graph-max-bs-decode cuda-graph-max-bs-prefill
            cuda-graph-prefill-max-context|context-bucket triton-attention-num-kv-splits
            triton-attention-split-tile-size boundary-reduction flashinfer-allreduce-fusion-backend
            torch-compile-max-bs mamba-cache-philox-rounds linear-attn-backend linear-attn-decode-backend
            linear-attn-prefill-backend linear-attn-verify-backend cuda-graph-max-seq-len-prefill
            prefill-kv-cache-dequant-dtype dsv4-attn-backend dsa-triton-union flashinfer-a2a-dispatch-type
            monokernel-backend
        """,
        values="flashinfer-autotune-skip-ops cuda-graph-bs-decode cuda-graph-bs-prefill",
    ),
    *rows(
        _RANKS,
        switch="""
            dcp-replicate-q-proj enable-dp-attention-local-control-broadcast enable-dp-lm-head
            enable-tp-lm-head-all-to-all enable-attn-tp-input-scattered enable-shared-experts-attn-tp
            enable-dense-mlp-attn-tp enable-layernorm-sp disable-attn-tp-gather enable-p2p-check
            enable-megamoe-for-layernorm-sp
        """,
        value="""
            nccl-port dist-timeout dist-init-addr|nccl-init-addr nnodes node-rank pp-max-micro-batch-size
            pp-async-batch-depth load-balance-method moe-dp-size|moe-data-parallel-size dcp-comm-backend cp-strategy
            shared-experts-tp-size device base-gpu-id gpu-id-step
        """,
        values="numa-node",
    ),
    *rows(
        _EXPERTS,
        switch="""
            enable-w4a4-mxfp4-megamoe enable-eplb enable-elastic-expert-backup enable-waterfill
            disable-flashinfer-cutlass-moe-fp4-allgather disable-shared-experts-fusion enforce-shared-experts-fusion
            enable-return-routed-experts enable-paged-experts enable-ep-moe enable-deepep-moe
        """,
        value="""
            ep-size|expert-parallel-size|ep moe-a2a-backend deepep-v2-mode moe-runner-backend
            flashinfer-mxfp4-moe-precision deepep-mode fuseep-mode deepep-dispatcher-output-dtype
            ep-num-redundant-experts ep-dispatch-algorithm init-expert-location eplb-algorithm
            eplb-rebalance-num-iterations eplb-rebalance-layers-per-chunk eplb-min-rebalancing-utilization-threshold
            expert-distribution-recorder-mode expert-distribution-recorder-buffer-size
            expert-balancedness-report-mode deepep-config moe-dense-tp-size elastic-ep-backend mooncake-ib-device
            elastic-ep-join-mode elastic-ep-join-rank-offset elastic-ep-initial-size max-ep-size
            elastic-ep-scale-timeout kt-weight-path kt-method kt-cpuinfer kt-threadpool-count
            kt-max-deferred-experts-per-token
        """,
    ),
    *rows(
        _IMAGES,
        switch="""
            enable-multimodal enable-broadcast-mm-inputs-process enable-prefix-mm-cache mm-enable-dp-encoder
            trust-mm-content-hashes enable-mm-global-cache disable-fast-image-processor
            enable-adaptive-dispatch-to-encoder language-only language-model-only ple-offload-embedding
        """,
        value="""
            mm-attention-backend mm-process-config mm-processor-worker-num mm-io-worker-num
            media-url-max-file-size-mb mm-preprocess-cache-size-mb limit-mm-data-per-request image-processor-backend
            mm-global-cache-backend mm-feature-transport encoder-transfer-backend encoder-bootstrap-port
            asr-max-buffer-seconds asr-max-concurrent-sessions ple-offload-backend ple-offload-dir
        """,
        values="allowed-media-domains encoder-urls encoder-register-urls",
    ),
    *rows(
        _SCHEDULE,
        switch="""
            enable-dynamic-chunking enable-priority-scheduling disable-priority-preemption
            abort-on-priority-when-disabled schedule-low-priority-values-first enable-mixed-chunk
            enable-prefill-delayer
        """,
        value="""
            max-queued-requests prefill-decode-interval prefill-decode-interval-min-bs max-prefill-tokens
            prefill-max-requests schedule-policy default-priority-value priority-scheduling-preemption-threshold
            retraction-policy schedule-conservativeness radix-eviction-policy radix-eviction-policy-config
            num-continuous-decode-steps scheduler-recv-interval tbo-token-distribution-threshold
            prefill-delayer-max-delay-passes prefill-delayer-token-usage-low-watermark
            prefill-delayer-queue-min-ratio prefill-delayer-max-delay-ms min-free-slots-delay pdmux-config-path
            sm-group-num
        """,
        values="prefill-delayer-forward-passes-buckets prefill-delayer-wait-seconds-buckets",
    ),
    *rows(
        Ignored("drafting and verification"),
        switch="""
            speculative-dspark-align-verify-tokens-to-graph-tier speculative-use-rejection-sampling
            speculative-use-block-verification speculative-enable-w4a4-mxfp4-megamoe
        """,
        value="""
            speculative-dspark-sps-table-path speculative-dspark-confidence-sts-path
            speculative-accept-threshold-single speculative-accept-threshold-acc speculative-token-map
            speculative-attention-mode speculative-draft-attention-backend speculative-dsa-topk-backend
            speculative-moe-runner-backend speculative-moe-a2a-backend decoupled-spec-bind-endpoint
            decoupled-spec-connect-endpoints decoupled-spec-rank spec-trace-dir speculative-ngram-min-bfs-breadth
            speculative-ngram-max-bfs-breadth speculative-ngram-match-type speculative-ngram-max-trie-depth
            speculative-ngram-capacity speculative-ngram-external-corpus-path speculative-ngram-external-sam-budget
            speculative-ngram-external-corpus-max-tokens speculative-domino-candidate-pool-size
        """,
    ),
    *rows(
        _HOST,
        switch="""
            enable-flexkv enable-unified-cache-external-linker
        """,
    ),
    *rows(
        Ignored("a cache in host memory"),
        value="""
            hicache-write-policy hicache-io-backend
            hicache-mem-layout hicache-storage-backend hicache-storage-prefetch-policy
            hicache-storage-backend-extra-config hicache-storage-prefetch-retry-poll-interval
            hicache-storage-prefetch-retry-max-attempts hicache-host-memory-fraction
            unified-cache-external-linker-backend unified-cache-external-linker-config flexkv-config-file
        """,
    ),
    Flag("lmcache-config-file", Reads(lmcache, decides=False)),
    *rows(
        Reads(pooled_adapters),
        switch="enable-lora",
        value="max-lora-rank max-loras-per-batch",
        values="lora-target-modules lora-paths",
    ),
    *rows(
        Ignored("adapters, loaded only with --enable-lora"),
        switch="""
            enable-lora-overlap-loading experts-shared-outer-loras lora-use-virtual-experts lora-strict-loading
        """,
        value="""
            max-loaded-loras lora-eviction-policy lora-backend max-lora-chunk-size
            lora-drain-wait-threshold
        """,
    ),
    *rows(
        Ignored("cache transfer in disaggregated serving"),
        switch="""
            disaggregation-decode-enable-radix-cache disaggregation-enable-kv-checksum enable-pd-role-switch
        """,
        value="""
            disaggregation-transfer-backend disaggregation-bootstrap-port disaggregation-ib-device
            num-reserved-decode-tokens disaggregation-decode-extra-slots
            disaggregation-decode-polling-interval optimistic-prefill-attempts
            disaggregation-decode-host-receive-threshold disaggregation-decode-allocation-policy
        """,
    ),
    *rows(Ignored("weight offloading to the host"), value="offload-prefetch-step offload-mode"),
    *rows(
        Ignored("measurements and checks"),
        value="""
            kv-canary kv-canary-sweep-interval kv-canary-real-data debug-tensor-dump-output-folder
            debug-tensor-dump-input-file forward-hooks msprobe-dump-config
        """,
        values="debug-tensor-dump-layers",
    ),
)
_OLD = Ignored("a flag of older versions without effect on the cache")
_REMOVED = (
    *rows(
        _OLD,
        switch="enable-flashmla enable-flashinfer-mla",
        value="max-micro-batch-size n-share-experts-fusion pdlb-url",
        until="0.4.6",
    ),
    *rows(_OLD, value="kt-amx-method kt-amx-weight-path load-watch-interval", until="0.5.5"),
    *rows(
        _OLD,
        switch="disable-hicache-numa-detect",
        value="""
            disaggregation-decode-dp disaggregation-decode-tp disaggregation-prefill-pp mm-max-concurrent-calls
            mm-per-request-timeout multi-item-scoring-delimiter speculative-ngram-branch-length
            speculative-ngram-max-match-window-size speculative-ngram-min-match-window-size
        """,
        until="0.5.9",
    ),
    *rows(
        _OLD,
        switch="enable-deepep-waterfill enable-piecewise-cuda-graph",
        value="debug-tensor-dump-inject optimistic-prefill-retries",
        until="0.5.13",
    ),
    *rows(
        _OLD,
        switch="""
            keep-mm-feature-on-device speculative-skip-dp-mlp-sync stream-output uses-mamba-radix-cache
            elastic-ep-rejoin collect-tokens-histogram disable-piecewise-cuda-graph enable-breakable-cuda-graph
            enable-expert-distribution-metrics enforce-piecewise-cuda-graph prefill-round-robin-balance
        """,
        value="""
            cuda-graph-max-bs cuda-graph-tc-compiler custom-sigquit-handler ep-join-mode ep-join-rank-offset
            fp4-gemm-runner-backend fp8-gemm-runner-backend piecewise-cuda-graph-compiler
            piecewise-cuda-graph-max-tokens speculative-dflash-draft-window-size stat-loggers
        """,
        values="cuda-graph-bs piecewise-cuda-graph-tokens",
        until="0.5.18",
    ),
    *rows(
        Refused("prefill context parallelism is not modelled"),
        switch="""
            enable-dsa-prefill-context-parallel enable-nsa-prefill-context-parallel enable-prefill-context-parallel
        """,
        value="dsa-prefill-cp-mode nsa-prefill-cp-mode prefill-cp-mode",
        until="0.5.18",
    ),
)
"""The last version with the flag among those examined: 0.4.6, 0.5.5, 0.5.9, 0.5.13, 0.5.18."""
_HARMLESS = words("""
    SGLANG_AMD* SGLANG_AUTO_NUMA* SGLANG_BATCH_TOKENIZER* SGLANG_BLOCK_NONZERO_RANK_CHILDREN SGLANG_CACHE_DIR
    SGLANG_CHUNKED_PREFIX* SGLANG_CI* SGLANG_CRASH* SGLANG_CUDA_COREDUMP* SGLANG_CUTE* SGLANG_CUTLASS*
    SGLANG_DEBUG_* SGLANG_DEEPEP* SGLANG_DG* SGLANG_DISABLED_MODEL_ARCHS SGLANG_DISABLE_CUDNN_CHECK
    SGLANG_DISABLE_OUTLINES* SGLANG_DISABLE_TORCHVISION* SGLANG_DISAGGREGATION* SGLANG_DUMPER*
    SGLANG_ENABLE_DETERMINISTIC* SGLANG_ENABLE_FLASHINFER* SGLANG_ENABLE_HICACHE* SGLANG_ENABLE_JIT*
    SGLANG_ENABLE_METRICS* SGLANG_ENABLE_SPEC_V2 SGLANG_ENABLE_STRICT* SGLANG_ENABLE_TORCH*
    SGLANG_ENABLE_TP_MEMORY* SGLANG_ENCODER* SGLANG_EPLB* SGLANG_EXPERT* SGLANG_EXTERNAL* SGLANG_FLASHINFER*
    SGLANG_FP4_* SGLANG_FP8_* SGLANG_GRAPH* SGLANG_GRPC* SGLANG_HEALTH* SGLANG_HICACHE* SGLANG_HOST_IP
    SGLANG_HUMMING* SGLANG_IMAGE* SGLANG_IS_IN_CI SGLANG_JIT* SGLANG_KV_CANARY* SGLANG_LOG* SGLANG_LORA*
    SGLANG_MAX_BATCH_REQS* SGLANG_MEM_PROFILE* SGLANG_MLX_CLEAR* SGLANG_MM_* SGLANG_MOE* SGLANG_MOONCAKE*
    SGLANG_MORI* SGLANG_NCCL* SGLANG_NUMA* SGLANG_NVFP4* SGLANG_OPT* SGLANG_OTLP* SGLANG_PARALLEL_PROMPT*
    SGLANG_PER_TOKEN* SGLANG_PORT SGLANG_PREFILL_DELAYER* SGLANG_PROFILE* SGLANG_QUANT* SGLANG_RECORD*
    SGLANG_ROCM* SGLANG_ROPE_CACHE* SGLANG_SET_CPU_AFFINITY SGLANG_SKIP* SGLANG_SUPPORT* SGLANG_SYMM_MEM*
    SGLANG_TEST* SGLANG_TIMEOUT* SGLANG_TOOL* SGLANG_TORCH* SGLANG_TRITON* SGLANG_USE_AITER*
    SGLANG_USE_CUSTOM_TRITON* SGLANG_USE_CUTLASS* SGLANG_USE_DEEP_GEMM* SGLANG_USE_IPC_POOL* SGLANG_USE_MESSAGE*
    SGLANG_USE_MODELSCOPE SGLANG_VLM_CACHE* SGLANG_WAIT* SGLANG_WARMUP* SGLANG_WEIGHT*
""")

_LONGER = "SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN"

_DYNAMO = rows(
    Ignored("NVIDIA Dynamo's request routing"),
    switch="use-sglang-tokenizer",
    value="""
        endpoint migration-limit custom-jinja-template dyn-tool-call-parser dyn-reasoning-parser store-kv request-plane
        event-plane namespace
    """,
    apart=True,
)
"""Of python -m dynamo.sglang, which passes the rest to SGLang."""

PROGRAM = Program(
    title="SGLang",
    engine="sglang",
    commands=(
        "python -m sglang.launch_server",
        "sglang serve",
        "python -m sglang serve",
        "python -m sglang.srt.server",
        "python -m dynamo.sglang",
    ),
    length="context_length",
    flags=(*_SETTINGS, *_LAYOUT, *_OWN, *_WEIGHS, *_REFUSED, *_IGNORED, *_REMOVED, *_DYNAMO),
    variables=(Variable(_LONGER, Flag(_LONGER, Reads(lifts_length, decides=False))), *lmcache_variables()),
    own_variables=("SGLANG_", "SGL_"),
    harmless=_HARMLESS,
    not_served=("SGLANG_CACHE_DIT*", "SGLANG_DIFFUSION*"),
    takes_prefixes=True,
    images=(r"(^|/)lmsysorg/sglang(-[\w]+)?(:|$)",),
    built=r"sglang",
    config_flags=("--config",),
)
