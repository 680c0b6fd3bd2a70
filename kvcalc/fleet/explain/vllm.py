"""vLLM: tokens and concurrency of the blocks that fit in the memory left for the cache.

The memory is printed with two decimals, so several numbers of blocks are possible; one of them has to give every other
number of the log. A log without the memory is no evidence by itself: some number of blocks nearly always gives its
tokens. The memory is then derived from the weights, if given. Up to 0.20.0 vLLM printed blocks // groups * block_size
tokens, and up to 0.7 the blocks themselves.

An error states what a request needs, what is available, and the longest length that fits; the first and the last are
predicted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from math import ceil
from typing import NamedTuple

from kvcalc.cache.dtypes import BF16
from kvcalc.engines import Engine
from kvcalc.engines.vllm.plan import VllmPlan
from kvcalc.engines.vllm.run import longest_by_config
from kvcalc.engines.vllm.versions import VllmRelease
from kvcalc.errors import InvalidValueError, KvcalcError, NotApplicableError
from kvcalc.fleet.explain._reading import (
    AVAILABLE,
    LENGTH,
    LONGEST,
    NEEDED,
    STORED,
    Alone,
    Balance,
    Explainer,
    Printed,
    Reading,
    Settings,
    stated_balance,
)
from kvcalc.fleet.memory import memory_of
from kvcalc.hardware import gpu_named
from kvcalc.model import Model
from kvcalc.parallel import Parallel
from kvcalc.report.fit import FitReport
from kvcalc.report.log import Compared, Room, Way
from kvcalc.report.sheet import Json
from kvcalc.units import GIB, TIB, count, gibibytes, plural, shown

_VERSION, _MEMORY_BYTES, _OVERRIDE = "version", "kv_cache_memory_bytes", "num_gpu_blocks_override"
MEMORY, REQUESTS = "memory", "requests at a time"
"""Names of numbers in a reading other than blocks and tokens."""
BEFORE_OVERRIDE, LONGEST_FITTED = "blocks of the memory", "longest request"
"""Blocks from the memory, if a setting overrode them; the value that max_model_len=-1 became."""
FREE, TOTAL, SWAP = "free", "total", "swap"
"""Names of the device's numbers in a reading, and of the host memory that V0 swapped to."""
HOST_BLOCKS, SHARE = "host blocks", "utilisation"
"""Blocks of V0 in that host memory; the share of a GPU's memory that an error states."""
USED_BLOCKS = "blocks"
"""Name of a load's used blocks."""
_OTHERS: Mapping[str, tuple[Json, ...]] = {
    "kv_cache_dtype": ("fp8", "bfloat16", "float16"),
    "block_size": (32, 64, 128),
    "gpu": ("cpu", "a100-80gb", "rtx-3090", "rtx-4090", "h100-80gb", "b200"),
    "max_num_batched_tokens": (2048, 4096, 8192, 16_384),
    "speculative": tuple({"method": "mtp", "num_speculative_tokens": number} for number in (1, 2, 3)),
    "mamba_ssm_cache_dtype": ("float16", "float32"),
    "enable_prefix_caching": (False, True),
    "async_scheduling": (False,),
    "disable_hybrid_kv_cache_manager": (True,),
    "max_model_len": (2048, 4096, 8192, 16_384, 32_768, 65_536, 131_072, 262_144),
}
_OF_WEIGHTS = {"gpu_memory_utilization": (0.8, 0.85, 0.9, 0.92, 0.95, 0.98)}
_RANKS = {"tp": (1, 2, 4, 8), "pp": (2, 4), "dcp": (2, 4, 8)}
_GIVEN = (MEMORY,)
_NO_MEMORY = (
    "the log does not state its memory, so some number of blocks always gives its tokens; pass --gpu and --weights "
    "(and --reserve for other memory), or include the line 'Available KV cache memory'"
)
_NO_TOKENS = "the log states its memory and no tokens; include the line 'GPU KV cache size: ... tokens'"
_NO_SIZES = "the error does not depend on the model's shape, so nothing in it can be checked"
_SWAP_GIB = 4
"""swap_space of V0, unless set."""
_RESULTS = ("tokens", "blocks", REQUESTS)
_ANY_MEMORY = TIB
_MOST_BESIDE = 10_000
"""Numbers of blocks tried on either side."""
_MOST_APART = 2 * GIB
"""Observed differences between ranks of one start-up in the memory left to them."""
_MOST_UTILIZATION = 0.97
"""Share of a GPU's memory above which no memory is left for its driver."""
_SHORTEST_BATCH = 2048
_JUDGED_DRAFTS = ("mtp", "ngram", "ngram_gpu", "suffix")
"""Speculative methods that draft with the model's own layers, or with none."""
_ASKED_LENGTHS = (1024, 8192, 32_768, 131_072)


