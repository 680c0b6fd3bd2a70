"""Rules of vLLM that changed between its versions, each a row with its source."""

from __future__ import annotations

from enum import Enum

from kvcalc.engines.base.versions import Release, Rule


class Reported(Enum):
    """What vLLM logs as the tokens of its cache."""

    BY_BLOCKS = "blocks // groups * block_size"
    BY_CONCURRENCY = "max_concurrency * max_model_len"


class VllmRelease(Release):
    """A version of vLLM."""

    TITLE = "vLLM"
    KNOWN = ("0.33.0",)

    gpu_memory_utilization = Rule(
        "share of a GPU's memory that is taken by default", 0.9, {"0.20.0": 0.92}, "config/cache.py"
    )
    reported_tokens = Rule(
        "tokens of 'GPU KV cache size'",
        Reported.BY_BLOCKS,
        {"0.20.1": Reported.BY_CONCURRENCY},
        "v1/core/kv_cache_utils.py (get_kv_cache_capacity)",
    )
