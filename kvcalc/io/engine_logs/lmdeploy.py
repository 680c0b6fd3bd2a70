"""LMDeploy: TurboMind's `[BlockManager] block_size = 8.000 MB`, `max_block_count = 6214`, a MB being 2^20 bytes.

Its PyTorch engine prints `CacheConfig(max_batches=128, block_size=64, num_cpu_blocks=0, num_gpu_blocks=6214, ...)`,
which states the number of blocks but not their size. From 0.15 on TurboMind prints no blocks, but `Object cache budget:
55634.70 MB from free 63488.19 MB and ratio 0.876`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from kvcalc.fleet.explain import Printed, Reading
from kvcalc.fleet.explain.lmdeploy import BLOCK, BLOCKS, BUDGET
from kvcalc.io.engine_logs import last_value, matches
from kvcalc.report.sheet import Json

LOOKED_FOR = "'[BlockManager] block_size = ... MB', '[BlockManager] max_block_count = ...', 'Object cache budget: ...'"
_BLOCK = re.compile(r"\[BlockManager\] block_size = (\d+(?:\.\d+)?) ?MB")
_COUNT = re.compile(r"\[BlockManager\] max_block_count = (\d+)|\bnum_gpu_blocks=(\d+)")
_BUDGET = re.compile(r"Object cache budget: (\d+(?:\.\d+)?) MB from ")
_PYTORCH = re.compile(r"\bCacheConfig\((max_batches=\d+)")
_SETTINGS = {
    "block_size": re.compile(r"(?:cache_block_seq_len'?|CacheConfig\(.{0,200}\bblock_size)[=:] ?(\d+)"),
    "quant_policy": re.compile(r"\bquant_policy'?(?:[=:] ?|=<QuantPolicy\.\w+: ?)(\d+)"),
    "session_len": re.compile(r"\bsession_len'?[=:] ?(\d+)"),
    "max_batch_size": re.compile(r"\bmax_batch_size'?[=:] ?(\d+)"),
}
_TP = re.compile(r"\b(?:tp|attn_tp_size)'?[=:] ?(\d+)")
_MODEL = re.compile(r"\bmodel_path'?[=:] ?'([^']+)'")


def read(lines: Sequence[str]) -> Reading | None:
    """Size and number of blocks; all ranks print the same."""
    numbers: dict[str, Printed] = {}
    for number, found in matches(_BLOCK, lines):
        numbers[BLOCK] = Printed(found[1], "MB", number)
    for number, found in matches(_BUDGET, lines):
        numbers[BUDGET] = Printed(found[1], "MB", number)
    pytorch = last_value(_PYTORCH, lines) is not None
    if not numbers and not pytorch:
        return None
    for number, found in matches(_COUNT, lines):
        numbers[BLOCKS] = Printed(found[1] or found[2], "", number)
    if not numbers:
        return None
    settings: dict[str, Json] = {"backend": "pytorch" if pytorch and BLOCK not in numbers else "turbomind"}
    for name, pattern in _SETTINGS.items():
        if value := last_value(pattern, lines):
            settings[name] = int(value)
    ranks = {"tp": int(tp)} if (tp := last_value(_TP, lines)) else {}
    return Reading("lmdeploy", (numbers,), settings, ranks, last_value(_MODEL, lines) or "")
