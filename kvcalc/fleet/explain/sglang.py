"""SGLang: K and V, or the latent, of so many tokens, the spare page of the pool included."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from kvcalc.answers.planned import fit
from kvcalc.errors import InvalidValueError
from kvcalc.fleet.explain import Explainer, Printed, Reading
from kvcalc.model import Model
from kvcalc.parallel import Parallel
from kvcalc.report.log import Compared
from kvcalc.report.pool import Pool, PoolReport
from kvcalc.report.sheet import Json
from kvcalc.units import TIB

_OTHERS: Mapping[str, tuple[Json, ...]] = {
    "mamba_ssm_dtype": ("bfloat16", "float16", "float32"),
    "kv_cache_dtype": ("fp8_e4m3", "fp8_e5m2", "bf16", "mxfp8"),
    "dsa_decode_backend": ("trtllm",),
    "page_size": (16, 32, 64, 128),
    "disable_hybrid_swa_memory": (True,),
}
_RANKS = {"tp": (1, 2, 4, 8, 16), "pp": (2, 4, 8)}
_GIVEN = ("tokens", "states")
_UNDECIDED = "the log prints no pool larger than 0.00 GB; pass that of a start-up with more tokens"
_ENOUGH = 1024 * TIB
_STATES = "states"


def compare(model: Model, reading: Reading, settings: Mapping[str, Json], ranks: Parallel) -> tuple[Compared, ...]:
    """Each line of the log beside the pool of so many tokens or states; the longest one is that of the full pool."""
    tokens = [int(cache["tokens"].value) for cache in reading.caches if "tokens" in cache]
    report = fit(
        model,
        engine="sglang",
        available_bytes=_ENOUGH,
        parallel=ranks,
        engine_settings={**settings, **({"max_total_tokens": max(tokens)} if tokens else {})},
    )
    if not isinstance(report, PoolReport):
        raise InvalidValueError("SGLang plans in pools", help="report this: its planner answered with blocks")
    return tuple(compared for cache in reading.caches for compared in _of_cache(cache, report.stages[0]))


def _of_cache(cache: Mapping[str, Printed], pools: Sequence[Pool]) -> Iterator[Compared]:
    """The sizes of one line. A model without such a pool has none of it."""
    of_states = _STATES in cache
    slots = int(cache["states" if of_states else "tokens"].value)
    alike = [pool for pool in pools if (pool.name == _STATES) == of_states]
    pool = min(alike, key=lambda pool: abs(pool.slots - slots), default=_NO_POOL)
    predicted = _sizes(pool._replace(slots=slots))
    for what, printed in cache.items():
        if what in predicted:
            number = predicted[what]
            words = f"{what} of {slots:,} {_STATES if of_states else 'tokens'}"
            equal = printed.is_print_of(number)
            yield Compared(words, str(printed), printed.shown(number), equal, printed.line, printed.decides)


_NO_POOL = Pool("", 0, "", 0, ())


def _sizes(pool: Pool) -> dict[str, int]:
    """What each name of a line's sizes counts."""
    v_bytes = pool.bytes_of("v")
    conv_bytes = pool.bytes_of(*(name for name, _ in pool.slot_bytes if name.startswith("conv_state")))
    return {
        "KV size": pool.bytes,
        "K size": pool.bytes - v_bytes,
        "V size": v_bytes,
        "conv_state size": conv_bytes,
        "ssm_state size": pool.bytes - conv_bytes,
    }


EXPLAINER = Explainer(compare, others=_OTHERS, ranks=_RANKS, undecided=_UNDECIDED, given=_GIVEN)
