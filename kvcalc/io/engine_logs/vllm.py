"""vLLM: `GPU KV cache size: 302,921 tokens`, `Maximum concurrency for 131,072 tokens per request: 2.31x`.

The request is in `non-default args: {...}`, the resolved config in `LLM engine (v0.33.0) with config: ...`. A failed
start-up prints `To serve at least one request with the model's max seq len (196608), 23.25 GiB KV cache is needed ...`,
before 0.8 `The model's max seq len (32768) is larger than the maximum number of tokens ... (7344)`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from kvcalc.errors import KvcalcError
from kvcalc.fleet.explain import Printed, Reading, Refusal
from kvcalc.fleet.explain._reading import AVAILABLE, LENGTH, LONGEST, NEEDED, STORED
from kvcalc.fleet.explain.vllm import (
    BEFORE_OVERRIDE,
    FREE,
    HOST_BLOCKS,
    LONGEST_FITTED,
    MEMORY,
    REQUESTS,
    SHARE,
    SWAP,
    TOTAL,
)
from kvcalc.hardware import gpu_named
from kvcalc.io.engine_logs import last_in, last_value, matches
from kvcalc.report.sheet import Json

LOOKED_FOR = (
    "'GPU KV cache size: ... tokens', 'Maximum concurrency for ... tokens per request', '# GPU blocks: ...', "
    "'To serve at least one request ...'"
)
_DECIMALS = 2
"""vLLM rounds GiB to two decimals, and drops trailing zeros."""
_NUMBER, _SIZE = r"(\d+(?:,\d{3})*)", r"(-?\d+(?:\.\d+)?) ?Gi?B"
_TOKENS = re.compile(rf" KV cache size: {_NUMBER} tokens")
_BEGUN = re.compile(r"non-default args|LLM engine \(?v?\d")
"""First line of a start-up, once per process."""
_CONCURRENCY = re.compile(rf"Maximum concurrency for {_NUMBER} tokens per request: (\d+(?:\.\d+)?)x")
_BLOCKS = (
    re.compile(rf"# \w{{2,12}} blocks: {_NUMBER}"),  # V0: "# cuda blocks: 9, # CPU blocks: 2"
    re.compile(rf"num_gpu_blocks(?<!\wnum_gpu_blocks)(?: is)?[:=] ?{_NUMBER}(?! with)"),
)
_COUNTED_BY_BLOCKS = "0.19.1"
"""The last known version whose tokens of hybrids are blocks // groups * block_size."""
_HOST_BLOCKS = re.compile(rf"# (?:GPU|[Cc]uda|CUDA|rocm|ROCm) blocks: [\d,]+, # CPU blocks: {_NUMBER}")
_SWAP = re.compile(r"\bswap_space'?[=:] ?(\d+(?:\.\d+)?)")
_WORKER = re.compile(r"\bWorker(?:_(?!TP)\w{1,24}?)?_TP(\d{1,4})\b")
"""Workers are named by their ranks."""
_OVERRIDE = re.compile(rf"Overriding num_gpu_blocks={_NUMBER} with num_gpu_blocks_override={_NUMBER}")
_MEMORY = (
    re.compile(r"Available KV cache memory: (-?\d+(?:\.\d+)?) ?GiB"),
    re.compile(r"available_kv_cache_memory\s+(\d+(?:\.\d+)?) ?GiB"),
    re.compile(r"memory reserved for KV Cache is (-?\d+(?:\.\d+)?) ?GiB"),
    re.compile(r"\bkv_cache_size=(\d+(?:\.\d+)?) ?GiB"),
    re.compile(r"reserved (\d+(?:\.\d+)?) GiB memory for KV Cache as specified by kv_cache_memory_bytes"),
    re.compile(r"Explicitly set \((\d+(?:\.\d+)?)/\d+(?:\.\d+)?\) GiB for KV cache"),
)
_MODEL = re.compile(r"model(?<!\wmodel)'?[=:] ?'([^']+)'")
_VERSION = (
    re.compile(r"LLM engine \(?v?(\d+\.\d+\.\d+)"),
    re.compile(r"vLLM API server version (\d+\.\d+\.\d+)"),
)
_DEVICE = re.compile(r"device_name=(NVIDIA_\w+|AMD_\w+)")
_ON_CPU = (re.compile(r"device_config=cpu\b"), re.compile(r"CPU KV cache size"))
_OFFLINE = re.compile(r"\((MainProcess) pid=\d+\) .{0,200}non-default args")
_RANKS = {"tp": r"tensor_parallel_size", "pp": r"pipeline_parallel_size", "dcp": r"decode_context_parallel_size"}
_COUNT, _SWITCH, _WORD = r"(\d+)", r"(True|False)", r"'?([a-z][a-z0-9_]+)"
_SETTINGS = {
    "max_model_len": r"(-1|\d+)",
    "enable_prefix_caching": _SWITCH,
    "kv_cache_dtype": _WORD,
    "max_num_batched_tokens": _COUNT,
    "max_num_seqs": _COUNT,
    "block_size": _COUNT,
    "gpu_memory_utilization": r"(\d+(?:\.\d+)?)",
    "mamba_cache_dtype": r"'?(float16|float32|bfloat16)",
    "mamba_ssm_cache_dtype": r"'?(float16|float32|bfloat16)",
    "kv_cache_memory_bytes": _COUNT,
    "num_gpu_blocks_override": _COUNT,
    "disable_hybrid_kv_cache_manager": _SWITCH,
    "async_scheduling": _SWITCH,
    "dtype": r"(?:torch\.|')?(float16|float32|bfloat16)\b",
}
_SKIPPED = re.compile(r"kv_cache_dtype_skip_layers'?[=:] ?\[([^\]\n]*)\]")
_DRAFTS = re.compile(
    r"speculative_config'?[=:] ?(?:\{|SpeculativeConfig\()[^)}\n]*?'?method'?[:=] ?'(?P<method>\w+)'[^)}\n]*?"
    r"'?num_spec(?:ulative)?_tokens'?[:=] ?(?P<tokens>\d+)"
)
_DRAFT_MODEL = re.compile(r"'?\bmodel'?[:=] ?'([^'\n]+)'")
_TOO_LONG = re.compile(
    rf"To\s+serve\s+at\s+least\s+one\s+request\s+with\s+the\s+models?'s\s+max\s+seq\s+len\s+\({_NUMBER}\),?\s+"
    rf"\(?{_SIZE}\s+KV\s+cache\s+is\s+needed,\s+which\s+is\s+larger\s+than\s+the\s+available\s+KV\s+cache\s+memory\s+"
    rf"\({_SIZE}\)(?:.{{0,60}}?\bthe\s+estimated\s+maximum\s+model\s+length\s+is\s+{_NUMBER})?",
    re.DOTALL,
)
_TOO_MANY = re.compile(
    rf"max\s+seq\s+len\s+\({_NUMBER}\)\s+is\s+larger\s+than\s+the\s+maximum\s+number\s+of\s+tokens\s+that\s+can\s+be\s+"
    rf"stored\s+in\s+(?:the\s+)?KV\s+cache\s+\({_NUMBER}\)"
)
_NOTHING = (
    re.compile(r"No\s+available\s+memory\s+for\s+the\s+cache\s+blocks"),
    re.compile(r"Cannot\s+auto-fit\s+max_model_len:\s+not\s+enough\s+(?:GPU\s+)?memory"),
)
_TAKEN = re.compile(
    rf"Free\s+memory\s+on\s+device\s+(?:\S+\s+)?\((\d+(?:\.\d+)?)/(\d+(?:\.\d+)?)\s+GiB\)\s+on\s+startup\s+is\s+less\s+"
    rf"than\s+desired\s+(?:GPU\s+)?memory\s+utilization\s+\((\d+(?:\.\d+)?),\s+{_SIZE}\)"
)
_STARTED = re.compile(r"Free memory on device (?:\S+ )?\((\d+(?:\.\d+)?)/(\d+(?:\.\d+)?) GiB\)")


