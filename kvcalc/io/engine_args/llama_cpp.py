"""Arguments of llama.cpp's llama-server and llama-cli, and the equivalent variables.

Source: common/arg.cpp of llama.cpp (0.5.0-dev). Weights in host memory (override-tensor, n-cpu-moe) do not change the
cache; prompts and checkpoints kept there (cache-ram, ctx-checkpoints) are counted separately.
"""

from __future__ import annotations

from kvcalc.io.engine_args._own import draft, layers_on_gpu, spec_types
from kvcalc.io.engine_args._program import Program
from kvcalc.io.engine_args._rows import Flag, Ignored, Names, Reads, Refused, Sets, Variable, rows

_ON = {**dict.fromkeys(("1", "true", "enabled", "yes"), "on"), **dict.fromkeys(("0", "false", "disabled", "no"), "off")}
_FLASH = {**_ON, "-1": "auto"}
_SETTINGS = (
    Flag("ctx-size", Names("tokens"), ("c",)),
    Flag("cache-type-k", Sets("type_k"), ("ctk",)),
    Flag("cache-type-v", Sets("type_v"), ("ctv",)),
    Flag("parallel", Sets("n_seq_max", {"-1": None}), ("np",)),
    Flag("batch-size", Sets("n_batch"), ("b",)),
    Flag("ubatch-size", Sets("n_ubatch"), ("ub",)),
    Flag("flash-attn", Sets("flash_attn", _FLASH), ("fa",), "maybe", ("on", "off", "auto", *_FLASH)),
    Flag("swa-full", Sets("swa_full"), takes="switch"),
    Flag("kv-unified", Sets("kv_unified"), ("kvu",), "switch"),
    Flag("ctx-checkpoints", Sets("ctx_checkpoints"), ("ctxcp", "swa-checkpoints")),
    Flag("cache-ram", Sets("cache_ram"), ("cram",)),
    Flag("model", Names("model"), ("m",)),
    Flag("hf-repo", Names("model"), ("hf", "hfr")),
    Flag("n-gpu-layers", Reads(layers_on_gpu), ("gpu-layers", "ngl")),
    Flag("model-draft", Reads(draft), ("spec-draft-model", "md")),
    Flag("cache-type-k-draft", Sets("type_k_draft"), ("spec-draft-type-k", "ctkd")),
    Flag("cache-type-v-draft", Sets("type_v_draft"), ("spec-draft-type-v", "ctvd")),
    Flag("spec-type", Reads(spec_types)),
    Flag("hf-repo-draft", Reads(draft), ("spec-draft-hf", "hfd", "hfrd")),
)
_SEVERAL_GPUS = Refused("one context on several GPUs is not modelled")
_REFUSED = (
    Flag(
        "kv-offload",
        Refused("the cache is then in host memory", only_off=True),
        ("kvo",),
        "switch",
        off=("nkvo",),
    ),
    *rows(_SEVERAL_GPUS, value="tensor-split|ts"),
    *rows(Refused(_SEVERAL_GPUS.why, nothing=("none",)), value="split-mode|sm"),
    *rows(Refused("one context on several machines is not modelled"), value="rpc"),
    *rows(Refused("it changes the model", "pass a GGUF file with this change"), value="override-kv"),
    *rows(Refused("dividing the context among slots is not modelled"), value="kv-unified-per-slot"),
    *rows(
        Refused("it is a shortcut for a model and its settings", "write --model and --ctx-size"),
        switch="""
            embd-gemma-default fim-qwen-1.5b-default fim-qwen-3b-default fim-qwen-7b-default fim-qwen-7b-spec
            fim-qwen-14b-spec fim-qwen-30b-default gpt-oss-20b-default gpt-oss-120b-default vision-gemma-4b-default
            vision-gemma-12b-default spec-default
        """,
    ),
    *rows(
        Refused("several models are loaded on demand, each with its own cache", "pass the command of one of them"),
        value="models-dir models-preset",
    ),
)
_SERVER = Ignored("networking and logging")
_TEXT = Ignored("request and response format")
_SAMPLING = Ignored("sampling")
_LOADING = Ignored("loading of the model")
_THREADS = Ignored("threads and affinity")
_ROPE = Ignored("positions; --ctx-size sets the length")
_IMAGES = Ignored("image encoder, which has no KV cache")
_HOST = Ignored("prompts kept in host memory")
_DRAFTS = Ignored("drafting")
_WEIGHTS = Ignored("weights kept on the host; the cache is unchanged")
_IGNORED = (
    *rows(
        _SERVER,
        switch="""
            help|h|usage version metrics props slots warmup ui|webui ui-mcp-proxy|webui-mcp-proxy agent|ag
            reuse-port cors-credentials offline log-disable verbose|v|log-verbose log-prefix log-timestamps
            log-jsonl perf show-timings simple-io models-autoload cache-list|cl completion-bash list-devices
        """,
        value="""
            host port path api-key api-key-file api-prefix ssl-key-file ssl-cert-file timeout|to threads-http
            alias|a tags log-file log-colors log-verbosity|verbosity|lv log-prompts-dir cors-origins cors-methods
            cors-headers server-base ui-config|webui-config ui-config-file|webui-config-file tools tools-runtime
            mcp-servers-config mcp-servers-json sse-ping-interval slot-save-path slot-prompt-similarity|sps
            sleep-idle-seconds media-path models-max color|co
        """,
    ),
    *rows(
        _TEXT,
        switch="""
            jinja escape|e special|sp prefill-assistant skip-chat-parsing embedding|embeddings rerank|reranking
            verbose-prompt display-prompt conversation|cnv single-turn|st interactive|i interactive-first|if
            multiline-input|mli in-prefix-bos spm-infill ignore-eos prompt-cache-all prompt-cache-ro
            reasoning-preserve
        """,
        value="""
            chat-template chat-template-file chat-template-kwargs reasoning-format reasoning|rea reasoning-budget
            reasoning-budget-message reasoning-effort prompt|p file|f binary-file|bf system-prompt|sys
            system-prompt-file|sysf reverse-prompt|r in-prefix in-suffix predict|n-predict|n keep
            print-token-count|ptc prompt-cache pooling embd-normalize output|output-file|o grp-attn-n|gan
            grp-attn-w|gaw
        """,
    ),
    *rows(
        _SAMPLING,
        switch="backend-sampling|bs",
        value="""
            samplers seed|s sampler-seq|sampling-seq temp|temperature top-k top-p min-p top-nsigma|top-n-sigma
            xtc-probability xtc-threshold typical|typical-p repeat-last-n repeat-penalty presence-penalty
            frequency-penalty dry-multiplier dry-base dry-allowed-length dry-penalty-last-n dry-sequence-breaker
            adaptive-target adaptive-decay dynatemp-range dynatemp-exp mirostat mirostat-lr mirostat-ent
            logit-bias|l grammar grammar-file json-schema|j json-schema-file|jf
        """,
    ),
    *rows(
        _LOADING,
        switch="check-tensors mlock mmap direct-io|dio repack no-host op-offload lora-init-without-apply",
        value="""
            model-url|mu docker-repo|dr hf-file|hff hf-token|hft load-mode|lm lazy-mode|lzm lora lora-scaled
            control-vector control-vector-scaled control-vector-layer-range device|dev main-gpu|mg
        """,
    ),
    Flag("no-repack", _LOADING, ("nr",), "switch"),
    *rows(
        _THREADS,
        value="""
            threads|t threads-batch|tb cpu-mask|C cpu-range|Cr cpu-strict prio poll cpu-mask-batch|Cb
            cpu-range-batch|Crb cpu-strict-batch prio-batch poll-batch numa
        """,
    ),
    *rows(
        _ROPE,
        value="""
            rope-scaling rope-scale rope-freq-base rope-freq-scale yarn-orig-ctx yarn-ext-factor yarn-attn-factor
            yarn-beta-slow yarn-beta-fast
        """,
    ),
    *rows(
        _IMAGES,
        switch="mmproj-auto mmproj-offload",
        value="""
            mmproj|mm mmproj-url|mmu image|audio|video image-min-tokens image-max-tokens mtmd-batch-max-tokens
            video-fps video-timestamp-interval video-ffmpeg-dir
        """,
    ),
    Flag("no-mmproj", _IMAGES, takes="switch"),
    *rows(
        _HOST,
        switch="cache-prompt cache-idle-slots context-shift",
        value="""
            checkpoint-min-step|cms cache-reuse defrag-thold|dt
        """,
    ),
    Flag("cont-batching", Ignored("scheduling order"), ("cb",), "switch", off=("nocb",)),
    *rows(Ignored("fitting of arguments to the free memory"), value="fit fit-target|fitt fit-ctx|fitc"),
    *rows(_WEIGHTS, switch="cpu-moe|cmoe", value="override-tensor|ot n-cpu-moe|ncmoe n-cpu-ffn|ncffn"),
    *rows(
        _DRAFTS,
        switch="spec-draft-backend-sampling spec-draft-cpu-moe|cmoed|cpu-moe-draft",
        value="""
            lookup-cache-static|lcs lookup-cache-dynamic|lcd draft|draft-n|draft-max draft-min|draft-n-min
            spec-draft-threads|td|threads-draft spec-draft-threads-batch|tbd|threads-batch-draft
            spec-draft-cpu-mask|Cd|cpu-mask-draft spec-draft-cpu-mask-batch|Cbd|cpu-mask-batch-draft
            spec-draft-cpu-range|Crd|cpu-range-draft spec-draft-cpu-strict|cpu-strict-draft
            spec-draft-cpu-strict-batch|cpu-strict-batch-draft spec-draft-prio-batch|prio-batch-draft
            spec-draft-poll-batch|poll-batch-draft spec-draft-prio|prio-draft spec-draft-poll|poll-draft
            spec-draft-override-tensor|otd|override-tensor-draft
            spec-draft-n-cpu-moe|spec-draft-ncmoe|ncmoed|n-cpu-moe-draft spec-draft-n-max spec-draft-n-min
            spec-synth-len spec-synth-rates spec-draft-p-split|draft-p-split spec-draft-p-min|draft-p-min
            spec-draft-device|devd|device-draft spec-draft-ngl|ngld|gpu-layers-draft|n-gpu-layers-draft
            spec-ngram-mod-n-min spec-ngram-mod-n-max spec-ngram-mod-n-match spec-ngram-simple-size-n
            spec-ngram-simple-size-m spec-ngram-simple-min-hits spec-ngram-map-k-size-n spec-ngram-map-k-size-m
            spec-ngram-map-k-min-hits spec-ngram-map-k4v-size-n spec-ngram-map-k4v-size-m
            spec-ngram-map-k4v-min-hits spec-ngram-size-n spec-ngram-size-m spec-ngram-min-hits
        """,
    ),
)
_OF_VARIABLES = {
    "LLAMA_ARG_CTX_SIZE": "ctx-size",
    "LLAMA_ARG_CACHE_TYPE_K": "cache-type-k",
    "LLAMA_ARG_CACHE_TYPE_V": "cache-type-v",
    "LLAMA_ARG_N_PARALLEL": "parallel",
    "LLAMA_ARG_BATCH": "batch-size",
    "LLAMA_ARG_UBATCH": "ubatch-size",
    "LLAMA_ARG_FLASH_ATTN": "flash-attn",
    "LLAMA_ARG_SWA_FULL": "swa-full",
    "LLAMA_ARG_KV_UNIFIED": "kv-unified",
    "LLAMA_ARG_CTX_CHECKPOINTS": "ctx-checkpoints",
    "LLAMA_ARG_CACHE_RAM": "cache-ram",
    "LLAMA_ARG_MODEL": "model",
    "LLAMA_ARG_HF_REPO": "hf-repo",
    "LLAMA_ARG_N_GPU_LAYERS": "n-gpu-layers",
    "LLAMA_ARG_SPEC_DRAFT_MODEL": "model-draft",
    "LLAMA_ARG_MODEL_DRAFT": "model-draft",
    "LLAMA_ARG_SPEC_DRAFT_HF_REPO": "hf-repo-draft",
    "LLAMA_ARG_KV_OFFLOAD": "kv-offload",
    "LLAMA_ARG_TENSOR_SPLIT": "tensor-split",
    "LLAMA_ARG_SPLIT_MODE": "split-mode",
    "LLAMA_ARG_RPC": "rpc",
    "LLAMA_ARG_KV_UNIFIED_PER_SLOT": "kv-unified-per-slot",
    "LLAMA_ARG_SPEC_DRAFT_CACHE_TYPE_K": "cache-type-k-draft",
    "LLAMA_ARG_SPEC_DRAFT_CACHE_TYPE_V": "cache-type-v-draft",
    "LLAMA_ARG_SPEC_TYPE": "spec-type",
    "LLAMA_ARG_MODELS_DIR": "models-dir",
    "LLAMA_ARG_MODELS_PRESET": "models-preset",
}
_OF_FULL_IMAGE = (*rows(Ignored("selects the program of the full image"), switch="server", apart=True),)
_FLAGS = (*_SETTINGS, *_REFUSED, *_IGNORED, *_OF_FULL_IMAGE)
_BY_NAME = {flag.name: flag for flag in _FLAGS}

PROGRAM = Program(
    by_variables=True,
    title="llama.cpp",
    engine="llama_cpp",
    commands=("llama-server", "llama-cli", "llama-completion", "llama serve", "llama cli"),
    flags=_FLAGS,
    variables=tuple(Variable(name, _BY_NAME[flag]) for name, flag in _OF_VARIABLES.items()),
    harmless=("LLAMA_ARG_*", "LLAMA_API_KEY"),
    own_variables=("LLAMA_ARG_",),
    images=(r"ggml-org/llama\.cpp:(?:server|full)", r"ggerganov/llama\.cpp:(?:server|full)"),
    starts=True,
    built=r"llama[._-]?(?:cpp|server)",
    shown_by=("LLAMA_ARG_MODEL", "LLAMA_ARG_HF_REPO", "LLAMA_ARG_MODEL_URL"),
    defaults_of={
        "llama-cli": {"defaults": "cli"},
        "llama-completion": {"defaults": "cli"},
        "llama cli": {"defaults": "cli"},
    },
    defaults={"defaults": "server"},
)
