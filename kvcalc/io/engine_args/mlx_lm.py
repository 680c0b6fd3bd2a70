"""Arguments of `mlx_lm.server`, `mlx_lm.generate` and `mlx_lm.chat` (0.32.2).

Source: mlx_lm/server.py and mlx_lm/generate.py.
"""

from __future__ import annotations

from kvcalc.io.engine_args._own import draft
from kvcalc.io.engine_args._program import Program
from kvcalc.io.engine_args._rows import Flag, Ignored, Names, Reads, Sets, rows

PROGRAM = Program(
    title="MLX-LM",
    engine="mlx_lm",
    commands=(
        "mlx_lm.server",
        "mlx_lm.generate",
        "mlx_lm.chat",
        "python -m mlx_lm.server",
        "python -m mlx_lm.generate",
        "python -m mlx_lm.chat",
        "python -m mlx_lm server",
        "python -m mlx_lm generate",
        "mlx_lm server",
        "mlx_lm generate",
    ),
    flags=(
        Flag("model", Names("model")),
        Flag("max-kv-size", Sets("max_kv_size")),
        Flag("kv-bits", Sets("kv_bits")),
        Flag("kv-group-size", Sets("kv_group_size")),
        Flag("quantized-kv-start", Sets("quantized_kv_start")),
        Flag("prefill-step-size", Sets("prefill_step_size")),
        Flag("draft-model", Reads(draft)),
        *rows(
            Ignored("prompt caches kept for other requests"),
            value="prompt-cache-size prompt-cache-bytes prompt-cache-file",
        ),
        *rows(
            Ignored("networking and response format"),
            switch="""
                trust-remote-code use-default-chat-template ignore-chat-template pipeline quantize-activations|qa
            """,
            value="""
                adapter-path host port allowed-origins num-draft-tokens log-level chat-template temp top-p top-k
                min-p max-tokens|m chat-template-args decode-concurrency prompt-concurrency system-prompt prompt|p
                prefill-response xtc-probability xtc-threshold min-tokens-to-keep seed chat-template-config verbose
            """,
            values="extra-eos-token image",
        ),
    ),
    takes_prefixes=True,
)
