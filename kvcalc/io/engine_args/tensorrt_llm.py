"""Arguments of `trtllm-serve` (1.x), and of its YAML file.

Source: tensorrt_llm/commands/serve.py and llmapi/llm_args.py (KvCacheConfig). The fraction refers to the free memory
after loading weights; the file overrides the command line.
"""

from __future__ import annotations

from kvcalc.io.engine_args._objects import cache_config
from kvcalc.io.engine_args._own import attention_replicas, config_file, role
from kvcalc.io.engine_args._program import Program
from kvcalc.io.engine_args._rows import Degree, Flag, Ignored, Names, Reads, Refused, Sets, Weighs, rows

_FLAGS = (
    Flag("max-seq-len", Sets("max_seq_len")),
    Flag("max-num-tokens", Sets("max_num_tokens")),
    Flag("kv-cache-free-gpu-memory-fraction", Sets("free_gpu_memory_fraction"), ("free-gpu-memory-fraction",)),
    Flag("kv-cache-dtype", Sets("dtype")),
    Flag("tp-size", Degree("tp"), ("tensor-parallel-size",)),
    Flag("pp-size", Degree("pp"), ("pipeline-parallel-size",)),
    Flag("kv-cache-config", Reads(cache_config)),
    Flag("enable-attention-dp", Reads(attention_replicas), takes="switch"),
    Flag("config", Reads(config_file, decides=False), ("extra-llm-api-options", "extra-engine-args")),
    Flag("server-role", Reads(role)),
    Flag("model", Names("model"), ("model-path",)),
    *rows(Refused("context parallelism is not modelled", nothing=("1",)), value="cp-size|context-parallel-size"),
    *rows(Refused("each beam has its own cache", nothing=("1",)), value="max-beam-width"),
    *rows(Refused("only its PyTorch backend is modelled", nothing=("pytorch",)), value="backend"),
    *rows(
        Refused("its effect on the cache is unknown"),
        value="speculative-config sparse-attention-config",
        switch="enable-lora",
    ),
    *rows(
        Weighs("adapters take memory in addition to the weights; the cache is unchanged", "reserve"),
        value="lora-config",
    ),
    *rows(
        Ignored("the work of a step, which is part of the reserve"),
        switch="enable-chunked-prefill",
        value="""
            max-batch-size cuda-graph-config torch-compile-config moe-config attn-backend
            scheduler-config
        """,
    ),
    *rows(
        Ignored("placement of ranks and experts"),
        value="""
            ep-size|moe-expert-parallel-size|expert-parallel-size moe-tensor-parallel-size
            cluster-size|moe-cluster-parallel-size
            gpus-per-node cache-transceiver-config disagg-cluster-uri metadata-server-config-file
        """,
    ),
    *rows(
        Ignored("networking and response format"),
        switch="""
            trust-remote-code fail-fast-on-attention-window-too-large skip-tokenizer-init disable-overlap-scheduler
            print-iter-log return-perf-metrics enable-iter-perf-stats enable-autotuner
        """,
        value="""
            tokenizer custom-tokenizer host port log-level num-postprocess-workers revision reasoning-parser
            tool-parser otlp-traces-endpoint media-io-kwargs chat-template stream-interval guided-decoding-backend
            perf-metrics-max-requests load-format allreduce-strategy sampler-type orchestrator-type
        """,
        values="custom-module-dirs",
    ),
    *rows(
        Ignored("NVIDIA Dynamo's request routing"),
        switch="publish-events-and-metrics use-nixl-connect",
        value="""
            endpoint encode-endpoint migration-limit served-model-name modality disaggregation-strategy
            custom-jinja-template dyn-tool-call-parser dyn-reasoning-parser store-kv request-plane event-plane namespace
            dyn-encoder-cache-capacity-gb
        """,
        apart=True,
    ),
    Flag("kv-block-size", Sets("tokens_per_block"), apart=True),
    *rows(Reads(role, decides=False), value="disaggregation-mode", apart=True),
    *rows(Refused("settings of the engine as JSON, which are not read"), value="override-engine-args", apart=True),
)

PROGRAM = Program(
    title="TensorRT-LLM",
    engine="tensorrt_llm",
    commands=("trtllm-serve", "trtllm-serve serve", "python -m tensorrt_llm.commands.serve", "python -m dynamo.trtllm"),
    length="max_seq_len",
    flags=_FLAGS,
    own_variables=("TRTLLM_", "TLLM_"),
    harmless=("TRTLLM_*", "TLLM_LOG*", "TLLM_WORKER*", "TLLM_OVERRIDE*", "TLLM_DISABLE*"),
    takes_model=True,
    images=(r"tensorrt-llm/release(:|$)",),
    built=r"tensorrt[._-]?llm|trtllm",
    config_flags=("--config", "--extra_llm_api_options", "--extra-llm-api-options", "--extra-engine-args"),
    file_wins=True,
)