class _Line(NamedTuple):
    """The log lines for a number of blocks."""

    blocks: int
    tokens: int
    concurrency: float
    longest: int


class _Memory(NamedTuple):
    """Bytes left for the cache: bounds, which are equal if known exactly."""

    least: int
    most: int


def compare(model: Model, reading: Reading, settings: Settings, ranks: Parallel) -> tuple[Compared, ...]:
    """The numbers of the log next to those of the nearest number of blocks, or of its error."""
    asked = _asked(settings)
    _check_drafts(model, asked)
    if reading.refusal is not None:
        return tuple(_of_refusal(model, reading, asked, ranks))
    numbers = reading.numbers()
    left_bytes = _left_by_weights(reading, asked, ranks)
    memory = _memory_of(numbers, settings, left_bytes)
    of_host = [_of_host(model, numbers[HOST_BLOCKS], reading, asked, ranks)] if HOST_BLOCKS in numbers else []
    if MEMORY in numbers and numbers[MEMORY].value < 0:
        return (*_of_nothing(numbers), *of_host)
    if not any(name in numbers for name in _RESULTS):
        return tuple(_of_memory_alone(model, numbers, memory, asked, ranks))
    found = []
    if (length := _unstated_length(model, memory, asked, ranks)) is not None:
        asked["max_model_len"] = length
        found.append(_not_judged("max_model_len", f"{length:,}, the longest that starts"))
    if MEMORY in numbers and left_bytes is not None:
        found.append(numbers[MEMORY].compared("left by the weights", left_bytes))
    if BEFORE_OVERRIDE in numbers and memory is not None:
        found.append(_before_override(model, numbers[BEFORE_OVERRIDE], memory, asked, ranks))
    return (*found, *_of_blocks(model, numbers, memory, asked, ranks), *of_host)


def _of_blocks(
    model: Model, numbers: Mapping[str, Printed], memory: _Memory | None, settings: Settings, ranks: Parallel
) -> Iterator[Compared]:
    """Blocks, tokens and concurrency next to those of the number of blocks that agrees with most of them."""
    lines = _lines(model, numbers, memory, settings, ranks)
    best = max(lines, key=lambda line: (sum(_agreements(line, numbers)), -abs(_off(line, numbers))))
    decides = memory is not None and _OVERRIDE not in settings
    for what, number in (("blocks", best.blocks), ("tokens", best.tokens), (LONGEST_FITTED, best.longest)):
        if what in numbers:
            yield numbers[what].compared(what, number, decides=decides)
    if REQUESTS in numbers:
        printed = numbers[REQUESTS]
        equal, words = _prints_as(best.concurrency, printed), _as_printed(best.concurrency, printed)
        yield Compared(REQUESTS, str(printed), words, equal, printed.line, decides)


def _not_judged(what: str, predicted: str, logged: str = "not stated", line: int = 0) -> Compared:
    return Compared(what, logged, predicted, agrees=True, line=line, decides=False, judged=False)


def _of_memory_alone(
    model: Model, numbers: Mapping[str, Printed], memory: _Memory | None, settings: Settings, ranks: Parallel
) -> Iterator[Compared]:
    """What the memory of a log will hold, where it ends before vLLM says so."""
    if memory is None:
        return
    held = int(numbers[MEMORY].value) if MEMORY in numbers else memory.least
    report = _plan(model, settings, ranks).fit((held,) * ranks.pp)
    line = numbers[MEMORY].line if MEMORY in numbers else 0
    yield _not_judged("tokens", f"about {report.tokens:,}", f"in {numbers.get(MEMORY, gibibytes(memory.least))}", line)


