"""vLLM: tokens and concurrency of as many blocks as fit the memory that was left for the cache.

The memory is printed with two decimals, so several numbers of blocks may be meant; one of them has to give every other
number of the log. A log without it decides nothing, as far as it goes: some number of blocks nearly always gives its
tokens. The memory then follows from the weights, where somebody says them. Up to 0.20.0 vLLM printed
blocks // groups * block_size tokens, and up to 0.7 the blocks themselves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from kvcalc.answers.planned import fit_each
from kvcalc.engines import Engine
from kvcalc.engines.vllm.versions import VllmRelease
from kvcalc.errors import InvalidValueError
from kvcalc.fleet.explain import Explainer, Printed, Reading
from kvcalc.fleet.memory import memory_of
from kvcalc.hardware import gpu_named
from kvcalc.model import Model
from kvcalc.parallel import Parallel
from kvcalc.report.fit import FitReport
from kvcalc.report.log import Compared
from kvcalc.report.sheet import Json
from kvcalc.units import TIB

_VERSION = "version"
_BEFORE = "0.20.0"
"""The last version that counted tokens by blocks."""
MEMORY, REQUESTS = "memory", "requests at a time"
"""Names of a reading's numbers beside blocks and tokens."""
_OTHERS: Mapping[str, tuple[Json, ...]] = {
    _VERSION: (_BEFORE,),
    "kv_cache_dtype": ("fp8", "bfloat16", "float16"),
    "block_size": (32, 64, 128),
    "gpu": ("a100-80gb", "rtx-3090", "rtx-4090", "h100-80gb", "b200"),
    "max_num_batched_tokens": (2048, 4096, 8192, 16_384),
    "speculative": tuple({"method": "mtp", "num_speculative_tokens": number} for number in (1, 2, 3)),
    "mamba_ssm_cache_dtype": ("float16", "float32"),
    "enable_prefix_caching": (False,),
    "async_scheduling": (False,),
    "disable_hybrid_kv_cache_manager": (True,),
    "max_model_len": (2048, 4096, 8192, 16_384, 32_768, 65_536, 131_072, 262_144),
}
_OF_WEIGHTS = {"gpu_memory_utilization": (0.8, 0.85, 0.9, 0.92, 0.95, 0.98)}
_RANKS = {"tp": (1, 2, 4, 8), "pp": (2, 4), "dcp": (2, 4, 8)}
_GIVEN = (MEMORY,)
_UNDECIDED = (
    "the log does not state its memory, and some number of blocks gives its tokens; give --gpu and --weights (and "
    "--reserve for what lies beside them), or the line 'Available KV cache memory'"
)
_ANY_MEMORY = TIB
_MOST_BESIDE = 10_000
"""Numbers of blocks on either side that are tried: what is further away is another number."""


class _Line(NamedTuple):
    """What a number of blocks is printed as."""

    blocks: int
    tokens: int
    concurrency: float


def compare(model: Model, reading: Reading, settings: Mapping[str, Json], ranks: Parallel) -> tuple[Compared, ...]:
    """The numbers of the log beside those of the number of blocks that comes nearest."""
    numbers = {name: printed for cache in reading.caches for name, printed in cache.items()}
    version = str(settings.get(_VERSION, VllmRelease.newest()))
    asked = {**settings, _VERSION: VllmRelease.nearest(version)}
    left_bytes = _left_by_weights(reading, asked, ranks)
    lines = _lines(model, numbers, left_bytes, asked, ranks)
    decides = left_bytes is not None or MEMORY in numbers
    best = max(lines, key=lambda line: (sum(_agreements(line, numbers)), -abs(_off(line, numbers))))
    found = []
    if MEMORY in numbers and left_bytes is not None:
        printed = numbers[MEMORY]
        words, equal = "left by the weights", printed.is_print_of(left_bytes)
        found.append(Compared(words, str(printed), printed.shown(left_bytes), equal, printed.line))
    for what, number in (("blocks", best.blocks), ("tokens", best.tokens)):
        if what in numbers:
            printed = numbers[what]
            equal = printed.is_print_of(number)
            found.append(Compared(what, str(printed), f"{number:,}", equal, printed.line, decides))
    if REQUESTS in numbers:
        printed = numbers[REQUESTS]
        equal = _prints_as(best.concurrency, printed)
        found.append(Compared(REQUESTS, str(printed), f"{best.concurrency:.2f}", equal, printed.line, decides))
    return tuple(found)


