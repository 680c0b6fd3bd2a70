"""Start-up logs of engines: the lines that report a cache, one file per engine.

Such a file holds

    read(lines) -> Reading of those lines, or None without any
    LOOKED_FOR: patterns of the lines, for error messages
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from types import ModuleType

from kvcalc.errors import InvalidFileError, InvalidValueError
from kvcalc.fleet.explain import Reading
from kvcalc.io.files import read_bytes
from kvcalc.registry import Registry
from kvcalc.units import plural, shown

LOG_FORMATS = Registry("kvcalc.io.engine_logs", "engine with supported logs")
MAX_LOG_BYTES = 64 * 2**20
"""Largest log read; start-up logs are under 1 MiB."""
_ABSURD = re.compile(r"\d{25,}|\d(?:,\d{3}){8,}")
"""A number with more digits than any engine prints."""
_QUOTED = re.compile(r"'[^']*'")
_COLOURS = re.compile(r"(?:\x1b|\\u001b|\\x1b|\\033|\^\[)\[[0-9;?]*[A-Za-z]")
"""Colour codes, also as escaped by JSON, Python and terminals."""


def read_engine_log(path: Path, engine: str | None = None) -> Reading:
    """What a log says about its cache; engine: that wrote it, None to detect.

    Raises InvalidFileError if no line reports a cache, UnknownNameError for an engine whose logs are not supported.
    """
    lines = split_lines(log_text(path, str(path)))
    reading = read_lines(lines, engine)
    if reading is None:
        raise InvalidFileError(
            f"no cache reported in {plural(len(lines), 'line')}",
            where=str(path),
            help=f"looked for {looked_for(engine)}",
        )
    return reading


def read_lines(lines: Sequence[str], engine: str | None = None) -> Reading | None:
    """What lines say about a cache, or None; engine: that wrote them, None to detect."""
    for module in _formats(engine).values():
        reading: Reading | None = module.read(lines)
        if reading is not None:
            return reading
    return None


def looked_for(engine: str | None = None) -> str:
    """Patterns of the lines that are read: all of an engine, or one per engine."""
    if engine is not None:
        return "; ".join(f"{_said(name)}: {module.LOOKED_FOR}" for name, module in _formats(engine).items())
    first = [f"{_said(name)} {_QUOTED.findall(module.LOOKED_FOR)[0]}" for name, module in _formats(None).items()]
    return f"lines such as {', '.join(first)}; all lines of one engine: --engine vllm"


def _said(name: str) -> str:
    return name.replace("-", "_")


def _formats(engine: str | None) -> dict[str, ModuleType]:
    names = LOG_FORMATS.names() if engine is None else [engine]
    return {name: LOG_FORMATS.module(name) for name in names}


def split_lines(text: str) -> Lines:
    """Lines of a log, without colours."""
    return Lines(_COLOURS.sub("", text).splitlines())


def log_text(path: Path, where: str) -> str:
    """Text of a log; bytes that are not UTF-8 do not matter. Raises InvalidFileError if it cannot be read."""
    try:
        content = read_bytes(path, MAX_LOG_BYTES, "log of a start-up", "pass its beginning: head -n 10000")
    except InvalidFileError as error:
        error.where = where
        raise
    return content.decode("utf-8-sig", errors="replace")


class Lines(list[str]):
    """Lines of a log, and the same as one text, which is much faster to search."""

    @cached_property
    def text(self) -> str:
        """The lines in order."""
        return "\n".join(self)

    @cached_property
    def _starts(self) -> list[int]:
        return list(accumulate((len(line) + 1 for line in self), initial=0))

    def last_match(self, pattern: re.Pattern[str]) -> tuple[int, re.Match[str] | None]:
        """The last match and its line; else a match across line breaks within words."""
        found = list(pattern.finditer(self.text))
        if found:
            return self.number_at(found[-1].start()), found[-1]
        found = list(pattern.finditer("".join(self)))
        if found:
            return bisect_right(list(accumulate(map(len, self), initial=0)), found[-1].start()), found[-1]
        return 0, None

    def number_at(self, place: int) -> int:
        """Line number of an offset in the text, from 1."""
        return bisect_right(self._starts, place)


def matches(pattern: re.Pattern[str], lines: Sequence[str]) -> Iterator[tuple[int, re.Match[str]]]:
    """Line number and first match of each line with `pattern`.

    A pattern does not cross lines. Raises InvalidValueError for an endless number.
    """
    log = lines if isinstance(lines, Lines) else Lines(lines)
    last = 0
    for found in pattern.finditer(log.text):
        number = log.number_at(found.start())
        if number == last:
            continue
        last = number
        if absurd := _ABSURD.search(found[0]):
            raise _absurd(number, absurd[0])
        yield number, found


def last_in(pattern: re.Pattern[str], lines: Sequence[str]) -> tuple[int, re.Match[str]] | None:
    """The last match, possibly across lines, as in a message wrapped by a terminal."""
    log = lines if isinstance(lines, Lines) else Lines(lines)
    number, found = log.last_match(pattern)
    if found is None:
        return None
    if absurd := _ABSURD.search(found[0]):
        raise _absurd(number, absurd[0])
    return number, found


def last_value(pattern: re.Pattern[str], lines: Sequence[str]) -> str | None:
    """First group of the last match; engines repeat some lines with final values."""
    found = [match[1] for _, match in matches(pattern, lines)]
    return found[-1] if found else None


def _absurd(line: int, number: str) -> InvalidValueError:
    return InvalidValueError(
        f"line {line:,} of the log has {shown(number)}, which no engine prints", help="pass the original log"
    )
