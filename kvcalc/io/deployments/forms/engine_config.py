"""Files of arguments: of `vllm serve --config`, of SGLang's --config, of TensorRT-LLM's --extra_llm_api_options.

Keys are flags, with dashes or underscores; a switch that is false is not set. The program is the one that has most of
the file's keys.
Source: docs.vllm.ai, configuration of the server; sglang/srt/server_args_config_parser.py; tensorrt_llm/llmapi.
"""

from __future__ import annotations

from collections.abc import Iterator

from kvcalc.io.deployments.documents import YAML, Around, Document
from kvcalc.io.deployments.forms import Form, Read
from kvcalc.io.deployments.reading.flags import flag_name, flag_words, names
from kvcalc.io.deployments.workload import Workload
from kvcalc.io.engine_args import program_of

_SIGNS = {
    "vllm": names("""
        tensor-parallel-size max-model-len gpu-memory-utilization max-num-seqs kv-cache-dtype served-model-name
        pipeline-parallel-size max-num-batched-tokens enable-prefix-caching block-size data-parallel-size
        trust-remote-code speculative-config kv-transfer-config uvicorn-log-level enforce-eager quantization
    """),
    "sglang": names("""
        model-path tp-size tensor-parallel-size mem-fraction-static context-length chunked-prefill-size dp-size ep-size
        max-running-requests disable-radix-cache enable-dp-attention served-model-name kv-cache-dtype
    """),
    "tensorrt_llm": names("""
        kv-cache-config moe-expert-parallel-size enable-attention-dp cuda-graph-config moe-config max-seq-len
        print-iter-log cache-transceiver-config disable-overlap-scheduler
    """),
}
"""Flags unique to each, in order of preference for ties."""


def _names(document: Document) -> list[str]:
    entries = document.root.items()
    return [flag_name(name) for name, node in entries if not node.is_mapping or name.endswith("config")]


def _program(document: Document) -> str | None:
    """The program that has most of the file's keys, at least one or two of them."""
    found = set(_names(document))
    if found & {"kind", "deployments"}:
        return None
    least = 1 if any("-" in name for name, _ in document.root.items()) else 2
    known = [name for name, signs in _SIGNS.items() if len(found & signs) >= least]
    whose = max(known, key=lambda name: len(found & program_of(name).spelled.keys()), default=None)
    strange = found - program_of(whose).spelled.keys() if whose is not None else set()
    return whose if 2 * len(strange) <= len(found) else None  # otherwise an unrelated file with some of these words


def _is_own(document: Document) -> bool:
    return _program(document) is not None


def _read(document: Document, around: Around) -> Iterator[Read]:
    root, program = document.root, _program(document) or "vllm"
    places = {"model", "model-path", *_SIGNS[program]}
    first = next((node.line for name, node in root.items() if flag_name(name) in places), root.line)
    model = root.first("model", "model-path", "model_path")
    yield Workload(
        name=document.stem,
        line=model.line if model else first,
        words=tuple(flag_words(root.items(), off=program == "vllm")),  # which reads false as the flag's --no- form
        program=program,
        variables=dict(around.given),
    )


FORM = Form("arguments of an engine", YAML, _is_own, _read, general=True)