def _left_by_weights(reading: Reading, settings: Mapping[str, Json], ranks: Parallel) -> int | None:
    """Bytes that are left for the cache beside the weights, which all ranks share, where somebody says them."""
    if reading.weights_bytes is None:
        return None
    if "gpu" not in settings:
        raise InvalidValueError(
            "nothing says of which GPU the weights leave something", field="gpu", help="add its name: --gpu h100-80gb"
        )
    engine = Engine.of("vllm", settings)
    gpu, weights_bytes = gpu_named(str(settings["gpu"])), -(-reading.weights_bytes // (ranks.tp * ranks.pp))
    return max(0, memory_of(engine, gpu, weights_bytes, reading.reserve_bytes).cache_bytes)


def _lines(  # what is printed, and what is asked
    model: Model,
    numbers: Mapping[str, Printed],
    left_bytes: int | None,
    settings: Mapping[str, Json],
    ranks: Parallel,
) -> list[_Line]:
    """What each number of blocks that may be meant is printed as."""
    memory = numbers.get(MEMORY)
    if memory is None and left_bytes is not None:
        (start,) = _fits(model, [left_bytes], settings, ranks)
        blocks = range(start.num_blocks, start.num_blocks + 1)
    elif memory is None:
        (start,) = _fits(model, [_ANY_MEMORY], settings, ranks)
        blocks = _blocks_printed_as(numbers, start)
    else:
        ends = [int(memory.value + off) for off in (-memory.rounding, memory.rounding)]
        start, last = _fits(model, ends, settings, ranks)
        blocks = range(start.num_blocks, last.num_blocks + 1)
        if "blocks" in numbers:
            given = int(numbers["blocks"].value)
            nearest = min(max(given, blocks[0]), blocks[-1])
            blocks = range(nearest, nearest + 1)
    return list(_printed(start, blocks))


def _blocks_printed_as(numbers: Mapping[str, Printed], report: FitReport) -> range:
    """Numbers of blocks among which those are that are printed so, where the log does not say how much memory it had.

    tokens * blocks of a request / its length, or tokens // block_size * groups, and those beside it for the rounding.
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


def _fits(
    model: Model, available_bytes: Sequence[int], settings: Mapping[str, Json], ranks: Parallel
) -> list[FitReport]:
    """What vLLM would report of each amount of memory."""
    found = fit_each(model, available_bytes, engine="vllm", parallel=ranks, engine_settings={**settings})
    reports = [report for report in found if isinstance(report, FitReport)]
    if len(reports) != len(found):
        raise InvalidValueError("vLLM plans in blocks", help="report this: its planner answered with pools")
    return reports


def _printed(report: FitReport, blocks: range) -> Iterator[_Line]:
    for number in blocks:
        line = report._replace(num_blocks=number)
        yield _Line(number, line.tokens, line.max_concurrency)


def _agreements(line: _Line, numbers: Mapping[str, Printed]) -> Iterator[bool]:
    """Whether each number of the log is what this line would say."""
    if "blocks" in numbers:
        yield numbers["blocks"].is_print_of(line.blocks)
    if "tokens" in numbers:
        yield numbers["tokens"].is_print_of(line.tokens)
    if REQUESTS in numbers:
        yield _prints_as(line.concurrency, numbers[REQUESTS])


def _off(line: _Line, numbers: Mapping[str, Printed]) -> int:
    return line.tokens - int(numbers["tokens"].value) if "tokens" in numbers else 0


def _prints_as(concurrency: float, printed: Printed) -> bool:
    """Whether the engine's float is printed so, in as many digits."""
    decimals = len(printed.text.partition(".")[2])
    return f"{concurrency:.{decimals}f}" == f"{float(printed.text):.{decimals}f}"


EXPLAINER = Explainer(compare, others=_OTHERS, ranks=_RANKS, undecided=_UNDECIDED, given=_GIVEN, of_weights=_OF_WEIGHTS)