def read(lines: Sequence[str]) -> Reading | None:
    """Tokens, blocks, concurrency, the least memory of all workers, the error, and the settings."""
    numbers, length = _of_cache(lines)
    memories = [
        Printed(found[1], "GiB", number, _DECIMALS) for line in _MEMORY for number, found in matches(line, lines)
    ]
    refusal = _refusal(lines)
    if refusal is not None and any(printed.line > refusal.line for printed in numbers.values()):
        refusal = None  # a later start-up succeeded
    if not numbers and refusal is None and not memories:
        return None
    settings = _settings(lines, length, refusal)
    if memories:
        numbers[MEMORY] = min(memories, key=lambda printed: printed.value)
    if settings.get("max_model_len") == -1 and length is not None:
        numbers[LONGEST_FITTED] = length
    ranks = {
        name: int(value) for name, words in _RANKS.items() if (value := last_value(_named(words, r"(\d+)"), lines))
    }
    return Reading(
        "vllm",
        (numbers,),
        settings,
        ranks,
        last_value(_MODEL, lines) or "",
        refusal=refusal,
        device=_device(lines),
        heard=len(memories),
        seen=_seen(lines),
        supposed=_supposed(numbers, length),
    )


def _supposed(numbers: dict[str, Printed], length: Printed | None) -> dict[str, Json]:
    """Tokens that are not those of all concurrent requests were counted otherwise, by versions that did."""
    if length is None or not {"tokens", REQUESTS} <= numbers.keys():
        return {}
    requests, tokens = numbers[REQUESTS], numbers["tokens"].value
    apart = abs(tokens - requests.value * length.value)
    return {"version": _COUNTED_BY_BLOCKS} if apart > requests.rounding * length.value + 1 else {}


