"""vLLM's `/metrics`, `/v1/models` and `/version`: one set of labels states its blocks, tokens and concurrency.

    vllm:cache_config_info{block_size="128",num_gpu_blocks="1024",kv_cache_size_tokens="20763",...} 1.0
    vllm:kv_cache_usage_perc{engine="0",...} 0.032258064516129004        blocks in use / (num_gpu_blocks - 1)

Each replica prints a set; the one with the fewest blocks is compared, and the fullest. Servers of V0 state blocks in
host memory and its bytes, too (num_cpu_blocks, swap_space_bytes).
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from math import ceil
from typing import Any

from kvcalc.fleet.explain import Load, Printed, Reading
from kvcalc.fleet.explain.vllm import HOST_BLOCKS, REQUESTS, SWAP, USED_BLOCKS
from kvcalc.io.servers import Get, Pages, Sample, asked, entry, json_of, number, printed, samples, whole
from kvcalc.report.sheet import Json

PAGES = ("/metrics", "/v1/models", "/version")
_METRICS, _MODELS, _VERSION = PAGES
_NUMBERS = {
    "num_gpu_blocks": "blocks",
    "kv_cache_size_tokens": "tokens",
    "kv_cache_max_concurrency": REQUESTS,
}
_COUNTS = ("block_size", "kv_cache_memory_bytes", "num_gpu_blocks_override")
_WORDS = {
    "cache_dtype": "kv_cache_dtype",
    "mamba_cache_dtype": "mamba_cache_dtype",
    "mamba_ssm_cache_dtype": "mamba_ssm_cache_dtype",
}
_FLOAT_ERROR = Fraction(1, 2**50)
_LEAST_BLOCK = 16
"""For DeepSeek-V4 the label has the smallest block of all groups, which is not a setting."""


def ask(get: Get) -> Pages:
    """The length and the version only if the server has vLLM's metrics."""
    found = asked(get, (_METRICS,))
    return {**found, **asked(get, (_MODELS, _VERSION))} if "vllm:" in found.get(_METRICS, "") else {}


def read(pages: Pages) -> Reading | None:
    """The cache of the replica with the fewest blocks, and the usage of the fullest."""
    found = list(samples(pages.get(_METRICS), "vllm:"))
    caches = [sample for sample in found if sample[0] == "vllm:cache_config_info"]
    caches = [sample for sample in caches if whole(sample[1].get("num_gpu_blocks"))]
    if not caches:
        return None
    _, labels, _, line = min(caches, key=lambda sample: whole(sample[1]["num_gpu_blocks"]) or 0)
    numbers: dict[str, Printed] = {}
    for label, name in _NUMBERS.items():
        if (value := printed(labels.get(label), "", line)) is not None:
            numbers[name] = value
    host, swap = whole(labels.get("num_cpu_blocks")), whole(number(labels.get("swap_space_bytes")))
    if host and swap:
        numbers[HOST_BLOCKS] = Printed(f"{host}", "", line)
    settings = _settings(labels)
    models, version = json_of(pages.get(_MODELS)), entry(json_of(pages.get(_VERSION)), "version")
    if longest := whole(entry(models, "data", 0, "max_model_len")) or _longest(numbers):
        settings["max_model_len"] = longest
    if isinstance(version, str):
        release, _, build = version.partition("+")
        settings["version"] = ".".join(release.split(".")[:3])
        settings |= {"gpu": "cpu"} if build == "cpu" else {}
    notes = () if len(caches) == 1 else (f"{len(caches)} replicas: the one with the fewest blocks is compared",)
    return Reading(
        "vllm",
        (numbers,),
        settings,
        {},
        _model(models, found),
        load=_load(found),
        device={SWAP: Printed(f"{swap}", "", line)} if swap else {},
        notes=notes,
    )


def _longest(numbers: Mapping[str, Printed]) -> int | None:
    """max_model_len from tokens = int(concurrency * max_model_len); None if several lengths match."""
    tokens, requests = numbers.get("tokens"), numbers.get(REQUESTS)
    if tokens is None or requests is None or not requests.value:
        return None
    least = ceil(tokens.value / requests.value * (1 - _FLOAT_ERROR))
    fitting = [length for length in (least, least + 1) if int(float(requests.text) * length) == tokens.value]
    return fitting[0] if len(fitting) == 1 else None


def _settings(labels: Mapping[str, str]) -> dict[str, Json]:
    settings: dict[str, Json] = {}
    for label in _COUNTS:
        value = whole(labels.get(label))
        if value and (label != "block_size" or value >= _LEAST_BLOCK):
            settings[label] = value
    for label, name in _WORDS.items():
        word = labels.get(label, "auto")
        if word not in ("auto", "None") and word.isidentifier():
            settings[name] = word
    if (share := number(labels.get("gpu_memory_utilization"))) is not None and 0 < share <= 1:
        settings["gpu_memory_utilization"] = share
    if labels.get("enable_prefix_caching") in ("True", "False"):
        settings["enable_prefix_caching"] = labels["enable_prefix_caching"] == "True"
    return settings


def _model(models: Any, found: list[Sample]) -> str:
    """Path or repository of the model; otherwise its served name."""
    named = entry(models, "data", 0, "root") or entry(models, "data", 0, "id")
    labels = [sample[1].get("model_name", "") for sample in found]
    return named if isinstance(named, str) else next((label for label in labels if label), "")


def _load(found: list[Sample]) -> Load:
    shares = [(number(value), value, line) for name, _, value, line in found if name in _USAGE]
    full = max((share for share in shares if share[0] is not None), default=None)
    used = {} if full is None else {USED_BLOCKS: Printed(_plain(full[0]), "", full[2])}
    return Load(used, _summed(found, "vllm:num_requests_running"), _summed(found, "vllm:num_requests_waiting"))


_USAGE = ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc")


def _plain(share: float | None) -> str:
    """A share without an exponent."""
    return f"{min(max(share or 0, 0), 1):.18f}"


def _summed(found: list[Sample], metric: str) -> int | None:
    values = [whole(number(value)) for name, _, value, _ in found if name == metric]
    known = [value for value in values if value is not None]
    return sum(known) if known else None
