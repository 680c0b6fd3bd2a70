"""SGLang: K and V, or the latent, of so many tokens, the spare page of the pool included."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kvcalc.explaining import Printed, Reading
from kvcalc.fitting import fit
from kvcalc.model import Model
from kvcalc.parallel import Parallel
from kvcalc.report.log import Compared
from kvcalc.units import TIB

OTHERS: Mapping[str, tuple[Any, ...]] = {
    "kv_cache_dtype": ("fp8_e4m3", "fp8_e5m2", "bf16", "mxfp8"),
    "dsa_decode_backend": ("trtllm",),
    "page_size": (16, 32, 64, 128),
    "disable_hybrid_swa_memory": (True,),
}
RANKS = {"tp": (1, 2, 4, 8, 16), "pp": (2, 4, 8)}
GIVEN = ("tokens",)
_ENOUGH = 1024 * TIB
_V = ("v",)


def compare(model: Model, reading: Reading, settings: Mapping[str, Any], ranks: Parallel) -> tuple[Compared, ...]:
    """Each line of the log beside the pool of so many tokens; the longest line is that of the full pool."""
    tokens = [int(cache["tokens"].value) for cache in reading.caches]
    report = fit(
        model,
        engine="sglang",
        available_bytes=_ENOUGH,
        parallel=ranks,
        engine_settings={**settings, "max_total_tokens": max(tokens)},
    )
    pools = [pool for pool in report.data()["stages"][0] if pool["slot"] == "token"]
    found = []
    for cache, number in zip(reading.caches, tokens, strict=True):
        pool = _nearest(pools, number)
        rows = number + pool["spare_slots"]
        v_bytes = rows * sum(bytes_ for name, bytes_ in pool["tensors"].items() if name in _V)
        predicted = {"KV size": rows * pool["bytes_per_slot"], "V size": v_bytes}
        predicted["K size"] = predicted["KV size"] - v_bytes
        for what, printed in cache.items():
            if what in predicted:
                found.append(_compared(what, printed, predicted[what], number))
    return tuple(found)


def _nearest(pools: list[dict[str, Any]], tokens: int) -> dict[str, Any]:
    """The pool with a number of tokens nearest to the logged one."""
    return min(pools, key=lambda pool: abs(pool["slots"] - tokens))


def _compared(what: str, printed: Printed, number: int, tokens: int) -> Compared:
    words = f"{what} of {tokens:,} tokens"
    return Compared(words, str(printed), printed.shown(number), printed.is_print_of(number), printed.line)
