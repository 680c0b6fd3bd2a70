"""Arguments of text-generation-launcher, whose cache is not modelled: they are parsed to name what decides it.

Source: launcher/src/main.rs of text-generation-inference.
"""

from __future__ import annotations

from kvcalc.io.engine_args._program import Program
from kvcalc.io.engine_args._rows import Flag, Ignored, Kept, Names, Variable, rows

_DECIDING = tuple(
    rows(
        Kept(),
        value="""
            num-shard max-total-tokens max-input-tokens|max-input-length max-batch-prefill-tokens
            max-batch-total-tokens max-batch-size cuda-memory-fraction kv-cache-dtype quantize dtype speculate
            sharded rope-scaling rope-factor waiting-served-ratio max-concurrent-requests max-client-batch-size
            prefix-caching attention
        """,
    )
)
_MODEL = Flag("model-id", Names("model"))

PROGRAM = Program(
    by_variables=True,
    title="TGI",
    engine=None,
    decides="max-total-tokens, num-shard, cuda-memory-fraction and kv-cache-dtype",
    commands=("text-generation-launcher", "text-generation-server serve"),
    flags=(
        _MODEL,
        *_DECIDING,
        *rows(
            Ignored("networking and response format"),
            switch="""
                json-output trust-remote-code disable-custom-kernels disable-grammar-support usage-stats env
                enable-prefill-logprobs ngrok
            """,
            value="""
                hostname port prometheus-port shard-uds-path master-addr master-port huggingface-hub-cache
                weights-cache-override revision tokenizer-config-path validation-workers max-best-of
                max-stop-sequences max-top-n-tokens max-waiting-tokens otlp-endpoint otlp-service-name api-key
                watermark-gamma watermark-delta cuda-graphs lora-adapters payload-limit ngrok-authtoken ngrok-edge
            """,
            values="cors-allow-origin",
        ),
    ),
    variables=(
        Variable("MODEL_ID", _MODEL),
        *(Variable(flag.name.upper().replace("-", "_"), flag) for flag in _DECIDING),
    ),
    images=(r"huggingface/text-generation-inference(:|$)",),
    built=r"text-generation-inference|\btgi\b",
    starts=True,
)
