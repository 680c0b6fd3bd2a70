"""Tokens as seen by a prefix cache: equal prefixes have the same number.

A prompt is a path of pieces, each from its segment's first token on; so a prefix is the path up to a piece and the
tokens of that piece. Each path has a number, and `number << _SHIFT | tokens of the last piece` names the prefix
exactly: no hash, no collision.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Hashable, Sequence

from kvcalc.engines.base.traffic import Piece

_SHIFT = 32
"""Bits for the tokens of one piece."""


class Paths:
    """Numbers for paths of pieces."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[int, int, Hashable], int] = {}
        self._last = 0

    def alone(self) -> int:
        """Base of the numbers of a request without tokens in common with others."""
        self._last += 1
        return self._last << _SHIFT

    def number(self, before: int, tokens: int, segment: Hashable) -> int:
        """Base for the path that continues with `segment` after `tokens` tokens of the last piece of `before`."""
        if segment is None:
            self._last += 1
            return self._last
        path = (before, tokens, segment)
        found = self._numbers.get(path)
        if found is None:
            self._last += 1
            found = self._numbers[path] = self._last
        return found


class Tokens:
    """Prefixes of one request's tokens, prompt and output, in units of `unit` tokens."""

    __slots__ = ("_numbers", "_starts", "_unit", "units")

    def __init__(self, paths: Paths, prompt: Sequence[Piece], output_segment: Hashable, unit: int) -> None:
        self._starts: list[int] = []
        self._numbers: list[int] = []
        start = before = tokens_before = 0
        for segment, tokens in (*prompt, (output_segment, 1)):
            if not tokens:
                continue
            before = paths.number(before, tokens_before, segment)
            self._starts.append(start)
            self._numbers.append(before)
            start += tokens
            tokens_before = tokens
        self._unit = unit
        self.units: list[int] = []

    def prefix(self, units: int) -> int:
        """Number of the prefix with this many units."""
        if units > len(self.units):
            self._extend(max(units, 2 * len(self.units)))
        return self.units[units - 1]

    def _extend(self, units: int) -> None:
        """Numbers up to this many units, including those of tokens not generated yet."""
        unit, starts = self._unit, self._starts
        end = (len(self.units) + 1) * unit
        last = units * unit
        piece = bisect_left(starts, end) - 1
        while end <= last:
            start = starts[piece]
            after = starts[piece + 1] if piece + 1 < len(starts) else last
            upto = min(after, last)
            base = self._numbers[piece] << _SHIFT
            self.units.extend(range(base | (end - start), (base | (upto - start)) + 1, unit))
            end += (upto - end) // unit * unit + unit if upto >= end else 0
            piece += 1
