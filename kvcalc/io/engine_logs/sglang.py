"""SGLang: `KV Cache is allocated. #tokens: 367404, K size: 8.23 GB, V size: 8.23 GB`, its GB being 2^30 bytes.

With drafts each rank prints a second pool, of the draft model. If weights leave nothing it prints `Not enough memory.
Please try to increase --mem-fraction-static.`, after `Load weight begin. avail mem=...` and `Load weight end. ...`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from kvcalc.engines.sglang.settings import ALGORITHMS
from kvcalc.fleet.explain import Printed, Reading, Refusal
from kvcalc.fleet.explain.sglang import AFTER, BEFORE, USED
from kvcalc.io.engine_logs import last_in, last_value, matches
from kvcalc.report.sheet import Json

LOOKED_FOR = (
    "'KV Cache is allocated. ... #tokens: ..., K size: ... GB', 'Mamba Cache is allocated. ...', "
    "'max_total_num_tokens=...', 'Not enough memory. Please try to increase --mem-fraction-static'"
)
_CACHE = re.compile(
    r"KV Cache is allocated\.(?: dtype: torch\.(?P<dtype>\w+),)? ?(?:#tokens: (?P<tokens>\d[\d,]*),\s+)?"
    r"(?:K size: (?P<K>\d+(?:\.\d+)?) GB,\s+V size: (?P<V>\d+(?:\.\d+)?) GB|KV size: (?P<KV>\d+(?:\.\d+)?) GB)"
)
_STATES = re.compile(
    r"Mamba Cache is allocated\. max_mamba_cache_size: (\d+), conv_state size: (\d+(?:\.\d+)?) ?GB, "
    r"ssm_state size: (\d+(?:\.\d+)?) ?GB"
)
_TOKENS = re.compile(r"\bmax_total_num_tokens=(\d+)|KV Cache is allocated\.(?: dtype: [\w.]+,)? #tokens: (\d[\d,]*)")
"""Tokens on a separate line: at the end of a start-up, and if sizes were cut off."""
_POOLS = re.compile(r"Use [Ss]liding window memory pool\. full_layer_tokens=(\d+), swa_layer_tokens=\d+")
_RANK = re.compile(r"\[(?P<before>[^\[\]\n]{0,80})\bTP(?P<rank>\d{1,4})\b[^\[\]\n]{0,40}\]")
"""A rank in a line's prefix; with DP before it, ranks need not divide heads."""
_REFUSED = re.compile(
    r"Not\s+enough\s+memory(?:\.\s+Please\s+try\s+to\s+increase\s+--mem-fraction-static|\s+to\s+allocate\s+KV\s+cache)"
)
_BEGIN = re.compile(r"Load weight begin\. avail mem=(\d+(?:\.\d+)?) GB")
_END = re.compile(r"Load weight end\..{0,300}avail mem=(\d+(?:\.\d+)?) GB(?:, mem usage=(\d+(?:\.\d+)?) GB)?")
_STORED = {"float8_e4m3fn": "fp8_e4m3", "float8_e5m2": "fp8_e5m2"}
_MODEL = re.compile(r"\bmodel_path='([^']+)'")
_ARGUMENTS = {
    "page_size": r"page_size=(\d+)",
    "attention_backend": r"attention_backend='(\w+)'",
    "dsa_prefill_backend": r"(?:dsa|nsa)_prefill_backend='(\w+)'",
    "dsa_decode_backend": r"(?:dsa|nsa)_decode_backend='(\w+)'",
    "swa_full_tokens_ratio": r"swa_full_tokens_ratio=(\d+(?:\.\d+)?)",
    "kv_cache_dtype": r"kv_cache_dtype='(\w+)'",
    "mamba_ssm_dtype": r"mamba_ssm_dtype='(\w+)'",
    "mem_fraction_static": r"mem_fraction_static=(0\.\d+)",
    "context_length": r"\bcontext_length=(\d+)",
    "max_running_requests": r"\bmax_running_requests=(\d+)",
    "chunked_prefill_size": r"\bchunked_prefill_size=(\d+)",
    "speculative_algorithm": rf"\bspeculative_algorithm'?[=:] ?'({'|'.join(ALGORITHMS)})'",
    "speculative_draft_model_path": r"\bspeculative_draft_model_path'?[=:] ?'([^'\n]+)'",
    "speculative_draft_kv_cache_dtype": r"\bspeculative_draft_kv_cache_dtype'?[=:] ?'(\w+)'",
    "speculative_num_steps": r"\bspeculative_num_steps'?[=:] ?(\d+)",
    "speculative_eagle_topk": r"\bspeculative_eagle_topk'?[=:] ?(\d+)",
    "speculative_num_draft_tokens": r"\bspeculative_num_draft_tokens'?[=:] ?(\d+)",
}


