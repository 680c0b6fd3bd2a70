"""vLLM: tokens and concurrency of as many blocks as fit the memory that was left for the cache.

The memory is printed with two decimals, so several numbers of blocks may be meant; one of them has to give every other
number of the log. Up to 0.20.0 vLLM printed blocks // groups * block_size tokens, and up to 0.7 the blocks themselves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from kvcalc.errors import InvalidValueError
from kvcalc.explaining import Printed, Reading
from kvcalc.fitting import fit
from kvcalc.model import Model
from kvcalc.parallel import Parallel
from kvcalc.report.fit import FitReport
from kvcalc.report.log import Compared
from kvcalc.units import TIB

OTHERS: Mapping[str, tuple[Any, ...]] = {
    "tokens_as_before_0.20.1": (True,),
    "kv_cache_dtype": ("fp8", "bfloat16", "float16"),
    "block_size": (32, 64, 128),
    "gpu": ("a100-80gb", "rtx-3090", "rtx-4090", "h100-80gb", "b200"),
    "max_num_batched_tokens": (2048, 4096, 8192, 16_384),
    "speculative": tuple({"method": "mtp", "num_speculative_tokens": number} for number in (1, 2, 3)),
    "mamba_ssm_cache_dtype": ("float16", "float32"),
    "enable_prefix_caching": (False,),
    "async_scheduling": (False,),
    "disable_hybrid_kv_cache_manager": (True,),
}
RANKS = {"tp": (1, 2, 4, 8), "pp": (2, 4), "dcp": (2, 4, 8)}
GIVEN = ("memory",)
_EARLIER = "tokens_as_before_0.20.1"
_ANY_MEMORY = TIB


class _Line(NamedTuple):
    """What a number of blocks is printed as."""

    blocks: int
    tokens: int
    concurrency: float


def compare(model: Model, reading: Reading, settings: Mapping[str, Any], ranks: Parallel) -> tuple[Compared, ...]:
    """The numbers of the log beside those of the number of blocks that comes nearest."""
    numbers = {name: printed for cache in reading.caches for name, printed in cache.items()}
    asked = {name: value for name, value in settings.items() if name != _EARLIER}
    lines = _lines(model, numbers, asked, ranks, earlier=bool(settings.get(_EARLIER)))
    best = max(lines, key=lambda line: (sum(_agreements(line, numbers)), -abs(_off(line, numbers))))
    found = []
    for what, number in (("blocks", best.blocks), ("tokens", best.tokens)):
        if what in numbers:
            printed = numbers[what]
            equal = printed.is_print_of(number)
            found.append(Compared(what, str(printed), f"{number:,}", equal, printed.line))
    if "concurrency" in numbers:
        printed = numbers["concurrency"]
        equal = _prints_as(best.concurrency, printed)
        shown = f"{best.concurrency:.2f}"
        found.append(Compared("requests at a time", str(printed), shown, equal, printed.line))
    return tuple(found)


def _lines(
    model: Model, numbers: Mapping[str, Printed], settings: Mapping[str, Any], ranks: Parallel, *, earlier: bool
) -> list[_Line]:
    """What each number of blocks that may be meant is printed as."""
    memory = numbers.get("memory")
    if memory is None:
        start = _fit(model, _ANY_MEMORY, settings, ranks)
        blocks = _blocks_printed_as(numbers, start, earlier=earlier)
    else:
        ends = [_fit(model, int(memory.value + off), settings, ranks) for off in (-memory.rounding, memory.rounding)]
        start = ends[0]
        blocks = range(start.num_blocks, ends[1].num_blocks + 1)
        if "blocks" in numbers:
            given = int(numbers["blocks"].value)
            nearest = min(max(given, blocks[0]), blocks[-1])
            blocks = range(nearest, nearest + 1)
    return list(_printed(start, blocks, earlier=earlier))


def _blocks_printed_as(numbers: Mapping[str, Printed], report: FitReport, *, earlier: bool) -> range:
    """Numbers of blocks among which those are that are printed so, where the log does not say how much memory it had.

    tokens * blocks of a request / its length, or tokens // block_size * groups, and those beside it for the rounding.
    """
    if "blocks" in numbers:
        given = int(numbers["blocks"].value)
        return range(given, given + 1)
    groups = len(report.groups)
    if "tokens" not in numbers:
        about = int(numbers["concurrency"].value * report.request_blocks)
        beside = int(numbers["concurrency"].rounding * report.request_blocks) + 1
    elif earlier:
        about = int(numbers["tokens"].value) // min(group.block_size for group in report.groups) * groups
        beside = groups
    else:
        about = int(numbers["tokens"].value * report.request_blocks / report.max_model_len)
        beside = report.request_blocks // report.max_model_len + 1
    return range(max(1, about - beside), about + beside + 1)


def _fit(model: Model, available_bytes: int, settings: Mapping[str, Any], ranks: Parallel) -> FitReport:
    report = fit(model, engine="vllm", available_bytes=available_bytes, parallel=ranks, engine_settings={**settings})
    if not isinstance(report, FitReport):
        raise InvalidValueError("vLLM plans in blocks", help="report this: its planner answered with pools")
    return report


def _printed(report: FitReport, blocks: range, *, earlier: bool) -> Iterator[_Line]:
    for number in blocks:
        line = report._replace(num_blocks=number)
        before = number // len(report.groups) * min(group.block_size for group in report.groups)
        yield _Line(number, before if earlier else line.tokens, line.max_concurrency)


def _agreements(line: _Line, numbers: Mapping[str, Printed]) -> Iterator[bool]:
    """Whether each number of the log is what this line would say."""
    if "blocks" in numbers:
        yield numbers["blocks"].is_print_of(line.blocks)
    if "tokens" in numbers:
        yield numbers["tokens"].is_print_of(line.tokens)
    if "concurrency" in numbers:
        yield _prints_as(line.concurrency, numbers["concurrency"])


def _off(line: _Line, numbers: Mapping[str, Printed]) -> int:
    return line.tokens - int(numbers["tokens"].value) if "tokens" in numbers else 0


def _prints_as(concurrency: float, printed: Printed) -> bool:
    """Whether the engine's float is printed so, in as many digits."""
    decimals = len(printed.text.partition(".")[2])
    return f"{concurrency:.{decimals}f}" == f"{float(printed.text):.{decimals}f}"
