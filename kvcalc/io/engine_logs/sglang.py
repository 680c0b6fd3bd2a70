"""SGLang: `KV Cache is allocated. #tokens: 367404, K size: 8.23 GB, V size: 8.23 GB`, its GB being 2^30 bytes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from kvcalc.fleet.explain import Printed, Reading
from kvcalc.io.engine_logs import last_value, matches
from kvcalc.report.sheet import Json

LOOKED_FOR = "'KV Cache is allocated. ... #tokens: ..., K size: ... GB', 'Mamba Cache is allocated. ...'"
_CACHE = re.compile(
    r"KV Cache is allocated\.(?: dtype: torch\.(?P<dtype>\w+),)? ?#tokens: (?P<tokens>\d[\d,]*), "
    r"(?:K size: (?P<K>\d+(?:\.\d+)?) GB, V size: (?P<V>\d+(?:\.\d+)?) GB|KV size: (?P<KV>\d+(?:\.\d+)?) GB)"
)
_STATES = re.compile(
    r"Mamba Cache is allocated\. max_mamba_cache_size: (\d+), conv_state size: (\d+(?:\.\d+)?) ?GB, "
    r"ssm_state size: (\d+(?:\.\d+)?) ?GB"
)
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
}


def read(lines: Sequence[str]) -> Reading | None:
    """Each pool's line, and the arguments of the server where it prints them."""
    caches: dict[tuple[str, ...], Mapping[str, Printed]] = {}
    settings: dict[str, Json] = {}
    for number, found in matches(_CACHE, lines):
        sizes = {f"{name} size": Printed(found[name], "GB", number) for name in ("K", "V", "KV") if found[name]}
        key = (found["tokens"], *(size.text for size in sizes.values()))
        caches.setdefault(key, {"tokens": Printed(found["tokens"], "", number), **sizes})  # each rank prints it
        if found["dtype"] in _STORED:
            settings["kv_cache_dtype"] = _STORED[found["dtype"]]
    for number, found in matches(_STATES, lines):
        states = Printed(found[1], "", number)
        sizes = {"conv_state size": Printed(found[2], "GB", number), "ssm_state size": Printed(found[3], "GB", number)}
        caches.setdefault(("states", found[1], found[2], found[3]), {"states": states, **sizes})
        settings["max_mamba_cache_size"] = int(found[1])
    if not caches:
        return None
    for name, pattern in _ARGUMENTS.items():
        value = last_value(re.compile(pattern), lines)
        if value is not None and value != "auto":
            settings.setdefault(name, _as_number(value))
    if last_value(re.compile(r"disable_radix_cache=(True)"), lines):
        settings["disable_radix_cache"] = True
    model = last_value(_MODEL, lines) or ""
    return Reading("sglang", tuple(caches.values()), settings, _ranks(lines), model=model)


def _ranks(lines: Sequence[str]) -> dict[str, int]:
    """Ranks that share heads: with attention data parallelism each of the dp groups has its share of the ranks."""
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
