"""Traces of requests, read line by line: CSV or JSON lines, each request with its lengths and arrival.

Known forms, distinguished by their fields:

Azure's LLM trace   TIMESTAMP,ContextTokens,GeneratedTokens
Mooncake's          {"timestamp": ms, "input_length", "output_length", "hash_ids": [a number for each 512 tokens]}
plain counts        prompt_tokens,output_tokens and arrival_step or arrival_seconds, or neither: all at once
kvcalc.replay's own {"arrival_step", "prompt": [[segment, tokens], ...], "output_segment", "output_tokens"}

Without hash_ids or segments, requests have no tokens in common. Only one line is kept in memory.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from fractions import Fraction
from io import TextIOWrapper
from pathlib import Path
from typing import NamedTuple

from kvcalc.engines.base.traffic import Piece, Request
from kvcalc.errors import InvalidFileError, KvcalcError
from kvcalc.io.files import opened
from kvcalc.units import shown

MOONCAKE_BLOCK = 512
"""Tokens per hash id. Source: kvcache-ai/Mooncake, FAST25-release/traces."""
_MOST_LINE = 1 << 20
_MOST_TOKENS = 1 << 30
_MICROSECONDS = 1_000_000
_HELP = "see `kvcalc replay --help` and examples/traces for the forms of a trace"
_PROMPT = ("prompt_tokens", "contexttokens", "input_length", "input_tokens", "prompt_len")
_OUTPUT = ("output_tokens", "generatedtokens", "output_length", "completion_tokens", "output_len")

Row = Mapping[str, object]


class Lengths(NamedTuple):
    """A request of a trace, lengths only."""

    prompt_tokens: int
    output_tokens: int


def read_trace(path: Path, step_seconds: Fraction | None = None) -> Iterator[Request]:
    """Requests of a trace in order. step_seconds: duration of a step, for a trace with times.

    Raises InvalidFileError at an invalid line, or one before the previous in time.
    """
    clock = _Clock(step_seconds)
    last = 0
    for line, row in _rows(path):
        try:
            request = _request(row, line, clock)
        except KvcalcError as error:
            raise error.at(f"{path}:{line}") from None
        if request.arrival_step < last:
            raise InvalidFileError(
                "comes before the previous request", where=f"{path}:{line}", help="sort the trace by time"
            )
        last = request.arrival_step
        yield request


def read_lengths(path: Path) -> Iterator[Lengths]:
    """Lengths of the requests of a trace, ignoring arrivals. Raises InvalidFileError at an invalid line."""
    for line, row in _rows(path):
        try:
            prompt = sum(tokens for _, tokens in _pieces(row))
            yield Lengths(prompt, _number(row, _OUTPUT))
        except KvcalcError as error:
            raise error.at(f"{path}:{line}") from None


def count_lines(path: Path) -> int:
    """Lines of a file, with progress."""
    with opened(path) as file:
        return sum(part.count(b"\n") for part in iter(lambda: file.read(_MOST_LINE), b""))


def _rows(path: Path) -> Iterator[tuple[int, Row]]:
    """Each line with a request, and its number."""
    with opened(path) as file, TextIOWrapper(file, encoding="utf-8-sig", errors="replace", newline="") as text:
        lines = iter(lambda: text.readline(_MOST_LINE), "")
        first = next(lines, "")
        if not first.strip():
            raise InvalidFileError("contains no request", where=str(path), help=_HELP)
        read = _json_rows if first.lstrip().startswith("{") else _csv_rows
        yield from read(path, first, lines)


def _json_rows(path: Path, first: str, lines: Iterator[str]) -> Iterator[tuple[int, Row]]:
    loads = json.loads
    number, line = 1, first
    while line:
        if line.strip():
            try:
                row = loads(line)
            except (ValueError, RecursionError):
                row = None
            if not isinstance(row, dict):
                raise InvalidFileError("is not a JSON object on one line", where=f"{path}:{number}", help=_HELP)
            yield number, {str(name).lower(): value for name, value in row.items()}
        line = next(lines, "")
        number += 1


def _csv_rows(path: Path, first: str, lines: Iterator[str]) -> Iterator[tuple[int, Row]]:
    names = [name.strip().lower() for name in next(csv.reader([first]))]
    if not any(name in names for name in _PROMPT):
        raise InvalidFileError(
            f"has no column for prompt tokens in its first line ({', '.join(map(shown, names[:6]))})",
            where=f"{path}:1",
            help=_HELP,
        )
    try:
        for number, cells in enumerate(csv.reader(lines), 2):
            if cells:
                yield number, dict(zip(names, cells, strict=False))
    except csv.Error as error:
        raise InvalidFileError(f"is not valid CSV: {error}", where=str(path), help=_HELP) from error


def _request(row: Row, line: int, clock: _Clock) -> Request:
    output = row.get("output_segment")
    segment = output if isinstance(output, int | str) else None
    name = row.get("id")
    return Request(
        name if isinstance(name, int | str) else line,
        clock.step(row),
        _pieces(row),
        segment,
        _number(row, _OUTPUT),
        _whole(row["priority"], "priority", None) if "priority" in row else 0,
    )


def _pieces(row: Row) -> tuple[Piece, ...]:
    """The prompt by its segments, its hash ids, or only its length."""
    prompt = row.get("prompt")
    if prompt is not None:
        return _segments(prompt)
    tokens = _number(row, _PROMPT)
    ids = row.get("hash_ids")
    if not ids:
        return ((None, tokens),)
    if not isinstance(ids, list) or len(ids) != -(-tokens // MOONCAKE_BLOCK):
        known = len(ids) if isinstance(ids, list) else 0
        raise InvalidFileError(
            f"{tokens:,} tokens are {-(-tokens // MOONCAKE_BLOCK):,} blocks of {MOONCAKE_BLOCK}, but there are "
            f"{known:,} hash_ids",
            help=_HELP,
        )
    last = tokens - (len(ids) - 1) * MOONCAKE_BLOCK
    return (*((each, MOONCAKE_BLOCK) for each in ids[:-1]), (ids[-1], last))


def _segments(prompt: object) -> tuple[Piece, ...]:
    pieces = [
        (piece[0], _whole(piece[1], "prompt", 1))
        for piece in (prompt if isinstance(prompt, list) else ())
        if isinstance(piece, list) and len(piece) == 2 and isinstance(piece[0], int | str | None)  # noqa: PLR2004
    ]
    if not isinstance(prompt, list) or len(pieces) != len(prompt) or not pieces:
        raise InvalidFileError(f"prompt must be a list of [segment, tokens], not {shown(prompt)}", help=_HELP)
    return tuple(pieces)


def _number(row: Row, names: tuple[str, ...]) -> int:
    """The count in one of these fields."""
    for name in names:
        value = row.get(name)
        if value is not None:
            return _whole(value, name, 1)
    raise InvalidFileError(f"has none of {', '.join(names)}", help=_HELP)


def _whole(value: object, name: str, least: int | None) -> int:
    try:
        number = int(value) if isinstance(value, str) else value
    except ValueError:
        number = None
    if type(number) is not int or (least is not None and number < least) or abs(number) > _MOST_TOKENS:
        at_least = "" if least is None else f" of at least {least}"
        raise InvalidFileError(f"{name} must be a whole number{at_least}, not {shown(value)}", help=_HELP)
    return number


class _Clock:
    """Converts a trace's times to steps, from its first request."""

    def __init__(self, step_seconds: Fraction | None) -> None:
        self._step = step_seconds
        self._first: int | None = None

    def step(self, row: Row) -> int:
        """The step before which a request arrives."""
        if row.get("arrival_step") is not None:
            return _whole(row["arrival_step"], "arrival_step", 0)
        for name, read in _TIMES.items():
            value = row.get(name)
            if value is not None and value != "":
                return self._since_first(read(value))
        return 0

    def _since_first(self, microseconds: int) -> int:
        if self._step is None:
            raise InvalidFileError(
                "has times, but the duration of a step is unknown",
                help="pass --step-ms 25, or with a GPU --step-ms floor",
            )
        if self._first is None:
            self._first = microseconds
        return (microseconds - self._first) * self._step.denominator // (self._step.numerator * _MICROSECONDS)


def _timestamp(value: object) -> int:
    """Milliseconds as in Mooncake, or date and time as in Azure, in microseconds."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _microseconds(value, 1000)
    text = str(value)
    try:
        return int(text) * 1000
    except ValueError:
        pass
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidFileError(
            f"timestamp must be milliseconds, or a date and a time, not {shown(value)}", help=_HELP
        ) from None
    days = at.toordinal()
    return ((days * 24 + at.hour) * 60 + at.minute) * 60 * _MICROSECONDS + at.second * _MICROSECONDS + at.microsecond


def _seconds(value: object) -> int:
    try:
        return _microseconds(float(str(value)), _MICROSECONDS)
    except ValueError:
        raise InvalidFileError(f"arrival_seconds must be a number, not {shown(value)}", help=_HELP) from None


def _microseconds(number: float, each: int) -> int:
    """A time in whole microseconds, as written: 0.1 s is 100,000."""
    try:
        return int(Fraction(str(number)) * each)
    except (ValueError, OverflowError):
        raise InvalidFileError(f"a time must be a number, not {shown(number)}", help=_HELP) from None


_TIMES: dict[str, Callable[[object], int]] = {"timestamp": _timestamp, "arrival_seconds": _seconds}
