"""Arguments of llama-cpp-python's server: `python -m llama_cpp.server`.

Source: llama_cpp/server/settings.py (0.3.36). Its flags are its settings' fields, with underscores.
"""

from __future__ import annotations

from kvcalc.io.engine_args._own import config_file, draft, layers_on_gpu
from kvcalc.io.engine_args._program import Program
from kvcalc.io.engine_args._rows import Flag, Ignored, Names, Reads, Refused, Sets, Variable, rows

_BOOL = ("true", "false", "1", "0", "yes", "no", "on", "off")
_TYPES = {
    **{"0": "f32", "1": "f16", "2": "q4_0", "3": "q4_1", "6": "q5_0", "7": "q5_1", "8": "q8_0", "20": "iq4_nl"},
    "30": "bf16",
}
"""Numbers of GGML types (ggml.h)."""
_FLAGS = (
    Flag("model", Names("model")),
    Flag("hf-model-repo-id", Names("model"), ("hf_model_repo_id",)),
    Flag("n-ctx", Names("tokens")),
    Flag("n-batch", Sets("n_batch")),
    Flag("n-ubatch", Sets("n_ubatch")),
    Flag("type-k", Sets("type_k", _TYPES)),
    Flag("type-v", Sets("type_v", _TYPES)),
    Flag("flash-attn", Sets("flash_attn", {"true": "on", "false": "off", "1": "on", "0": "off"}), (), "maybe", _BOOL),
    Flag("n-gpu-layers", Reads(layers_on_gpu)),
    Flag("draft-model", Reads(draft)),
    Flag("config-file", Reads(config_file, decides=False)),
    *rows(Refused("the cache is then in host memory", nothing=("true", "True", "1")), value="offload-kqv"),
    *rows(Refused("one context on several GPUs is not modelled"), value="tensor-split rpc-servers split-mode"),
    *rows(Refused("it changes the model", "pass a GGUF file with this change"), value="kv-overrides"),
    *rows(
        Ignored("no effect on the cache on the GPU"),
        value="""
            model-alias main-gpu vocab-only use-mmap use-mlock seed n-threads n-threads-batch rope-scaling-type
            rope-freq-base rope-freq-scale yarn-ext-factor yarn-attn-factor yarn-beta-fast yarn-beta-slow
            yarn-orig-ctx mul-mat-q logits-all embedding last-n-tokens-size lora-base lora-path numa chat-format
            chat-template-kwargs clip-model-path cache cache-type cache-size hf-tokenizer-config-path
            hf-pretrained-model-name-or-path draft-model-num-pred-tokens verbose host port ssl-keyfile ssl-certfile
            api-key interrupt-requests disable-ping-events root-path
        """,
    ),
)
_DECIDING = {flag.name: flag for flag in _FLAGS if not isinstance(flag.does, Ignored)}

PROGRAM = Program(
    by_variables=True,
    title="llama-cpp-python",
    engine="llama_cpp",
    commands=("python -m llama_cpp.server",),
    flags=_FLAGS,
    variables=tuple(
        Variable(name.upper().replace("-", "_"), flag) for name, flag in _DECIDING.items() if name != "model"
    ),
    defaults={"defaults": "library"},
    tokens=2048,
    takes_prefixes=True,
)
