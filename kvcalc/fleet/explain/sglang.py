"""SGLang: K and V, or the latent, of a number of tokens, including the pool's spare page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from math import ceil

from kvcalc.answers.planned import fit
from kvcalc.cache.dtypes import BF16
from kvcalc.engines import Engine
from kvcalc.engines.base.plan import Plan
from kvcalc.engines.sglang.versions import SglangRelease
from kvcalc.errors import InvalidValueError, KvcalcError
from kvcalc.fleet.explain._reading import Balance, Explainer, Printed, Reading, Settings
from kvcalc.model import Model
from kvcalc.parallel import Parallel
from kvcalc.report.log import Compared, Room, Way
from kvcalc.report.pool import Pool, PoolReport
from kvcalc.report.sheet import Json
from kvcalc.units import TIB, count, gibibytes, plural

BEFORE, AFTER, USED = "free before weights", "free after weights", "weights"
"""Names of the device's numbers in a reading."""
POOL, TOKENS_USED = "pool size", "tokens"
"""Names of a server's pool size (keys and values together), and of a load's tokens."""
_MOST_SHARE = 0.95
"""mem_fraction_static above which no memory is left for activations and graphs."""
_OTHERS: Mapping[str, tuple[Json, ...]] = {
    "mamba_ssm_dtype": ("bfloat16", "float16", "float32"),
    "kv_cache_dtype": ("fp8_e4m3", "fp8_e5m2", "bf16", "mxfp8"),
    "dsa_decode_backend": ("trtllm",),
    "page_size": (16, 32, 64, 128),
    "disable_hybrid_swa_memory": (True,),
}
_RANKS = {"tp": (1, 2, 4, 8, 16), "pp": (2, 4, 8)}
_GIVEN = ("tokens", "states")
_TOO_SMALL = "the log prints no pool larger than 0.00 GB; pass the log of a start-up with more tokens"
_NO_SIZES = "the log states tokens and no bytes; include the line 'KV Cache is allocated. #tokens: ..., K size: ... GB'"
_NO_MEMORY = (
    "the error states no sizes; include the lines 'Load weight begin. avail mem=...' and 'Load weight end. ...'"
)
_ENOUGH = 1024 * TIB
_STATES, _DRAFTING = "states", "speculative_"
_SHORT = 8192


def compare(model: Model, reading: Reading, settings: Settings, ranks: Parallel) -> tuple[Compared, ...]:
    """Each line of the log next to the pool of its tokens or states; the longest line is the full pool's."""
    if not reading.caches:
        return tuple(_of_refusal(model, reading, settings, ranks))
    tokens = [int(cache["tokens"].value) for cache in reading.caches if "tokens" in cache]
    if not tokens and not any(_STATES in cache for cache in reading.caches) and "max_total_tokens" not in settings:
        raise InvalidValueError(
            "tokens unknown: the log states the bytes of its pool, not how many tokens it holds",
            field="max_total_tokens",
            help="include the line 'max_total_num_tokens=...', or pass --engine-set max_total_tokens=444500",
        )
    report = fit(
        model,
        engine="sglang",
        available_bytes=_ENOUGH,
        parallel=ranks,
        engine_settings={
            **_asked(_of_drafts(model, settings)),
            "mem_fraction_static": None,
            **({"max_total_tokens": max(tokens)} if tokens else {}),
        },
    )
    if not isinstance(report, PoolReport):
        raise InvalidValueError("SGLang plans in pools", help="report this: its planner answered with blocks")
    pools = report.stages[0]
    rows = [_of_cache(cache, pools) for cache in reading.caches]
    return tuple(compared for row in _without_drafts(reading, pools, rows) for compared in row)


def _asked(settings: Settings) -> dict[str, Json]:
    """Settings of the nearest known version."""
    version = settings.get("version")
    return {**settings} if version is None else {**settings, "version": SglangRelease.nearest(str(version))}


def _of_drafts(model: Model, settings: Settings) -> Settings:
    """Without those of a draft, unless it is known which checkpoint drafts."""
    if model.drafter is not None:
        return settings
    return {name: value for name, value in settings.items() if not name.startswith(_DRAFTING)}


Rows = Sequence[tuple[Compared, ...]]


def _without_drafts(reading: Reading, pools: Sequence[Pool], rows: Rows) -> Iterator[tuple[Compared, ...]]:
    """The rows of each line; those of a draft model's pool are not judged, as its shape is unknown.

    Such a line is recognised if there are more lines than pools, and another line with as many tokens agrees.
    """
    spare = sum("tokens" in cache and len(cache) > 1 for cache in reading.caches) - sum(
        pool.name != _STATES for pool in pools
    )
    right = {_tokens_of(cache) for cache, row in zip(reading.caches, rows, strict=True) if _agree(row)}
    for cache, row in zip(reading.caches, rows, strict=True):
        if spare > 0 and not _agree(row) and _tokens_of(cache) in right:
            spare -= 1
            yield tuple(
                each._replace(
                    what=f"{each.what}, of a draft model", predicted="", agrees=True, decides=False, judged=False
                )
                for each in row
            )
        else:
            yield row


