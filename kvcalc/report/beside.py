"""A term of a GPU's other memory, besides weights and cache."""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

from kvcalc.report.sheet import Line
from kvcalc.units import GIB, gigabytes

UNRESERVED = Line("other memory", "not counted: pass --reserve")
"""The line of an answer that counts no memory besides weights and cache."""


class Term(NamedTuple):
    """One of the things that take memory: words, the least and the most that it takes, and where these came from.

    low_bytes may be below 0, where something else gives memory back.
    """

    words: str
    low_bytes: int
    high_bytes: int
    source: str

    @classmethod
    def of(cls, words: str, low_gib: Fraction | int, high_gib: Fraction | int, source: str) -> Term:
        """A term whose bounds are in GiB."""
        return cls(words, int(low_gib * GIB), int(high_gib * GIB), source)

    def in_share(self, share: Fraction) -> Term:
        """What is lost of a share of memory that this lessens."""
        return self._replace(low_bytes=int(self.low_bytes * share), high_bytes=int(self.high_bytes * share))

    def __str__(self) -> str:
        return f"{self.words} {gigabytes(self.low_bytes)} to {gigabytes(self.high_bytes)}"
