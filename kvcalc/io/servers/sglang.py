"""SGLang's `/get_server_info` (and `/server_info`): its arguments, its tokens, and the GB of its pool, 2^30 bytes each.

    {"model_path": ..., "tp_size": 4, "max_total_num_tokens": 367404, "version": "0.5.23",
     "internal_states": [{"memory_usage": {"weight": 15.1, "kvcache": 16.46, "token_capacity": 367404, ...}, ...}]}

`/metrics`, if enabled, reports usage: sglang:num_used_tokens, sglang:num_running_reqs, and capacity:
sglang:max_total_num_tokens. The arguments contain API keys, which are not read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kvcalc.fleet.explain import Load, Printed, Reading
from kvcalc.fleet.explain.sglang import POOL, TOKENS_USED
from kvcalc.io.servers import Get, Pages, asked, entry, json_of, number, printed, samples, whole
from kvcalc.report.sheet import Json

PAGES = ("/get_server_info", "/server_info", "/metrics")
_INFO, _NEWER, _METRICS = PAGES
_DECIMALS = 2
"""SGLang rounds GB to two decimals, and JSON drops trailing zeros."""
_COUNTS = ("page_size", "max_running_requests", "chunked_prefill_size", "context_length")
_WORDS = ("kv_cache_dtype", "attention_backend", "dsa_prefill_backend", "dsa_decode_backend", "mamba_ssm_dtype")
_SHARES = ("mem_fraction_static", "swa_full_tokens_ratio")
_SWITCHES = ("disable_radix_cache", "disable_overlap_schedule", "disable_hybrid_swa_memory")


def ask(get: Get) -> Pages:
    """The older name of the page first, and the metrics."""
    found = asked(get, (_INFO,)) or asked(get, (_NEWER,))
    return {**found, **asked(get, (_METRICS,))}


def read(pages: Pages) -> Reading | None:
    """The pool of the smallest replica, and its usage."""
    info = json_of(pages.get(_INFO)) or json_of(pages.get(_NEWER))
    if info is None:
        return _of_metrics(pages.get(_METRICS))
    states = entry(info, "internal_states")
    state = states[0] if isinstance(states, list) and states and isinstance(states[0], dict) else info
    memory = entry(state, "memory_usage")
    tokens = whole(entry(memory, "token_capacity")) or whole(entry(info, "max_total_num_tokens"))
    if not tokens or entry(info, "model_path") is None:
        return None
    numbers = {"tokens": Printed(f"{tokens}", "", 1)}
    if (pool := printed(entry(memory, "kvcache"), "GB", 1)) is not None and pool.value:
        numbers[POOL] = pool._replace(decimals=_DECIMALS)
    model = info["model_path"]
    return Reading(
        "sglang",
        (numbers,),
        _settings(info),
        _ranks(info),
        model if isinstance(model, str) else "",
        load=_load(pages.get(_METRICS)),
    )


def _of_metrics(metrics: str | None) -> Reading | None:
    """The tokens of the least replica, where nothing but the metrics is there."""
    found = [sample for sample in samples(metrics, "sglang:") if sample[0] == "sglang:max_total_num_tokens"]
    held = {whole(number(value)) or 0: (labels, line) for _, labels, value, line in found}
    held.pop(0, None)
    if not held:
        return None
    tokens = min(held)
    labels, line = held[tokens]
    numbers = {"tokens": Printed(f"{tokens}", "", line)}
    return Reading("sglang", (numbers,), {}, {}, labels.get("model_name", ""), load=_load(metrics))


def _settings(info: Mapping[str, Any]) -> dict[str, Json]:
    settings: dict[str, Json] = {}
    for name in _COUNTS:
        if value := whole(info.get(name)):
            settings[name] = value
    for name in _WORDS:
        word = info.get(name)
        if isinstance(word, str) and word != "auto" and word.isidentifier():
            settings[name] = word
    for name in _SHARES:
        if (share := number(info.get(name))) is not None and 0 < share <= 1:
            settings[name] = share
    settings |= {name: True for name in _SWITCHES if info.get(name) is True}
    version = info.get("version")
    if isinstance(version, str) and version.replace(".", "").isdecimal():
        settings["version"] = version
    return settings


def _ranks(info: Mapping[str, Any]) -> dict[str, int]:
    """Ranks that divide heads: with attention data parallelism each dp group has its share of the ranks."""
    found = {name: value for name in ("tp", "pp") if (value := whole(info.get(f"{name}_size")))}
    dp = whole(info.get("dp_size")) or 1
    if info.get("enable_dp_attention") is True and found.get("tp"):
        found["tp"] = max(1, found["tp"] // dp)
    return found


def _load(metrics: str | None) -> Load:
    found = {name: value for name, _, value, _ in samples(metrics, "sglang:")}
    used = number(found.get("sglang:num_used_tokens"))
    tokens = {} if used is None or used < 0 else {TOKENS_USED: Printed(f"{int(used)}", "", 0)}
    running = whole(number(found.get("sglang:num_running_reqs")))
    return Load(tokens, running, whole(number(found.get("sglang:num_queue_reqs"))))
