"""llama.cpp: K and V of all caches of a context, and states of recurrent layers (R, S)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction

from kvcalc.answers.size import sized
from kvcalc.engines.llama_cpp.versions import LlamaCppRelease
from kvcalc.errors import InvalidValueError, KvcalcError
from kvcalc.fleet.explain._reading import NEEDED, Balance, Explainer, Printed, Reading, Settings
from kvcalc.methods import apply_method
from kvcalc.model import Model
from kvcalc.parallel import Parallel
from kvcalc.question import Question
from kvcalc.report.log import Compared, Room, Way
from kvcalc.report.sheet import Json
from kvcalc.report.size import Report
from kvcalc.units import count, gibibytes, parse_tokens, plural

FREE, WEIGHTS = "free", "weights"
"""Names of the device's numbers in a reading."""
SLOTS = "slots"
"""Name of a load's processing slots."""
_TYPES = ("f16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "iq4_nl", "f32")
_OTHERS: Mapping[str, tuple[Json, ...]] = {
    "type_k": _TYPES,
    "type_v": _TYPES,
    "n_seq_max": (1, 2, 3, 4, 8),
    "swa_full": (True, False),
    "kv_unified": (True, False),
    "n_ubatch": (64, 128, 256, 512, 1024, 2048),
    "flash_attn": ("off",),
    "n_rs_seq": (1, 2, 3),
    "n_ctx": (512, 2048, 4096, 8192, 16384, 32768, 65536, 131072),
}
_UNDECIDED = (
    "the log prints no cache larger than 0.00 MiB, or only a buffer that may be a part of it; pass the complete log, "
    "or one with a longer context"
)
_TENSORS = {
    "K": ("k", "compressed_k", "index_k"),
    "V": ("v", "index_v"),
    "R": ("conv_state", "conv_state_q", "conv_state_k", "conv_state_v", "shift_state"),
    "S": ("recurrent_state", "ssm_state", "wkv_state"),
}
"""Tensors summed under each letter of the log's lines."""
_SUMS = {**_TENSORS, "total": (*_TENSORS["K"], *_TENSORS["V"])}
_EVERY_HEAD = "mla-naive"
_ALIGNED = 32
"""Bytes that the CPU backend added to a buffer, and printed with it, up to late 2024 (TENSOR_ALIGNMENT)."""
_NO_CONTEXT = "the error does not state its context; pass the lines before it (n_ctx), or --engine-set n_ctx=8192"
_STEP, _MOST_CELLS = 256, 2**24
"""Proposed contexts are multiples of this number of cells."""


def compare(model: Model, reading: Reading, settings: Settings, ranks: Parallel) -> tuple[Compared, ...]:
    """K, V, R and S, each summed over all lines, since caches of full and sliding layers have separate lines.

    Raises InvalidValueError if neither the log nor a setting gives n_ctx.
    """
    del ranks  # one process holds the context
    if any(not cache.keys() <= {"R", "S"} for cache in reading.caches) and _n_ctx(settings) is None:
        raise InvalidValueError(
            "context length unknown: the log has no n_ctx",
            field="n_ctx",
            help="pass the complete log, which prints n_ctx before its caches, or --engine-set n_ctx=8192",
        )
    if reading.refusal is not None and not reading.caches:
        if _n_ctx(settings) is None:
            return tuple(_of_own_length(model, reading, settings))
        return tuple(_of_refusal(_report(model, settings), reading))
    report = _report(model, settings)
    found = []
    for letter, names in _SUMS.items():
        printed = [cache[letter] for cache in reading.caches if letter in cache]
        number = sum(t.bytes for group in report.groups for t in group.tensors if t.name in names)
        if printed:
            found.append(_compared(letter, printed, number))
    return tuple(found)


def excuse(model: Model, reading: Reading, settings: Settings, ranks: Parallel) -> str:
    """Note that the file is one of before the keys of latents, of which llama.cpp stores each head's key and value."""
    try:
        whole = apply_method(model, _EVERY_HEAD)
        compared = compare(whole, reading, settings, ranks)
    except KvcalcError:
        return ""
    if not compared or not all(one.agrees for one in compared):
        return ""
    return "the GGUF file is one of before llama.cpp stored latents (2025-04): it holds each head's key and value"


def _report(model: Model, settings: Settings) -> Report:
    """The context of these parameters."""
    tokens, context = _n_ctx(settings), {**settings}
    context.pop("n_ctx", None)
    if tokens is None and model.max_model_len is None:
        raise InvalidValueError(
            "context length unknown: the log has no n_ctx",
            field="n_ctx",
            help="pass the complete log, which prints n_ctx at its beginning",
        )
    if "version" in context:
        context["version"] = LlamaCppRelease.nearest(str(context["version"]))
    return sized(Question.of(model, tokens=tokens, engine="llama_cpp", engine_settings={"defaults": "cli", **context}))


def _n_ctx(settings: Settings) -> int | None:
    """Tokens of the context, also if given by --engine-set."""
    n_ctx = settings.get("n_ctx")
    return parse_tokens(n_ctx, "n_ctx") if isinstance(n_ctx, str | int) else None


def _compared(letter: str, printed: list[Printed], number: int) -> Compared:
    """The number next to the sum of the lines, each rounded separately."""
    first = printed[0]
    total = sum((one.value for one in printed), Fraction(0))
    rounding = sum((one.rounding for one in printed), Fraction(0))
    words = letter if len(printed) == 1 else f"{letter} of {len(printed)} caches"
    agrees = abs(total - number) <= rounding
    return Compared(words, first.shown(total), first.shown(number), agrees, first.line, decides=total > rounding)


def _of_own_length(model: Model, reading: Reading, settings: Settings) -> Iterator[Compared]:
    """How many tokens the buffer of an error would hold, which does not say how long its context was to be."""
    printed = reading.refusal.numbers.get(NEEDED) if reading.refusal else None
    if printed is None:
        return
    tokens = _n_ctx(_with_length(model, reading, settings)) or 0
    words = f"holds {plural(tokens, 'token')}"
    yield Compared("buffer of the cache", str(printed), words, True, printed.line, decides=False, judged=False)


def _with_length(model: Model, reading: Reading, settings: Settings) -> Settings:
    """With the context that the buffer of an error would hold, if the error does not state it."""
    printed = reading.refusal.numbers.get(NEEDED) if reading.refusal else None
    if printed is None or _n_ctx(settings) is not None:
        return settings
    tokens = _longest_in(model, settings, int(printed.most), _MOST_CELLS)
    return {**settings, "n_ctx": tokens} if tokens else settings


def _longest_in(model: Model, settings: Settings, most_bytes: int, most_tokens: int) -> int:
    """The longest context, in whole steps, whose cache fits; 0 for none."""
    low, high = 0, most_tokens // _STEP
    while low < high:
        middle = (low + high + 1) // 2
        held = _total(model, {**settings, "n_ctx": middle * _STEP})
        low, high = (middle, high) if held is not None and held <= most_bytes else (low, middle - 1)
    return low * _STEP


def _undecided(reading: Reading) -> str:
    return _UNDECIDED if reading.caches or "n_ctx" in reading.settings else _NO_CONTEXT


def _of_refusal(report: Report, reading: Reading) -> Iterator[Compared]:
    """The buffer that could not be allocated next to the cache: all of it, that of one kind of layers, or a part.

    Devices share layers, and some drivers split a buffer: a smaller one is no evidence, a larger one is not the cache.
    """
    assert reading.refusal is not None
    printed = reading.refusal.numbers.get(NEEDED)
    if printed is None:
        return
    kinds = [group.bytes for group in report.groups]
    whole = next((number for number in (report.total_bytes, *kinds) if printed.is_print_of(number)), None)
    if whole is None and not printed.unit and printed.is_print_of(report.total_bytes + _ALIGNED):
        words = f"{report.total_bytes:,} + {_ALIGNED} to align it"
        yield Compared("buffer of the cache", str(printed), words, agrees=True, line=printed.line)
    elif whole is not None or printed.value > report.total_bytes:
        yield printed.compared("buffer of the cache", whole or report.total_bytes)
    else:
        words = f"a part of {printed.shown(report.total_bytes)}"
        yield Compared("buffer of the cache", str(printed), words, agrees=True, line=printed.line, decides=False)


def ways(model: Model, reading: Reading, settings: Settings, ranks: Parallel) -> Iterator[Way]:
    """Fixes for a failed allocation: fewer sequences, a shorter context, a quantised cache."""
    del ranks
    if reading.refusal is None:
        return
    settings = _with_length(model, reading, settings)
    needed = _total(model, settings)
    if needed is None:
        return
    available = _available(reading)
    for flags, change in (("-np 1", {"n_seq_max": 1}), ("-ub 512", {"n_ubatch": 512})):
        less = _total(model, {**settings, **change})
        if less is not None and less < needed and (available is None or less <= available):
            yield Way(flags, f"the cache takes {gibibytes(less)} instead of {gibibytes(needed)}")
    yield from _shorter(model, settings, needed, available)
    if settings.get("type_k", "f16") == "f16":
        less = _total(model, {**settings, "type_k": "q8_0", "type_v": "q8_0"})
        if less is not None and less < needed:
            fits = "" if available is None else ", which fits" if less <= available else ", still too much"
            yield Way("-ctk q8_0 -ctv q8_0 -fa on", f"the cache takes {gibibytes(less)}{fits}")
    yield Way("-nkvo", f"the cache stays in the host's memory, {gibibytes(needed)} of it, and is slower")


def _available(reading: Reading) -> int | None:
    """What the one device had free, minus its weights; None if either is unknown."""
    if not {FREE, WEIGHTS} <= reading.device.keys():
        return None
    return reading.device[FREE].least - reading.device[WEIGHTS].most


def balance(model: Model, reading: Reading, settings: Settings, ranks: Parallel) -> Balance:
    """The cache of the context, and what its device had for it."""
    del ranks
    settings = _with_length(model, reading, settings)
    needed, available, n_ctx = _total(model, settings), _available(reading), _n_ctx(settings) or model.max_model_len
    return Balance(
        "" if needed is None or n_ctx is None else f"{gibibytes(needed)} for {plural(n_ctx, 'token')}",
        "" if available is None else f"{gibibytes(available)} after the weights",
    )


def _shorter(model: Model, settings: Settings, needed: int, available: int | None) -> Iterator[Way]:
    """The longest context that fits, or half of it if the free memory is unknown."""
    n_ctx = _n_ctx(settings) or model.max_model_len
    if n_ctx is None:
        return
    if available is None:
        half = max(_STEP, n_ctx // 2 // _STEP * _STEP)
        less = _total(model, {**settings, "n_ctx": half})
        if less is not None and less < needed:
            yield Way(
                f"-c {half}", f"half the context: the cache takes {gibibytes(less)} instead of {gibibytes(needed)}"
            )
        return
    if longest := _longest_in(model, settings, available, n_ctx):
        yield Way(f"-c {longest}", f"the longest context in {gibibytes(available)}, minus compute buffers")


def _total(model: Model, settings: Settings) -> int | None:
    try:
        return _report(model, settings).total_bytes
    except KvcalcError:
        return None


def _size_of_slots(model: Model, settings: Settings, unified: str, of_all: int) -> str:
    """The cache in words; of a server that does not say whether slots share one context, of both."""
    if unified:
        held = _total(model, settings)
        return "" if held is None else f"; the cache takes {count(held)} bytes ({gibibytes(held)})"
    shared = _total(model, {**settings, "kv_unified": "true"})
    apart = _total(model, {**settings, "kv_unified": "false", "n_ctx": of_all})
    if shared is None or apart is None:
        return ""
    return f"; the cache takes {gibibytes(shared)} if they share one context, {gibibytes(apart)} if not"


def room(model: Model, reading: Reading, settings: Settings, ranks: Parallel) -> Room | None:
    """Free slots of llama-server, each with its share of the context."""
    del ranks
    slots, n_ctx = settings.get("n_seq_max"), _n_ctx(settings)
    if reading.load is None or not isinstance(slots, int) or n_ctx is None:
        return None
    taken = min(reading.load.running or 0, slots)
    unified = str(settings.get("kv_unified", "true" if slots == 1 else "")).lower()
    each = n_ctx // slots if unified == "false" else n_ctx
    size = _size_of_slots(model, settings, unified, n_ctx * slots)
    words = f"{taken:,} of {plural(slots, 'slot')} of {plural(each, 'token')}{size}"
    free = slots - taken
    return Room(words, taken / slots, ((each, free),) if free else (), each if free else 0)


EXPLAINER = Explainer(
    compare, others=_OTHERS, ranks={}, undecided=_undecided, ways=ways, room=room, balance=balance, excuse=excuse
)