def _agree(row: Sequence[Compared]) -> bool:
    return all(each.agrees for each in row)


def _tokens_of(cache: Mapping[str, Printed]) -> str:
    return cache["tokens"].text if "tokens" in cache else ""


def _of_cache(cache: Mapping[str, Printed], pools: Sequence[Pool]) -> tuple[Compared, ...]:
    """The sizes of one line, next to those of the pool with as many slots that agrees; zero without such a pool."""
    of_states = _STATES in cache
    alike = [pool for pool in pools if (pool.name == _STATES) == of_states]
    stated = cache.get("states" if of_states else "tokens")
    slots = int(stated.value) if stated else max((pool.slots for pool in alike), default=0)
    least = min((abs(pool.slots - slots) for pool in alike), default=0)
    nearest = [pool for pool in alike if abs(pool.slots - slots) == least] or [_NO_POOL]
    if stated is not None and cache.keys() == {"tokens"}:
        pool_bytes = _sizes(nearest[0]._replace(slots=slots))[POOL]
        words = gibibytes(pool_bytes) + (f" in {nearest[0].name} layers" if len(alike) > 1 else "")
        return (Compared("tokens", f"{slots:,}", words, agrees=True, line=stated.line, decides=False, judged=False),)
    rows = [_of_pool(cache, pool, slots) for pool in nearest]
    return next(filter(_agree, rows), rows[0])


def _of_pool(cache: Mapping[str, Printed], pool: Pool, slots: int) -> tuple[Compared, ...]:
    """The sizes of one line next to those of a pool with this many slots."""
    predicted, of = _sizes(pool._replace(slots=slots)), _STATES if _STATES in cache else "tokens"
    return tuple(
        Compared(
            f"{what} of {slots:,} {of}",
            str(printed),
            printed.shown(predicted[what]),
            printed.is_print_of(predicted[what]),
            printed.line,
            printed.decides,
        )
        for what, printed in cache.items()
        if what in predicted
    )


_NO_POOL = Pool("", 0, "", 0, ())


def _sizes(pool: Pool) -> dict[str, int]:
    """What each size of a line counts."""
    v_bytes = pool.bytes_of("v")
    conv_bytes = pool.bytes_of(*(name for name, _ in pool.slot_bytes if name.startswith("conv_state")))
    return {
        POOL: pool.bytes,
        "KV size": pool.bytes,
        "K size": pool.bytes - v_bytes,
        "V size": v_bytes,
        "conv_state size": conv_bytes,
        "ssm_state size": pool.bytes - conv_bytes,
    }


def undecided(reading: Reading) -> str:
    """What a log lacks."""
    if reading.refusal is not None and not reading.caches:
        return _NO_MEMORY
    return _NO_SIZES if all(cache.keys() <= {"tokens"} for cache in reading.caches) else _TOO_SMALL


# Errors -------------------------------------------------------------------------------------------------------------


def _left(reading: Reading, settings: Settings) -> int | None:
    """Bytes that mem_fraction_static left for the cache: free after weights, minus what it keeps of the free memory."""
    share = settings.get("mem_fraction_static")
    if not isinstance(share, int | float) or not {BEFORE, AFTER} <= reading.device.keys():
        return None
    return int(reading.device[AFTER].value - reading.device[BEFORE].value * (1 - Fraction(str(share))))


def _of_refusal(model: Model, reading: Reading, settings: Settings, ranks: Parallel) -> Iterator[Compared]:
    """The memory left next to the size of a page: the error is predicted if a page is larger."""
    left = _left(reading, settings)
    if left is None:
        return
    needed = max(_plan(model, settings, ranks).needed(1, 1))
    after = reading.device[AFTER]
    words = f"{after.shown(left)} left for the cache"
    yield Compared(words, "not enough", "not enough" if left < needed else "enough", left < needed, after.line)


def _plan(model: Model, settings: Settings, ranks: Parallel) -> Plan:
    engine = Engine.of("sglang", _asked(_of_drafts(model, settings)))
    return engine.plan(model, BF16, ranks)  # type: ignore[attr-defined,no-any-return]


def ways(model: Model, reading: Reading, settings: Settings, ranks: Parallel) -> Iterator[Way]:
    """Fixes for too little memory: a larger share, fp8, more GPUs; each for one request of full context."""
    if reading.refusal is None:
        yield from _ways_up(model, reading, settings, ranks)
        return
    tokens, device = _context(model, settings), reading.device
    for flags, change in (("", {}), (" --kv-cache-dtype fp8_e4m3", {"kv_cache_dtype": "fp8_e4m3"})):
        needed = _needed(model, {**settings, **change}, ranks, tokens)
        if needed is None:
            continue
        what = f"one request of {plural(tokens, 'token')} takes {gibibytes(needed)}"
        if not {BEFORE, AFTER} <= device.keys():
            yield Way(f"raise --mem-fraction-static{flags}", what)
            continue
        share = ceil((1 - (device[AFTER].least - needed) / device[BEFORE].value) * 100) / 100
        if share <= _MOST_SHARE:
            yield Way(f"--mem-fraction-static {share:g}{flags}", what)
    yield from _shorter(model, settings, ranks, reading, tokens)
    if USED in device and BEFORE in device:
        yield from _on_more_gpus(model, settings, ranks, reading, tokens)