def _unstated_length(model: Model, memory: _Memory | None, settings: Settings, ranks: Parallel) -> int | None:
    """The longest request that starts, where a log does not state max_model_len and the model's own would not start."""
    if memory is None or settings.get("max_model_len") is not None or settings.get(_OVERRIDE) is not None:
        return None
    plan = _plan(model, settings, ranks)
    usable_bytes = plan.usable_bytes(memory.least)
    if plan.max_model_len is None or plan.checked_bytes() <= usable_bytes:
        return None
    longest = plan.longest_in(usable_bytes)
    return longest if 0 < longest < plan.max_model_len else None


def _of_host(model: Model, printed: Printed, reading: Reading, settings: Settings, ranks: Parallel) -> Compared:
    """Blocks of V0 in host memory: swap_space // bytes of a block; no evidence if another swap_space may be why."""
    swap = reading.device.get(SWAP)
    swap_bytes = _SWAP_GIB * GIB if swap is None else int(swap.value)
    number = swap_bytes // max(_plan(model, settings, ranks).block_bytes)
    words = f"blocks in {gibibytes(swap_bytes)} of the host"
    if swap is None and not printed.is_print_of(number):
        return _not_judged(words, f"{number:,}, if swap_space is {_SWAP_GIB}", str(printed), printed.line)
    return printed.compared(words, number)


def _asked(settings: Settings) -> dict[str, Json]:
    """Settings for the planner: its nearest version, and no memory, which is passed separately."""
    version = str(settings.get(_VERSION, VllmRelease.newest()))
    found = {**settings, _VERSION: VllmRelease.nearest(version)}
    found.pop(_MEMORY_BYTES, None)
    return found


def _check_drafts(model: Model, settings: Settings) -> None:
    """Raises InvalidValueError for drafts of another model, whose layers share the cache, if it is unknown."""
    if model.drafter is not None:
        return
    speculative = settings.get("speculative")
    method = str(speculative.get("method", "mtp")) if isinstance(speculative, Mapping) else "mtp"
    if method not in _JUDGED_DRAFTS and not method.endswith("_mtp"):
        raise InvalidValueError(
            f"the log's server drafts with {shown(method)}: layers of another model share its cache, and the log does "
            "not describe them",
            field="speculative",
            help="name the model that drafts: --draft-model path/to/config.json",
        )


def _plan(model: Model, settings: Settings, ranks: Parallel) -> VllmPlan:
    """The plan of an engine that did start: a length beyond the config's was allowed, or stretched."""
    asked, longest = settings.get("max_model_len"), longest_by_config(model)
    if isinstance(asked, int) and longest is not None and asked > longest:
        model = replace(model, published=model.published._replace(longest_tokens=asked, rope_factor=1))
    plan = Engine.of("vllm", dict(settings)).plan(model, BF16, ranks)  # type: ignore[attr-defined]
    assert isinstance(plan, VllmPlan)
    return plan


def _memory_of(numbers: Mapping[str, Printed], settings: Settings, left_bytes: int | None) -> _Memory | None:
    """Memory left for the cache: fixed by a setting, printed, or derived from the weights."""
    fixed = settings.get(_MEMORY_BYTES)
    if isinstance(fixed, int) and not isinstance(fixed, bool):
        return _Memory(fixed, fixed)
    if MEMORY in numbers:
        return _Memory(numbers[MEMORY].least, numbers[MEMORY].most)
    return None if left_bytes is None else _Memory(left_bytes, left_bytes)


