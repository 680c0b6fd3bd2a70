"""Ollama: `memory.required.kv="992.0 MiB"` next to `--ctx-size 8192 --parallel 1`, later `msg="kv cache" device=CUDA0`.

If it runs llama.cpp, that prints its own lines, which are tried first (`llama_cpp`). Out of memory it prints `model
requires more system memory (8.4 GiB) than is available (7.1 GiB)`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from kvcalc.fleet.explain import Printed, Reading, Refusal
from kvcalc.fleet.explain._reading import AVAILABLE, NEEDED
from kvcalc.fleet.explain.ollama import ESTIMATE, KV
from kvcalc.io.engine_logs import last_in, last_value, matches
from kvcalc.io.engine_logs._gguf import metadata_before
from kvcalc.report.sheet import Json

LOOKED_FOR = """'memory.required.kv="... MiB"', 'msg="kv cache" device=... size=...', 'model requires more ...'"""
_SIZE = r"\\?\"?(\d+(?:\.\d+)?) ([KMG]iB)"
_REQUIRED = re.compile(rf"memory\.required\.kv={_SIZE}")
_ON_DEVICE = re.compile(rf"msg=\\?\"kv cache\\?\" device=(\S+) size={_SIZE}")
_TOO_LITTLE = re.compile(
    r"requires\s+more\s+(?:system\s+)?memory\s+\((\d+(?:\.\d+)?) ([KMG]iB)\)\s+than\s+is\s+available\s+"
    r"\((\d+(?:\.\d+)?) ([KMG]iB)\)"
)
_TOO_LARGE = re.compile(rf"model request too large for system\\?\" requested={_SIZE}\\?\"? available={_SIZE}")
_COUNTS = {
    "tokens": r"--ctx-size[ =](\d+)|\bKvSize:(\d+)",
    "num_parallel": r"--parallel[ =](\d+)|\bParallel:(\d+)|OLLAMA_NUM_PARALLEL[:=](\d+)",
    "num_batch": r"--batch-size[ =](\d+)|\bBatchSize:(\d+)",
}
_TYPE = re.compile(r"--kv-cache-type[ =](\w+)|\bKvCacheType:(\w+)|OLLAMA_KV_CACHE_TYPE[:=](\w+)")
_FLASH = re.compile(r"(?:FlashAttention|OLLAMA_FLASH_ATTENTION)[:=](true|false|1|0|Enabled|Disabled)\b")
_NAME = re.compile(r"\barchitecture=\w+ file_type=\S+ name=\\?\"?([\w.-]{3,})")
_VERSION = re.compile(r"Listening on .{0,200}\(version v?(\d+\.\d+\.\d+)")


def read(lines: Sequence[str]) -> Reading | None:
    """Memory of the cache on all devices, the context, and the error."""
    numbers: dict[str, Printed] = {}
    caches: tuple[dict[str, Printed], ...] = ()
    for number, found in matches(_REQUIRED, lines):
        numbers = {ESTIMATE: Printed(found[1], found[2], number)}
    if on_devices := _on_devices(lines):
        caches = tuple({KV: printed} for printed in on_devices)
    elif numbers:
        caches = (numbers,)
    refusal = _refusal(lines)
    if not caches and refusal is None:
        return None
    version = last_value(_VERSION, lines)
    settings: dict[str, Json] = {"version": version} if version else {}
    for name, pattern in _COUNTS.items():
        for _, found in matches(re.compile(pattern), lines):
            settings[name] = int(next(text for text in found.groups() if text))
    for _, found in matches(_TYPE, lines):
        settings["kv_cache_type"] = next(text for text in found.groups() if text).lower()
    if settings.get("kv_cache_type") not in ("f16", "q8_0", "q4_0", None):
        del settings["kv_cache_type"]
    if flash := last_value(_FLASH, lines):
        settings["flash_attention"] = flash in ("true", "1", "Enabled")
    last = max((printed.line for cache in caches for printed in cache.values()), default=len(lines))
    return Reading(
        "ollama",
        caches,
        settings,
        {},
        last_value(_NAME, lines) or "",
        refusal=refusal,
        metadata=metadata_before(lines, len(lines) if refusal else last),
    )


def _on_devices(lines: Sequence[str]) -> list[Printed]:
    """Cache on each device, for the last model loaded, whose lines are consecutive."""
    found: dict[str, Printed] = {}
    for number, match in matches(_ON_DEVICE, lines):
        if match[1] in found:  # the next model, or the same one again
            found = {}
        found[match[1]] = Printed(match[2], match[3], number)
    return list(found.values())


def _refusal(lines: Sequence[str]) -> Refusal | None:
    ends = [one for pattern in (_TOO_LITTLE, _TOO_LARGE) if (one := last_in(pattern, lines)) is not None]
    if not ends:
        return None
    line, found = max(ends, key=lambda one: one[0])
    numbers = {NEEDED: Printed(found[1], found[2], line), AVAILABLE: Printed(found[3], found[4], line)}
    return Refusal("the model and its cache need more memory than is free", line, numbers)