def _shorter(model: Model, settings: Settings, ranks: Parallel, reading: Reading, tokens: int) -> Iterator[Way]:
    """The longest context at the largest share."""
    if not {BEFORE, AFTER} <= reading.device.keys():
        return
    left = int(reading.device[AFTER].least - reading.device[BEFORE].value * (1 - Fraction(str(_MOST_SHARE))))
    longest = _plan(model, settings, ranks).max_tokens(1, left) if left > 0 else 0
    if longest and longest < tokens:
        flags = f"--mem-fraction-static {_MOST_SHARE:g} --context-length {longest}"
        yield Way(flags, f"the longest context in {gibibytes(left)}")


def _on_more_gpus(model: Model, settings: Settings, ranks: Parallel, reading: Reading, tokens: int) -> Iterator[Way]:
    device, share = reading.device, settings.get("mem_fraction_static")
    kept = Fraction(str(share)) if isinstance(share, int | float) else Fraction(str(_MOST_SHARE))
    for times in (2, 4, 8):
        layout = replace(ranks, tp=ranks.tp * times)
        needed = _needed(model, settings, layout, tokens)
        left = device[BEFORE].value * kept - device[USED].value / times
        if needed is not None and needed <= left:
            words = f"weights leave {gibibytes(int(left))} of each GPU, a request takes {gibibytes(needed)}"
            yield Way(f"--tp {layout.tp}", words)
            return


def _context(model: Model, settings: Settings) -> int:
    """Tokens of the longest request; a short one where neither the log nor the model names a length."""
    tokens = settings.get("context_length", model.max_model_len)
    return tokens if isinstance(tokens, int) else _SHORT


def balance(model: Model, reading: Reading, settings: Settings, ranks: Parallel) -> Balance:
    """One request of full context, and what mem_fraction_static left for it."""
    tokens = _context(model, settings)
    needed = _needed(model, settings, ranks, tokens)
    left = _left(reading, settings)
    return Balance(
        "" if needed is None else f"{gibibytes(needed)} for {tokens:,} tokens",
        "" if left is None else f"{gibibytes(left)} of mem_fraction_static {settings.get('mem_fraction_static')}",
    )


def _needed(model: Model, settings: Settings, ranks: Parallel, tokens: int) -> int | None:
    try:
        return max(_plan(model, settings, ranks).needed(tokens, 1))
    except KvcalcError:
        return None


# A running server ---------------------------------------------------------------------------------------------------


def room(model: Model, reading: Reading, settings: Settings, ranks: Parallel) -> Room | None:
    """Tokens in use, and the additional requests that fit."""
    del ranks
    numbers = reading.numbers()
    if reading.load is None or "tokens" not in numbers:
        return None
    held = int(numbers["tokens"].value)
    used = reading.load.used.get(TOKENS_USED)
    taken = min(int(used.value), held) if used else 0
    free = held - taken
    longest = settings.get("context_length", model.max_model_len)
    most = min(free, longest) if isinstance(longest, int) else free
    lengths = [length for length in (1024, 8192, 32_768, 131_072) if length < most]
    further = tuple((length, free // length) for length in [*lengths, *([most] if most else [])])
    running = "" if reading.load.running is None else f"; {plural(reading.load.running, 'request')} running"
    return Room(
        f"{taken:,} of {plural(held, 'token')} ({taken / max(held, 1):.1%}){running}",
        taken / max(held, 1),
        further,
        most,
    )


def _ways_up(model: Model, reading: Reading, settings: Settings, ranks: Parallel) -> Iterator[Way]:
    """More tokens in the memory of the existing pools."""
    numbers = reading.numbers()
    if reading.load is None or "tokens" not in numbers:
        return
    held = int(numbers["tokens"].value)
    try:
        memory = max(_plan(model, settings, ranks).needed(held, 1))
        for flags, change, layout in (
            ("--kv-cache-dtype fp8_e4m3", {"kv_cache_dtype": "fp8_e4m3"}, ranks),
            (f"--tp {2 * ranks.tp}", {}, replace(ranks, tp=2 * ranks.tp)),
        ):
            after = _plan(model, {**settings, **change}, layout).max_tokens(1, memory)
            if after is not None and after > held:
                yield Way(flags, f"{plural(after, 'token')} instead of {count(held)}")
    except KvcalcError:
        return


EXPLAINER = Explainer(
    compare, others=_OTHERS, ranks=_RANKS, undecided=undecided, balance=balance, given=_GIVEN, ways=ways, room=room
)
