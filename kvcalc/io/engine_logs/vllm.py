"""vLLM: `GPU KV cache size: 302,921 tokens`, `Maximum concurrency for 131,072 tokens per request: 2.31x`."""

from __future__ import annotations

import re
from collections.abc import Sequence

from kvcalc.fleet.explain import Printed, Reading
from kvcalc.fleet.explain.vllm import MEMORY, REQUESTS
from kvcalc.io.engine_logs import last_value, matches
from kvcalc.report.sheet import Json

LOOKED_FOR = "'GPU KV cache size: ... tokens', 'Maximum concurrency for ... tokens per request', '# GPU blocks: ...'"
_TOKENS = re.compile(r"GPU KV cache size: (\d[\d,]*) tokens")
_CONCURRENCY = re.compile(r"Maximum concurrency for (\d[\d,]*) tokens per request: (\d+(?:\.\d+)?)x")
_BLOCKS = re.compile(r"# (?:GPU|CUDA) blocks: (\d[\d,]*)|num_gpu_blocks(?: is)?[:=] ?(\d[\d,]*)")
_MEMORY = re.compile(r"(?:Available KV cache memory: |memory reserved for KV Cache is )(\d+(?:\.\d+)?) ?GiB")
_MODEL = re.compile(r"\bmodel='([^']+)'")
_VERSION = re.compile(r"(?:V1 LLM engine|vLLM API server version|LLM engine) \(?v?(\d+\.\d+\.\d+)")
_RANKS = {"tp": r"tensor_parallel_size", "pp": r"pipeline_parallel_size", "dcp": r"decode_context_parallel_size"}
_SETTINGS = {
    "max_model_len": r"\b(?:max_seq_len|max_model_len'?)[=:] ?(\d+)",
    "enable_prefix_caching": r"\benable_prefix_caching'?[=:] ?(True|False)",
    "kv_cache_dtype": r"'?kv_cache_dtype'?[=:] ?'?([a-z0-9_]+)",
    "max_num_batched_tokens": r"'?max_num_batched_tokens'?[=:] ?(\d+)",
    "block_size": r"'?\bblock_size'?[=:] ?(\d+)",
    "gpu_memory_utilization": r"'?gpu_memory_utilization'?[=:] ?(\d+(?:\.\d+)?)",
    "mamba_ssm_cache_dtype": r"'?mamba_ssm_cache_dtype'?[=:] ?'?(float16|float32|bfloat16)",
}


def read(lines: Sequence[str]) -> Reading | None:
    """Tokens, blocks, concurrency and memory, the least memory of all workers, and the settings that stand around."""
    numbers: dict[str, Printed] = {}
    settings: dict[str, Json] = {}
    for number, found in matches(_TOKENS, lines):
        numbers["tokens"] = Printed(found[1], "", number)
    for number, found in matches(_CONCURRENCY, lines):
        numbers[REQUESTS] = Printed(found[2], "", number)
        settings["max_model_len"] = int(found[1].replace(",", ""))
    for number, found in matches(_BLOCKS, lines):
        numbers["blocks"] = Printed(found[1] or found[2], "", number)
    if not numbers:
        return None
    memories = [Printed(found[1], "GiB", number) for number, found in matches(_MEMORY, lines)]
    if memories:
        numbers[MEMORY] = min(memories, key=lambda printed: printed.value)
    for name, pattern in _SETTINGS.items():
        value = last_value(re.compile(pattern), lines)
        if value is not None and value != "auto":
            settings.setdefault(name, _as_value(value))
    if version := last_value(_VERSION, lines):
        settings["version"] = version
    ranks = {
        name: int(value)
        for name, words in _RANKS.items()
        if (value := last_value(re.compile(rf"'?{words}'?[=:] ?(\d+)"), lines))
    }
    return Reading("vllm", (numbers,), settings, ranks, last_value(_MODEL, lines) or "")


def _as_value(text: str) -> bool | int | float | str:
    if text in ("True", "False"):
        return text == "True"
    try:
        return int(text)
    except ValueError:
        return float(text) if "." in text and text.replace(".", "").isdecimal() else text