def _seen(lines: Sequence[str]) -> dict[str, int]:
    """Tensor-parallel ranks by the names of their workers."""
    highest = max((int(found[1]) for _, found in matches(_WORKER, lines)), default=0)
    return {"tp": highest + 1} if highest else {}


def _of_cache(lines: Sequence[str]) -> tuple[dict[str, Printed], Printed | None]:
    """Numbers of the cache by name, and the request length behind the concurrency."""
    numbers: dict[str, Printed] = {}
    length = None
    tokens = [Printed(found[1], "", number) for number, found in matches(_TOKENS, lines)]
    if tokens:
        numbers["tokens"] = _least(tokens, lines)
    counts = {Printed(found[2], "", n): Printed(found[1], "", n) for n, found in matches(_CONCURRENCY, lines)}
    last = max(counts.values(), key=lambda each: each.line, default=None)
    counts = {count: each for count, each in counts.items() if last and each.value == last.value}  # of one start-up
    if counts:
        numbers[REQUESTS] = _least(list(counts), lines)
        length = counts[numbers[REQUESTS]]
    for number, found in (each for line in _BLOCKS for each in matches(line, lines)):
        numbers["blocks"] = Printed(found[1], "", number)
    for number, found in matches(_HOST_BLOCKS, lines):
        numbers[HOST_BLOCKS] = Printed(found[1], "", number)
    for number, found in matches(_OVERRIDE, lines):
        numbers[BEFORE_OVERRIDE] = Printed(found[1], "", number)
        numbers.pop("blocks", None)
    return numbers, length


def _least(printed: Sequence[Printed], lines: Sequence[str]) -> Printed:
    """The least printed by ranks of the last start-up, which all of them use; the last of equal ones."""
    begin = max((n for n, _ in matches(_BEGUN, lines) if n < printed[-1].line), default=0)
    return min(reversed([each for each in printed if each.line > begin]), key=lambda each: each.value)


