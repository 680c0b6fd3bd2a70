"""Arguments of `lmdeploy serve api_server` (0.18.0).

Source: lmdeploy/cli/serve.py and cli/utils.py; each of the dp groups has tp / dp ranks (pytorch/config.py, DistConfig).
"""

from __future__ import annotations

from kvcalc.engines.lmdeploy.settings import POLICY_NAMES
from kvcalc.io.engine_args._objects import kv_transfer, model_overrides
from kvcalc.io.engine_args._own import attention_replicas, draft
from kvcalc.io.engine_args._program import Program
from kvcalc.io.engine_args._rows import Degree, Flag, Ignored, Names, Reads, Refused, Sets, Variable, Weighs, rows

_POLICIES = {**{name: number for number, name in POLICY_NAMES.items()}, "none": 0, "fp8_e4m3": 16}
_FLAGS = (
    Flag("backend", Sets("backend")),
    Flag("session-len", Sets("session_len")),
    Flag("cache-max-entry-count", Sets("cache_max_entry_count")),
    Flag("cache-block-seq-len", Sets("block_size")),
    Flag("kernel-block-size", Sets("kernel_block_size")),
    Flag("num-gpu-blocks", Sets("num_gpu_blocks")),
    Flag("max-batch-size", Sets("max_batch_size")),
    Flag("max-prefill-token-num", Sets("max_prefill_token_num")),
    Flag("prefix-cache-state-budget", Sets("prefix_cache_state_budget")),
    Flag("quant-policy", Sets("quant_policy", _POLICIES)),
    Flag("speculative-num-draft-tokens", Sets("num_speculative_tokens")),
    Flag("tp", Degree("tp")),
    Flag("dp", Reads(attention_replicas)),
    Flag("speculative-draft-model", Reads(draft)),
    Flag("hf-overrides", Reads(model_overrides)),
    Flag("kv-transfer-config", Reads(kv_transfer)),
    Flag("model-path", Names("model")),
    *rows(Refused("context parallelism is not modelled", nothing=("1",)), value="cp"),
    *rows(
        Refused("draft checkpoints are not modelled", nothing=("deepseek_mtp", "hy3_mtp", "qwen3_5_mtp")),
        value="speculative-algorithm",
    ),
    *rows(
        Refused("a diffusion language model is not modelled"),
        value="""
            dllm-block-length dllm-unmasking-strategy dllm-denoising-steps dllm-confidence-threshold
            speculative-dflash-block-size
        """,
    ),
    *rows(Refused("two concurrent batches change what is in flight"), switch="enable-microbatch"),
    *rows(
        Weighs("adapters take memory in addition to the weights; the cache is unchanged", "reserve"), values="adapters"
    ),
    *rows(Weighs("weight quantisation, which is part of the weights' bytes", "weights"), value="model-format"),
    *rows(Ignored("scheduling order"), switch="enable-prefix-caching", value="prefix-cache-decode-state-interval"),
    *rows(
        Ignored("networking and response format"),
        switch="""
            allow-credentials ssl disable-fastapi-docs allow-terminate-by-client enable-abort-handling
            disable-metrics language-model-only enable-return-routed-experts trust-remote-code use-logn-attn
        """,
        value="""
            server-name server-port proxy-url max-concurrent-requests log-level model-name max-log-len chat-template
            tool-call-parser reasoning-parser revision download-dir generation-config logprobs-mode
            rope-scaling-factor vision-max-batch-size session-id
        """,
        values="allow-origins allow-methods allow-headers allowed-media-domains api-keys",
    ),
    *rows(
        Ignored("kernels, graphs, ranks and experts"),
        switch="eager-mode empty-init enable-eplb",
        value="""
            dtype device ep dp-rank node-rank nnodes dist-init-addr distributed-executor-backend num-tokens-per-iter
            max-prefill-iters async communicator moe-a2a-backend piecewise-cudagraph-max-tokens role
            migration-backend
        """,
        values="cudagraph-capture-batch-sizes",
    ),
)

PROGRAM = Program(
    title="LMDeploy",
    engine="lmdeploy",
    commands=("lmdeploy serve api_server", "python -m lmdeploy serve api_server"),
    length="session_len",
    flags=_FLAGS,
    variables=(
        Variable("LMDEPLOY_FP32_MAMBA_SSM_DTYPE", Flag("LMDEPLOY_FP32_MAMBA_SSM_DTYPE", Sets("fp32_mamba_ssm_dtype"))),
        Variable(
            "LMDEPLOY_DSA_INDEXER_MAX_LOGITS_MB",
            Flag("LMDEPLOY_DSA_INDEXER_MAX_LOGITS_MB", Sets("dsa_indexer_max_logits_mb")),
        ),
    ),
    own_variables=("LMDEPLOY_",),
    harmless=("LMDEPLOY_DP_*", "LMDEPLOY_DIST_*", "LMDEPLOY_USE_MODELSCOPE", "LMDEPLOY_LOG*", "LMDEPLOY_EXECUTOR*"),
    takes_model=True,
    takes_prefixes=True,
    images=(r"(^|/)openmmlab/lmdeploy(:|$)",),
    built=r"lmdeploy",
)