def read(lines: Sequence[str]) -> Reading | None:
    """Each pool's line, and the server's arguments if printed."""
    caches: dict[tuple[str, ...], Mapping[str, Printed]] = {}
    settings: dict[str, Json] = {}
    tokens = _tokens(lines)
    for number, found in matches(_CACHE, lines):
        sizes = {f"{name} size": Printed(found[name], "GB", number) for name in ("K", "V", "KV") if found[name]}
        of_line = Printed(found["tokens"], "", number) if found["tokens"] else tokens
        key = ("" if of_line is None else of_line.text, *(size.text for size in sizes.values()))
        caches.setdefault(key, {**({"tokens": of_line} if of_line else {}), **sizes})  # each rank prints it
        if found["dtype"] in _STORED:
            settings["kv_cache_dtype"] = _STORED[found["dtype"]]
    for number, found in matches(_STATES, lines):
        states = Printed(found[1], "", number)
        sizes = {"conv_state size": Printed(found[2], "GB", number), "ssm_state size": Printed(found[3], "GB", number)}
        caches.setdefault(("states", found[1], found[2], found[3]), {"states": states, **sizes})
        settings["max_mamba_cache_size"] = int(found[1])
    alone = _pool_of_all(lines) or (None if caches else tokens)
    if alone is not None and not any(
        cache.get("tokens", alone).text == alone.text for cache in caches.values() if "tokens" in cache
    ):
        caches[("alone",)] = {"tokens": alone}
    refusal = _refusal(lines, max((each.line for cache in caches.values() for each in cache.values()), default=0))
    if not caches and refusal is None:
        return None
    for name, pattern in _ARGUMENTS.items():
        value = last_value(re.compile(pattern), lines)
        if value is not None and value != "auto":
            settings.setdefault(name, _as_number(value))
    if last_value(re.compile(r"disable_radix_cache=(True)"), lines):
        settings["disable_radix_cache"] = True
    model = last_value(_MODEL, lines) or ""
    every = tuple(caches.values())
    return Reading(
        "sglang",
        every,
        settings,
        _ranks(lines),
        model=model,
        refusal=refusal,
        device=_device(lines),
        seen=_seen(lines),
    )


def _tokens(lines: Sequence[str]) -> Printed | None:
    """Tokens of the pool that apply to all lines: from the end of a start-up."""
    found = [Printed(match[1] or match[2], "", number) for number, match in matches(_TOKENS, lines)]
    return found[-1] if found else None


def _pool_of_all(lines: Sequence[str]) -> Printed | None:
    """Tokens of the full layers' pool, if windows have a separate one."""
    found = [Printed(match[1], "", number) for number, match in matches(_POOLS, lines)]
    return found[-1] if found else None


def _seen(lines: Sequence[str]) -> dict[str, int]:
    ranks = [int(found["rank"]) for _, found in matches(_RANK, lines) if "DP" not in found["before"]]
    highest = max(ranks, default=0)
    return {"tp": highest + 1} if highest else {}


def _refusal(lines: Sequence[str], last_line: int) -> Refusal | None:
    one = last_in(_REFUSED, lines)
    if one is None or one[0] < last_line:
        return None
    return Refusal("mem_fraction_static leaves no memory for the cache after the weights", one[0])


def _device(lines: Sequence[str]) -> dict[str, Printed]:
    """Free memory before and after the weights, of the rank with the least."""
    begins = [Printed(found[1], "GB", number) for number, found in matches(_BEGIN, lines)]
    ends = [(number, found) for number, found in matches(_END, lines)]
    found: dict[str, Printed] = {}
    if begins:
        found[BEFORE] = min(begins, key=lambda printed: printed.value)
    if ends:
        number, end = min(ends, key=lambda each: float(each[1][1]))
        found[AFTER] = Printed(end[1], "GB", number)
        found |= {USED: Printed(end[2], "GB", number)} if end[2] else {}
    return found


def _ranks(lines: Sequence[str]) -> dict[str, int]:
    """Ranks that divide heads: with attention data parallelism each dp group has its share of the ranks."""
    found = {
        name: int(value)
        for name in ("tp", "pp", "dp")
        if (value := last_value(re.compile(rf"\b{name}_size=(\d+)"), lines))
    }
    dp = found.pop("dp", 1)
    if last_value(re.compile(r"enable_dp_attention=(True)"), lines):
        found["tp"] = max(1, found.get("tp", 1) // dp)
    return found


def _as_number(text: str) -> int | float | str:
    if text.isdecimal():
        return int(text)
    return float(text) if text.replace(".", "").isdecimal() else text