def _refusal(lines: Sequence[str]) -> Refusal | None:
    """The last error of a start-up."""
    found = []
    if (one := last_in(_TOO_LONG, lines)) is not None:
        line, match = one
        units = {LENGTH: "", NEEDED: "GiB", AVAILABLE: "GiB", LONGEST: ""}
        texts = zip(units.items(), match.groups(), strict=True)
        numbers = {name: Printed(text, unit, line, _DECIMALS if unit else 0) for (name, unit), text in texts if text}
        found.append(Refusal("a request of max_model_len does not fit the cache", line, numbers))
    if (one := last_in(_TOO_MANY, lines)) is not None:
        line, match = one
        numbers = {LENGTH: Printed(match[1], "", line), STORED: Printed(match[2], "", line)}
        found.append(Refusal("max_model_len is longer than the cache", line, numbers))
    if (one := last_in(_TAKEN, lines)) is not None:
        line, match = one
        needed, available = (Printed(text, "GiB", line, _DECIMALS) for text in (match[4], match[1]))
        numbers = {NEEDED: needed, AVAILABLE: available, SHARE: Printed(match[3], "", line)}
        found.append(Refusal("less memory is free than gpu_memory_utilization requires", line, numbers))
    for pattern in _NOTHING:
        if (one := last_in(pattern, lines)) is not None:
            found.append(Refusal("no memory is left for the cache", one[0]))
    return max(found, key=lambda refusal: refusal.line, default=None)


def _settings(lines: Sequence[str], length: Printed | None, refusal: Refusal | None) -> dict[str, Json]:
    settings: dict[str, Json] = {}
    for name, pattern in _SETTINGS.items():
        value = last_value(_named(name, pattern), lines)
        if value is not None and value != "auto":
            settings[name] = _as_value(value)
    asked = refusal.numbers.get(LENGTH) if refusal else length
    if settings.get("max_model_len") != -1:
        longest = last_value(_named("max_seq_len", r"(\d+)"), lines)
        if asked is not None or longest:
            settings["max_model_len"] = int(asked.value) if asked else int(longest or 0)
    if (skipped := last_value(_SKIPPED, lines)) is not None:
        settings["kv_cache_dtype_skip_layers"] = [_as_value(item.strip(" '\"")) for item in skipped.split(",") if item]
    for _, found in matches(_DRAFTS, lines):
        settings["speculative"] = {
            "method": found["method"],
            **_draft_in(found),
            "num_speculative_tokens": int(found["tokens"]),
        }
    for _, found in matches(_OVERRIDE, lines):
        settings["num_gpu_blocks_override"] = int(found[2].replace(",", ""))
    if version := next(filter(None, (last_value(pattern, lines) for pattern in _VERSION)), None):
        settings["version"] = version
    if next(matches(_OFFLINE, lines), None):
        settings["usage"] = "llm"
    if any(next(matches(pattern, lines), None) for pattern in _ON_CPU):
        settings["gpu"] = "cpu"
    elif name := _gpu_named_in(lines):
        settings["gpu"] = name
    return settings


def _named(name: str, pattern: str) -> re.Pattern[str]:
    """A value by its name, as Python prints an argument or an entry; matches the name first, which is fast."""
    return re.compile(rf"{name}(?<![\w-]{name})'?[=:] ?{pattern}")


def _draft_in(found: re.Match[str]) -> dict[str, Json]:
    """The draft checkpoint, if it is not the model."""
    if found["method"].endswith("mtp"):
        return {}
    written = re.split(r"[})\n]", found.string[found.start() :], maxsplit=1)[0]
    named = _DRAFT_MODEL.search(written)
    return {"model": named[1]} if named else {}


def _gpu_named_in(lines: Sequence[str]) -> str:
    """The GPU named in a tuned-kernel file name; empty if no line has a known one."""
    try:
        return gpu_named((last_value(_DEVICE, lines) or "").replace("_", " ").strip()).written
    except KvcalcError:
        return ""


def _device(lines: Sequence[str]) -> dict[str, Printed]:
    """Free and total memory of the GPU, of the rank with the least; for V0 also the host's."""
    swap = last_value(_SWAP, lines)
    host = {} if swap is None else {SWAP: Printed(swap, "GiB", 0)}
    found = [(number, match) for number, match in matches(_STARTED, lines)]
    if not found and (one := last_in(_TAKEN, lines)) is not None:
        found = [one]
    if not found:
        return host
    number, match = min(found, key=lambda each: float(each[1][1]))
    free, total = (Printed(text, "GiB", number, _DECIMALS) for text in (match[1], match[2]))
    return {**host, FREE: free, TOTAL: total}


def _as_value(text: str) -> bool | int | float | str:
    if text in ("True", "False"):
        return text == "True"
    try:
        return int(text)
    except ValueError:
        return float(text) if "." in text and text.replace(".", "").isdecimal() else text
