"""TensorRT-LLM: `[MemUsageChange] Allocated 16.05 GiB for max tokens in paged KV cache (263008)`."""

from __future__ import annotations

import re
from collections.abc import Sequence

from kvcalc.fleet.explain import Printed, Reading
from kvcalc.io.engine_logs import last_value, matches
from kvcalc.report.sheet import Json

LOOKED_FOR = "'Allocated ... GiB for max tokens in paged KV cache (...)'"
_POOL = re.compile(r"Allocated (\d+(?:\.\d+)?) GiB for max tokens in paged KV cache \((\d+)\)")
_BLOCK = re.compile(r"Number of tokens per block: (\d+)")
_RANKS = {"tp": r"(?:tp_size|tensor_parallel_size)[=:] ?(\d+)", "pp": r"(?:pp_size|pipeline_parallel_size)[=:] ?(\d+)"}


def read(lines: Sequence[str]) -> Reading | None:
    """Each pool's line; ranks print the same, and a start-up that measures its activations first prints two."""
    pools = {
        (found[1], found[2]): {"size": Printed(found[1], "GiB", number), "tokens": Printed(found[2], "", number)}
        for number, found in reversed(list(matches(_POOL, lines)))
    }
    if not pools:
        return None
    settings: dict[str, Json] = {}
    if block := last_value(_BLOCK, lines):
        settings["tokens_per_block"] = int(block)
    ranks = {name: int(value) for name, words in _RANKS.items() if (value := last_value(re.compile(words), lines))}
    return Reading("tensorrt_llm", tuple(reversed(pools.values())), settings, ranks)
