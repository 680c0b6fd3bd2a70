"""Ollama: the cells of a context, shared by all its sequences, summed over devices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction

from kvcalc.answers.size import sized
from kvcalc.engines import Engine
from kvcalc.engines.ollama.versions import OllamaRelease
from kvcalc.errors import KvcalcError
from kvcalc.fleet.explain._reading import (
    AVAILABLE,
    NEEDED,
    Balance,
    Explainer,
    Printed,
    Reading,
    Settings,
    stated_balance,
)
from kvcalc.model import Model
from kvcalc.parallel import Parallel
from kvcalc.question import Question
from kvcalc.report.log import Compared, Room, Way
from kvcalc.report.sheet import Json
from kvcalc.units import count, gibibytes, plural

KV, ESTIMATE, TOKENS = "kv", "estimated kv", "tokens"
"""Names of a reading's number, as allocated or as the scheduler of older versions estimated it, and of its setting for
the whole context, which the engine does not have."""
_OTHERS: Mapping[str, tuple[Json, ...]] = {
    "kv_cache_type": ("q8_0", "q4_0"),
    "num_parallel": (1, 2, 4),
    "num_batch": (256, 1024, 2048),
    "flash_attention": (True, False),
}
_NO_SIZE = 'the {} does not state the size of the cache: pass the lines with memory.required.kv or msg="kv cache"'
_NO_CONTEXT = "the log does not state its context: pass the line with KvSize (load request=...), or with --ctx-size"
_SHORTEST = 256
_LAST_WITH_OWN, _LAST_WITH_ESTIMATE = "0.24.0", "0.11.0"
"""Lines with the cache's size are from Ollama before 0.30, which had its own engine; estimates from before 0.12.4."""


def compare(model: Model, reading: Reading, settings: Settings, ranks: Parallel) -> tuple[Compared, ...]:
    """The cache next to the sum over devices; with only an error there is nothing to compare."""
    del ranks  # one context, on any number of devices
    printed = [number for cache in reading.caches for number in cache.values()]
    if not printed:
        return ()
    if any(ESTIMATE in cache for cache in reading.caches):
        settings = {"version": _LAST_WITH_ESTIMATE, **settings}
    tokens = settings.get(TOKENS)
    if not isinstance(tokens, int):
        return (_of_own_context(model, printed[0], settings),)
    predicted = _bytes(model, settings, tokens)
    words = "kv cache" if len(printed) == 1 else f"kv cache of {len(printed)} devices"
    return (_summed(words, printed, predicted),)


def _of_own_context(model: Model, printed: Printed, settings: Settings) -> Compared:
    """A log without its context: the default may be another on that machine, so that it is no evidence."""
    context = _own_context(model, settings)
    words = f"{printed.shown(_bytes(model, settings, context))} at {context:,} tokens"
    return Compared("kv cache", str(printed), words, agrees=True, line=printed.line, decides=False, judged=False)


def balance(model: Model, reading: Reading, settings: Settings, ranks: Parallel) -> Balance:
    """As the error states it: of weights, cache and buffers together."""
    del model, settings, ranks
    found = stated_balance(reading)
    return found._replace(needed=f"{found.needed}: weights, cache and buffers") if found.needed else found


def undecided(reading: Reading) -> str:
    """What a log lacks."""
    if reading.caches and TOKENS not in reading.settings:
        return _NO_CONTEXT
    return _NO_SIZE.format("error" if reading.refusal else "log")


def _summed(words: str, printed: list[Printed], number: int) -> Compared:
    first, total = printed[0], sum((one.value for one in printed), Fraction(0))
    rounding = sum((one.rounding for one in printed), Fraction(0))
    agrees = abs(total - number) <= rounding
    return Compared(words, first.shown(total), first.shown(number), agrees, first.line, decides=total > rounding)


def _bytes(model: Model, settings: Settings, tokens: int | None) -> int:
    asked = {name: value for name, value in settings.items() if name != TOKENS}
    asked["version"] = OllamaRelease.nearest(str(asked.get("version", _LAST_WITH_OWN)))
    return sized(Question.of(model, tokens=tokens, engine="ollama", engine_settings=asked)).total_bytes


def ways(model: Model, reading: Reading, settings: Settings, ranks: Parallel) -> Iterator[Way]:
    """Fixes for too little memory: one sequence, a shorter context, a quantised cache."""
    del ranks
    stated = reading.refusal.numbers if reading.refusal else {}
    if not {NEEDED, AVAILABLE} <= stated.keys():
        return
    missing = int(stated[NEEDED].most - stated[AVAILABLE].least)
    parallel = settings.get("num_parallel")
    sequences = parallel if isinstance(parallel, int) and parallel > 0 else 1
    tokens = settings.get(TOKENS)
    context = tokens if isinstance(tokens, int) and tokens > 0 else _own_context(model, settings)
    held = _bytes(model, settings, context)
    found = list(_enough(model, settings, context, sequences, held - missing))
    yield from (Way(flags, f"the cache takes {gibibytes(less)} instead of {gibibytes(held)}") for flags, less in found)
    if not found:
        words = f"{gibibytes(missing)} are missing, but the whole cache takes only {gibibytes(held)}"
        yield Way("a smaller model, or more memory", words)


def _enough(
    model: Model, settings: Settings, context: int, sequences: int, most_bytes: int
) -> Iterator[tuple[str, int]]:
    """Changes with which the cache fits, and its size then."""
    if sequences > 1:
        alone = _bytes(model, {**settings, "num_parallel": 1}, -(-context // sequences))
        if alone <= most_bytes:
            yield "OLLAMA_NUM_PARALLEL=1", alone
    if shorter := _longest_under(model, settings, context, most_bytes):
        yield f"num_ctx {shorter // sequences}", _bytes(model, settings, shorter)
    if settings.get("kv_cache_type") in (None, "f16") and settings.get("flash_attention") is not False:
        for name in ("q8_0", "q4_0"):
            less = _bytes(model, {**settings, "kv_cache_type": name, "flash_attention": True}, context)
            if less <= most_bytes:
                yield f"OLLAMA_FLASH_ATTENTION=1 OLLAMA_KV_CACHE_TYPE={name}", less


def _own_context(model: Model, settings: Settings) -> int:
    asked = {name: value for name, value in settings.items() if name in ("num_parallel", "context_length")}
    return Engine.of("ollama", asked).own_context(model) or _SHORTEST


def _longest_under(model: Model, settings: Settings, context: int, most_bytes: int) -> int:
    """The longest context, in whole steps, whose cache fits; 0 for none."""
    low, high = 0, context // _SHORTEST
    while low < high:
        middle = (low + high + 1) // 2
        if _bytes(model, settings, middle * _SHORTEST) <= most_bytes:
            low = middle
        else:
            high = middle - 1
    return low * _SHORTEST


def room(model: Model, reading: Reading, settings: Settings, ranks: Parallel) -> Room | None:
    """The loaded context: Ollama reports only its total size."""
    del ranks
    tokens = settings.get(TOKENS)
    if reading.load is None or not isinstance(tokens, int):
        return None
    try:
        held = _bytes(model, settings, tokens)
    except KvcalcError:
        return None
    words = f"a context of {plural(tokens, 'token')}, {count(held)} bytes of cache ({gibibytes(held)})"
    return Room(words, 0.0, ((tokens, 1),), tokens)


EXPLAINER = Explainer(compare, others=_OTHERS, ranks={}, undecided=undecided, balance=balance, ways=ways, room=room)
