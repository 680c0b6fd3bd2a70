"""TensorRT-LLM: `[MemUsageChange] Allocated 16.05 GiB for max tokens in paged KV cache (263008)`.

Older builds: `Allocate 69524783104 bytes for k/v cache.` and `Using 132608 tokens in paged KV cache.`
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from kvcalc.fleet.explain import Printed, Reading
from kvcalc.io.engine_logs import last_value, matches
from kvcalc.report.sheet import Json

LOOKED_FOR = "'Allocated ... GiB for max tokens in paged KV cache (...)'"
_POOL = re.compile(r"Allocated (\d+(?:\.\d+)?) GiB for max tokens in paged KV cache \((\d+)\)")
_BYTES = re.compile(r"Allocate (\d+) bytes for k/v cache")
_USED = re.compile(r"Using (\d+) (?:total )?tokens in paged KV cache")
_BLOCK = re.compile(r"(?:Number of tokens per block: |\btokens per block=)(\d+)")
_RANKS = {"tp": r"(?:tp_size|tensor_parallel_size)[=:] ?(\d+)", "pp": r"(?:pp_size|pipeline_parallel_size)[=:] ?(\d+)"}


def _of_older_builds(lines: Sequence[str]) -> dict[tuple[str, str], dict[str, Printed]]:
    """The pool of builds before 0.9, with bytes and tokens on two lines."""
    size = next(((number, found[1]) for number, found in matches(_BYTES, lines)), None)
    tokens = next(((number, found[1]) for number, found in matches(_USED, lines)), None)
    if tokens is None:
        return {}
    if size is None:
        return {("", tokens[1]): {"tokens": Printed(tokens[1], "", tokens[0])}}
    return {(size[1], tokens[1]): {"size": Printed(size[1], "", size[0]), "tokens": Printed(tokens[1], "", tokens[0])}}


def read(lines: Sequence[str]) -> Reading | None:
    """Each pool's line; all ranks print the same, and a start-up that first measures activations prints two."""
    pools = {
        (found[1], found[2]): {"size": Printed(found[1], "GiB", number), "tokens": Printed(found[2], "", number)}
        for number, found in reversed(list(matches(_POOL, lines)))
    }
    pools |= _of_older_builds(lines) if not pools else {}
    if not pools:
        return None
    settings: dict[str, Json] = {}
    if block := last_value(_BLOCK, lines):
        settings["tokens_per_block"] = int(block)
    ranks = {name: int(value) for name, words in _RANKS.items() if (value := last_value(re.compile(words), lines))}
    return Reading("tensorrt_llm", tuple(reversed(pools.values())), settings, ranks)
