"""Workloads as people write them, on a command line and in plans: lengths, or a trace of requests.

p50=1K,p95=4K,max=7K    quantiles
1K:50,8K:30             a histogram, tokens:weight; a plan may write it as a mapping
8K                      one length
trace.jsonl             requests with their outputs, as `kvcalc replay` reads them
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

from kvcalc.errors import InvalidValueError
from kvcalc.fleet.traffic.mix import Mix, Prefixes
from kvcalc.fleet.traffic.workload import Lengths, Workload, parse_lengths, parse_weights
from kvcalc.io.files import is_file
from kvcalc.io.traces import read_lengths
from kvcalc.units import parse_tokens, positive_int, shown

Given = int | str | Mapping[int | str, int | str]
"""Lengths: a number, a text in one of the forms, or a histogram."""
_SUFFIXES = (".csv", ".jsonl", ".json")


def trace_or_lengths(text: str, outputs: Given | None) -> Workload:
    """Parses a trace's path, or lengths. Raises KvcalcError."""
    path = Path(text)
    if is_file(path) or path.suffix.lower() in _SUFFIXES:
        return trace_of(path, outputs)
    return workload_of(text, outputs)


def trace_of(path: Path, outputs: Given | None = None) -> Workload:
    """Requests of a trace, including outputs. Raises KvcalcError."""
    if outputs is not None:
        raise InvalidValueError("a trace already has the outputs", field="output", help="remove output")
    return Workload.joint((prompt, generated) for prompt, generated in read_lengths(path))


def workload_of(prompts: Given, outputs: Given | None) -> Workload:
    """Requests of these lengths. Raises InvalidValueError, by its field prompt or output."""
    own = lengths_of(prompts, "prompt")
    return Workload.independent(own, None if outputs is None else lengths_of(outputs, "output"))


def lengths_of(given: Given, field: str) -> Lengths:
    """Lengths of any of the forms. Raises InvalidValueError."""
    if isinstance(given, str):
        return parse_lengths(given, field)
    if isinstance(given, Mapping):
        if not given:
            raise InvalidValueError(f"{field} has no lengths", field=field, help="write {1K: 50, 8K: 30}")
        weights: Counter[int] = Counter()
        for tokens, weight in given.items():
            weights[parse_tokens(tokens, field)] += positive_int(weight, f"{field} weight")
        return Lengths.of(weights)
    return Lengths(((parse_tokens(given, field), 1),))


def prefixes_of(given: Given | None, each: int) -> Prefixes:
    """Prefixes of `2K`, or of groups of users: `2K:60,8K:30,0:10` (tokens:weight, 0 for none)."""
    if given is None:
        return Prefixes()
    if isinstance(given, Mapping):
        given = ",".join(f"{tokens}:{weight}" for tokens, weight in given.items())
    if isinstance(given, str) and ":" in given:
        return Prefixes(tuple(sorted(parse_weights(given, "shared_prefix", least=0).items())), each)
    return Prefixes(((parse_tokens(given, "shared_prefix"), 1),), each)


def mix_of(
    workload: Workload,
    *,
    quantile: str | float = "99",
    shared_prefix: Given | None = None,
    prefixes: int = 1,
    active: str | float = "100",
) -> Mix:
    """What users do. quantile, active: percent. Raises InvalidValueError with the field."""
    return Mix(
        workload,
        share_of_time(quantile, "quantile"),
        prefixes_of(shared_prefix, positive_int(prefixes, "prefixes")),
        share_of_time(active, "active"),
    )


def share_of_time(text: str | float, field: str) -> Fraction:
    """`99`, `99.9` or `99.9%`, a number of percent above 0 and up to 100."""
    try:
        found = Fraction(str(text).strip().removesuffix("%")) / 100
    except (ValueError, ZeroDivisionError):
        found = Fraction(0)
    if not 0 < found <= 1:
        raise InvalidValueError(
            f"must be above 0 and at most 100 percent, not {shown(text)}", field=field, help="write 99"
        )
    return found
