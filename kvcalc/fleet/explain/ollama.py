"""Ollama: the cells of a context, shared by all its sequences, summed over devices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction

from kvcalc.answers.size import sized
from kvcalc.engines import Engine
from kvcalc.engines.ollama.versions import OllamaRelease
from kvcalc.errors import KvcalcError
from kvcalc.fleet.explain._reading import AVAILABLE, NEEDED, Explainer, Printed, Reading, Settings
from kvcalc.model import Model
from kvcalc.parallel import Parallel
from kvcalc.question import Question
from kvcalc.report.log import Compared, Room, Way
from kvcalc.report.sheet import Json
from kvcalc.units import count, gibibytes, plural

KV, TOKENS = "kv", "tokens"
"""Names of a reading's number, and of its setting for the whole context, which the engine does not have."""
_OTHERS: Mapping[str, tuple[Json, ...]] = {
    "kv_cache_type": ("q8_0", "q4_0"),
    "num_parallel": (1, 2, 4),
    "num_batch": (256, 1024, 2048),
    "flash_attention": (True, False),
}
_UNDECIDED = 'the log does not state the size of the cache: pass the lines with memory.required.kv or msg="kv cache"'
_SHORTEST = 256
_LAST_WITH_OWN = "0.24.0"
"""Lines with the cache's size are from Ollama before 0.30, which had its own engine."""


def compare(model: Model, reading: Reading, settings: Settings, ranks: Parallel) -> tuple[Compared, ...]:
    """The cache next to the sum over devices; with only an error there is nothing to compare."""
    del ranks  # one context, on any number of devices
    printed = [cache[KV] for cache in reading.caches if KV in cache]
    if not printed:
        return ()
    tokens = settings.get(TOKENS)
    predicted = _bytes(model, settings, tokens if isinstance(tokens, int) else None)
    words = "kv cache" if len(printed) == 1 else f"kv cache of {len(printed)} devices"
    return (_summed(words, printed, predicted),)


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


EXPLAINER = Explainer(compare, others=_OTHERS, ranks={}, undecided=_UNDECIDED, ways=ways, room=room)