def _left_by_weights(reading: Reading, settings: Settings, ranks: Parallel) -> int | None:
    """Bytes left for the cache after the weights, which all ranks share, if given."""
    if reading.weights_bytes is None:
        return None
    if "gpu" not in settings:
        raise InvalidValueError(
            "GPU unknown: --weights needs its memory", field="gpu", help="add its name: --gpu h100-80gb"
        )
    engine = Engine.of("vllm", settings)
    gpu, weights_bytes = gpu_named(str(settings["gpu"])), -(-reading.weights_bytes // (ranks.tp * ranks.pp))
    return max(0, memory_of(engine, gpu, weights_bytes, reading.reserve_bytes).cache_bytes)


# Numbers of a cache -------------------------------------------------------------------------------------------------


def _lines(  # what is printed, and what is asked
    model: Model, numbers: Mapping[str, Printed], memory: _Memory | None, settings: Settings, ranks: Parallel
) -> list[_Line]:
    """The log lines of each possible number of blocks. Raises NotApplicableError if none starts."""
    plan = _plan(model, settings, ranks)
    if memory is None or plan.num_blocks is not None:
        report = plan.fit((_ANY_MEMORY,) * ranks.pp)
        fixed = plan.num_blocks
        blocks = _blocks_printed_as(numbers, report) if fixed is None else range(fixed, fixed + 1)
        return [_line_of(report, number) for number in blocks]
    report = plan.fit((memory.most,) * ranks.pp)  # the upper end starts if any does
    blocks = range(plan.blocks_in(memory.least), report.num_blocks + 1)
    if "blocks" in numbers:
        nearest = min(max(int(numbers["blocks"].value), blocks[0]), blocks[-1])
        blocks = range(nearest, nearest + 1)
    if settings.get("max_model_len") != -1:
        least = min(report.request_blocks, report.num_blocks)
        return [_line_of(report, number) for number in blocks if number >= least]
    return list(_fitted(plan, blocks, memory, ranks))


def _line_of(report: FitReport, blocks: int) -> _Line:
    line = report._replace(num_blocks=blocks)
    return _Line(blocks, line.tokens, line.max_concurrency, line.max_model_len)


def _fitted(plan: VllmPlan, blocks: range, memory: _Memory, ranks: Parallel) -> Iterator[_Line]:
    """The lines if the longest request also follows from the memory."""
    for number in blocks[-_MOST_BESIDE:]:
        available = min(max(memory.least, number * max(plan.block_bytes)), memory.most)
        try:
            yield _line_of(plan.fit((available,) * ranks.pp), number)
        except NotApplicableError:
            continue  # too little, so impossible


def _before_override(model: Model, printed: Printed, memory: _Memory, settings: Settings, ranks: Parallel) -> Compared:
    """Blocks from the memory next to those set by an override."""
    plan = _plan(model, {**settings, _OVERRIDE: None}, ranks)
    least, most = plan.blocks_in(memory.least), plan.blocks_in(memory.most)
    return printed.compared(BEFORE_OVERRIDE, min(max(int(printed.value), least), most))


def _blocks_printed_as(numbers: Mapping[str, Printed], report: FitReport) -> range:
    """Candidate numbers of blocks if the log does not state its memory.

    tokens * blocks of a request / its length, or tokens // block_size * groups, and its neighbours because of rounding.
    """
    if "blocks" in numbers:
        given = int(numbers["blocks"].value)
        return range(given, given + 1)
    groups = len(report.groups)
    if "tokens" not in numbers:
        about = int(numbers[REQUESTS].value * report.request_blocks)
        beside = int(numbers[REQUESTS].rounding * report.request_blocks) + 1
    elif report.counted_block_size:
        about = int(numbers["tokens"].value) // report.counted_block_size * groups
        beside = groups
    else:
        about = int(numbers["tokens"].value * report.request_blocks / report.max_model_len)
        beside = report.request_blocks // report.max_model_len + 1
    beside = min(beside, _MOST_BESIDE)
    return range(max(1, about - beside), about + beside + 1)


def _agreements(line: _Line, numbers: Mapping[str, Printed]) -> Iterator[bool]:
    """Whether each number of the log equals this line's."""
    for what, number in (("blocks", line.blocks), ("tokens", line.tokens), (LONGEST_FITTED, line.longest)):
        if what in numbers:
            yield numbers[what].is_print_of(number)
    if REQUESTS in numbers:
        yield _prints_as(line.concurrency, numbers[REQUESTS])


def _off(line: _Line, numbers: Mapping[str, Printed]) -> int:
    return line.tokens - int(numbers["tokens"].value) if "tokens" in numbers else 0


def _prints_as(concurrency: float, printed: Printed) -> bool:
    """Whether the engine's float is printed like this, in as many digits."""
    return _as_printed(concurrency, printed) == _as_printed(float(printed.text), printed)


def _as_printed(concurrency: float, printed: Printed) -> str:
    return f"{concurrency:.{len(printed.text.partition('.')[2])}f}"


def excuse(model: Model, reading: Reading, settings: Settings, ranks: Parallel) -> str:
    """Note that another rank had less memory: not all ranks stated theirs, and fewer blocks give all numbers."""
    numbers, memory = reading.numbers(), _memory_of(reading.numbers(), settings, None)
    unheard = ranks.tp * ranks.pp - reading.heard
    if MEMORY not in numbers or memory is None or reading.heard < 1 or unheard < 1:
        return ""
    plan = _plan(model, _asked(settings), ranks)
    block_bytes = max(plan.block_bytes)
    for blocks in _blocks_of_least(model, plan, reading, settings, ranks):
        had_bytes = blocks * block_bytes
        if 0 < memory.most - had_bytes < _MOST_APART:
            stated = "one memory line was" if reading.heard == 1 else f"{reading.heard} memory lines were"
            return (
                f"another rank had {gibibytes(had_bytes)} ({plural(blocks, 'block')} x {count(block_bytes)} B), "
                f"and the smallest decides; {stated} printed for {ranks.tp * ranks.pp} ranks"
            )
    return ""


def _blocks_of_least(
    model: Model, plan: VllmPlan, reading: Reading, settings: Settings, ranks: Parallel
) -> Iterator[int]:
    """Numbers of blocks that give all numbers of the log, or the tokens that its error states."""
    asked, stated = reading.numbers(), reading.refusal.numbers if reading.refusal else {}
    asked.pop(MEMORY)
    if STORED in stated:
        yield int(stated[STORED].value) // plan.block_size
    elif any(name in asked for name in _RESULTS):
        lines = _lines(model, asked, None, _asked(settings), ranks)
        yield from (line.blocks for line in lines if all(_agreements(line, asked)))


# Errors -------------------------------------------------------------------------------------------------------------


def _of_refusal(model: Model, reading: Reading, settings: Settings, ranks: Parallel) -> Iterator[Compared]:
    """What an error states next to the planner's values for such a request."""
    assert reading.refusal is not None
    stated = reading.refusal.numbers
    if STORED in stated:
        yield from _of_stored(model, stated[STORED], reading, settings, ranks)
    elif LENGTH in stated:
        plan = _plan(model, settings, ranks)
        yield stated[NEEDED].compared(f"needed for {count(int(stated[LENGTH].value))} tokens", plan.checked_bytes())
        if LONGEST in stated:
            yield _of_longest(plan, stated)
    elif NEEDED in stated:
        yield from _of_taken(reading)
    else:
        yield from _of_nothing(reading.numbers())


def _of_taken(reading: Reading) -> Iterator[Compared]:
    """The share of the GPU's memory next to that of its total, which is rounded, too."""
    stated, total = reading.refusal.numbers if reading.refusal else {}, reading.device.get(TOTAL)
    if SHARE not in stated or total is None:
        return
    share, needed = stated[SHARE].value, stated[NEEDED]
    least, most = ((total.value + side * total.rounding) * share for side in (-1, 1))
    yield needed.compared(f"{stated[SHARE]} of {total}", min(max(needed.value, least), most))


def _of_nothing(numbers: Mapping[str, Printed]) -> Iterator[Compared]:
    """No memory, or no block: the error follows from the line alone."""
    for name in (MEMORY, "blocks"):
        if name in numbers and numbers[name].value <= 0:
            yield Compared(name, str(numbers[name]), "more than 0 needed", agrees=True, line=numbers[name].line)


def _of_longest(plan: VllmPlan, stated: Mapping[str, Printed]) -> Compared:
    """The longest request in the memory: between those of the bounds of the printed value."""
    printed, available = stated[LONGEST], stated[AVAILABLE]
    least, most = plan.longest_in(available.least), plan.longest_in(available.most)
    nearest = min(max(int(printed.value), least), most)
    return printed.compared(f"longest in {available}", nearest)


def _of_stored(
    model: Model, stored: Printed, reading: Reading, settings: Settings, ranks: Parallel
) -> Iterator[Compared]:
    """Tokens of the whole cache (V0): blocks times their bytes; the memory decides, if it is stated."""
    plan = _plan(model, settings, ranks)
    memory = _memory_of(reading.numbers(), settings, _left_by_weights(reading, settings, ranks))
    blocks = int(stored.value) // plan.block_size
    if memory is None:
        held = blocks * max(plan.block_bytes)
        each = held // max(int(stored.value), 1)
        words = f"{plural(blocks, 'block')} of {plan.block_size}: {gibibytes(held)} at {count(each)} B/token"
        yield Compared("tokens stored", str(stored), words, agrees=True, line=stored.line, decides=False)
        return
    least, most = plan.blocks_in(memory.least), plan.blocks_in(memory.most)
    yield stored.compared("tokens stored", min(max(blocks, least), most) * plan.block_size)


def _usable(plan: VllmPlan, reading: Reading) -> int | None:
    """Lower bound of the bytes available in the start-up check; None if unknown."""
    assert reading.refusal is not None
    stated, numbers = reading.refusal.numbers, reading.numbers()
    if STORED in stated:
        return int(stated[STORED].value) // plan.block_size * max(plan.block_bytes)
    if AVAILABLE in stated and LENGTH in stated:
        return max(stated[AVAILABLE].least, _held_by(plan, stated))
    if MEMORY in numbers and numbers[MEMORY].value < 0:
        return int(numbers[MEMORY].value)
    return plan.usable_bytes(numbers[MEMORY].least) if MEMORY in numbers else None


def _held_by(plan: VllmPlan, stated: Mapping[str, Printed]) -> int:
    """Bytes that must have been available, since they hold the longest request named by the error; 0 for none."""
    if LONGEST not in stated:
        return 0
    held = plan.checked_bytes(int(stated[LONGEST].value))
    return held if held <= stated[AVAILABLE].most else 0


def ways(model: Model, reading: Reading, settings: Settings, ranks: Parallel) -> Iterator[Way]:
    """Fixes for an error, or ways to more capacity: free ones first, then those that cost users, then GPUs."""
    asked = _asked(settings)
    try:
        plan = _plan(model, asked, ranks)
    except KvcalcError:
        return
    if reading.refusal is not None:
        yield from _ways_out(model, plan, reading, asked, ranks)
    elif reading.load is not None:
        yield from _ways_up(model, reading, settings, ranks)


def _ways_out(model: Model, plan: VllmPlan, reading: Reading, settings: Settings, ranks: Parallel) -> Iterator[Way]:
    assert reading.refusal is not None
    if NEEDED in reading.refusal.numbers and LENGTH not in reading.refusal.numbers:
        yield from _less_of_the_device(reading)
        return
    usable = _usable(plan, reading)
    needed, length = plan.checked_bytes(), plan.max_model_len
    if length is None:
        return
    if usable is None or usable <= 0:
        missing = f", beyond the missing {gibibytes(-usable)}" if usable else ""
        words = f"a request of {plural(length, 'token')} needs {gibibytes(needed)} on each GPU{missing}"
        yield _higher_share(reading, settings, needed - (usable or 0)) or Way("more memory", words)
        usable = 0
    elif (higher := _higher_share(reading, settings, needed - usable)) is not None:
        yield higher
    yield from _smaller_batch(model, settings, ranks, usable)
    if longest := plan.longest_in(usable):
        yield Way(f"--max-model-len {longest}", f"the longest request in {gibibytes(usable)}")
    yield from _in_fp8(model, plan, settings, ranks, usable)
    yield from _on_more_gpus(model, settings, ranks, needed, usable)


def _less_of_the_device(reading: Reading) -> Iterator[Way]:
    """The free share, if other programs hold memory of the device."""
    if {FREE, TOTAL} <= reading.device.keys() and reading.device[TOTAL].least:
        share = int(reading.device[FREE].least * 100 // reading.device[TOTAL].most) / 100
        yield Way(f"--gpu-memory-utilization {share:g}", f"uses what is free of {reading.device[TOTAL]}")
        missing = reading.device[TOTAL].most - reading.device[FREE].least
        yield Way("stop other processes on the GPU", f"they hold up to {gibibytes(missing)}")


def alone(reading: Reading) -> Alone | None:
    """The error that other programs hold the memory, which no model changes."""
    stated = reading.refusal.numbers if reading.refusal else {}
    if NEEDED not in stated or LENGTH in stated:
        return None
    return Alone(tuple(_of_taken(reading)), tuple(_less_of_the_device(reading)))


def unnamed(reading: Reading) -> tuple[Way, ...]:
    """Fixes by the numbers of an error alone, if they are about a request of max_model_len."""
    stated = reading.refusal.numbers if reading.refusal else {}
    if not {NEEDED, AVAILABLE, LENGTH} <= stated.keys() or not stated[AVAILABLE].most:
        return ()
    needed, available, length = stated[NEEDED], stated[AVAILABLE], int(stated[LENGTH].value)
    longest, by = length * available.least // needed.most, "if every layer grows with the length"
    if LONGEST in stated:
        longest, by = int(stated[LONGEST].value), "vLLM's own estimate"
    half = gibibytes(int(needed.value) // 2)
    found = [Way(f"--max-model-len {longest}", f"the longest request in {available}, {by}")] if longest else []
    if needed.most <= 2 * available.least:
        found.append(Way("--kv-cache-dtype fp8", f"a request needs about {half}, if the cache has 16 bits"))
    found.append(Way("--tensor-parallel-size 2", f"about {half} on each GPU if KV heads divide, and more memory"))
    return tuple(found)


def balance(model: Model, reading: Reading, settings: Settings, ranks: Parallel) -> Balance:
    """What the error states, else what a request of max_model_len needs, and what there was."""
    stated = reading.refusal.numbers if reading.refusal else {}
    if NEEDED in stated:
        return stated_balance(reading)
    plan = _plan(model, _asked(settings), ranks)
    usable, length = _usable(plan, reading), plan.max_model_len
    needed = f"{gibibytes(plan.checked_bytes())} for {length:,} tokens" if length else ""
    if STORED in stated:
        return Balance(needed, f"{gibibytes(usable or 0)}, which holds {int(stated[STORED].value):,} tokens")
    memory = reading.numbers().get(MEMORY)
    return Balance(needed, "no memory" if memory is None else str(memory))


def undecided(reading: Reading) -> str:
    """What a log lacks."""
    numbers = reading.numbers()
    if reading.refusal is not None and not reading.refusal.numbers:
        return _NO_SIZES
    return _NO_TOKENS if MEMORY in numbers and not any(name in numbers for name in _RESULTS) else _NO_MEMORY


def _higher_share(reading: Reading, settings: Settings, missing_bytes: int) -> Way | None:
    """The share of the GPU's memory that adds what is missing; None if unknown or too large."""
    if TOTAL in reading.device:
        total_bytes = reading.device[TOTAL].least
    elif (name := settings.get("gpu")) and name != "cpu":
        total_bytes = gpu_named(str(name)).memory_bytes
    else:
        return None
    share = Engine.of("vllm", dict(settings)).gpu_memory_utilization  # type: ignore[attr-defined]
    raised = ceil((share + missing_bytes / total_bytes) * 100) / 100
    if not total_bytes or raised > _MOST_UTILIZATION:
        return None
    return Way(
        f"--gpu-memory-utilization {raised:g}",
        f"{gibibytes(missing_bytes)} more than {share:g} of {gibibytes(total_bytes)}, if nothing else needs it",
    )


def _smaller_batch(model: Model, settings: Settings, ranks: Parallel, usable: int) -> Iterator[Way]:
    """A batch of fewer tokens, which windows hold in addition, if that suffices."""
    batched = settings.get("max_num_batched_tokens")
    tokens = batched if isinstance(batched, int) else 16_384
    while (tokens := tokens // 2) >= _SHORTEST_BATCH:
        needed = _needed(model, {**settings, "max_num_batched_tokens": tokens}, ranks)
        if needed is not None and needed <= usable:
            yield Way(f"--max-num-batched-tokens {tokens}", f"windows need less: {gibibytes(needed)} in total")
            return


def _in_fp8(model: Model, plan: VllmPlan, settings: Settings, ranks: Parallel, usable: int) -> Iterator[Way]:
    """The cache in fp8, if smaller: at full length, or at a longer one than without."""
    changed = {**settings, "kv_cache_dtype": "fp8"}
    needed = _needed(model, changed, ranks)
    if needed is None or needed >= plan.checked_bytes():
        return
    if needed <= usable or not usable:
        yield Way("--kv-cache-dtype fp8", f"the same request needs {gibibytes(needed)}")
    elif (longest := _plan(model, changed, ranks).longest_in(usable)) > plan.longest_in(usable):
        yield Way(
            f"--kv-cache-dtype fp8 --max-model-len {longest}", f"the longest request in {gibibytes(usable)} in fp8"
        )


def _on_more_gpus(model: Model, settings: Settings, ranks: Parallel, needed: int, usable: int) -> Iterator[Way]:
    """The smallest multiple of tensor-parallel ranks on which it fits, even if weights leave no more memory on each."""
    for times in (2, 4, 8):
        tp = ranks.tp * times
        each = _needed(model, settings, replace(ranks, tp=tp))
        if each is None or each >= needed:
            return
        if each <= usable or not usable:
            words = f"a request needs {gibibytes(each)} on each GPU, and weights leave more memory"
            yield Way(f"--tensor-parallel-size {tp}", words)
            return


def _needed(model: Model, settings: Settings, ranks: Parallel) -> int | None:
    """Bytes that a request of max_model_len needs on a rank; None if vLLM refuses these settings."""
    try:
        return _plan(model, settings, ranks).checked_bytes()
    except KvcalcError:
        return None


# A running server ---------------------------------------------------------------------------------------------------


def room(model: Model, reading: Reading, settings: Settings, ranks: Parallel) -> Room | None:
    """Blocks in use, and the additional requests that fit, excluding the block that is never given out."""
    numbers = reading.numbers()
    if reading.load is None or "blocks" not in numbers:
        return None
    plan = _plan(model, _asked(settings), ranks)
    usable = int(numbers["blocks"].value) - plan.spare_blocks
    used = reading.load.used.get(USED_BLOCKS)
    taken = min(max(round(usable * float(used.value)), 0), usable) if used else 0
    free, most = usable - taken, plan.max_model_len or 0
    lengths = [*(length for length in _ASKED_LENGTHS if length < most), *([most] if most else [])]
    further = [(length, free // plan.request_blocks(length)) for length in lengths]
    longest = plan.max_tokens(1, (free + plan.spare_blocks) * max(plan.block_bytes)) or 0
    waiting = f", {reading.load.waiting:,} waiting" if reading.load.waiting else ""
    running = "" if reading.load.running is None else f"; {plural(reading.load.running, 'request')} running{waiting}"
    words = f"{taken:,} of {plural(usable, 'block')} ({taken / max(usable, 1):.1%}){running}"
    return Room(words, taken / max(usable, 1), tuple(each for each in further if each[1]), longest)


def _ways_up(model: Model, reading: Reading, settings: Settings, ranks: Parallel) -> Iterator[Way]:
    """More requests of max_model_len in the same or more memory."""
    numbers = reading.numbers()
    if "blocks" not in numbers:
        return
    asked = _asked(settings)
    now = _plan(model, {**asked, _OVERRIDE: None}, ranks)
    memory_bytes = int(numbers["blocks"].value) * max(now.block_bytes)
    before = _concurrency(model, asked, ranks, memory_bytes)
    changes: tuple[tuple[str, dict[str, Json], Parallel], ...] = (
        ("--max-num-batched-tokens 2048", {"max_num_batched_tokens": _SHORTEST_BATCH}, ranks),
        ("--kv-cache-dtype fp8", {"kv_cache_dtype": "fp8"}, ranks),
        (f"--tensor-parallel-size {2 * ranks.tp}", {}, replace(ranks, tp=2 * ranks.tp)),
    )
    if before is None:
        return
    for flags, change, layout in changes:
        after = _concurrency(model, {**asked, **change}, layout, memory_bytes)
        if after is not None and after > before:
            yield Way(flags, f"{after:.2f} concurrent requests of max_model_len instead of {before:.2f}")


def _concurrency(model: Model, settings: Settings, ranks: Parallel, memory_bytes: int) -> float | None:
    try:
        plan = _plan(model, {**settings, _OVERRIDE: None}, ranks)
        return plan.fit((memory_bytes,) * ranks.pp).max_concurrency
    except KvcalcError:
        return None


EXPLAINER = Explainer(
    compare,
    others=_OTHERS,
    ranks=_RANKS,
    undecided=undecided,
    given=_GIVEN,
    of_weights=_OF_WEIGHTS,
    ways=ways,
    room=room,
    excuse=excuse,
    balance=balance,
    alone=alone,
    usual=("kv_cache_dtype", "enable_prefix_caching", "speculative", "tp"),
    unnamed=unnamed,
)
