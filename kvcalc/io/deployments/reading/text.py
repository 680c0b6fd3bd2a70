"""Text that knows the line of each of its characters, even through YAML nested in a YAML string."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import Self


class Text(str):
    """Text with the line of each character.

    starts: offsets from which characters belong to the line at the same index in `lines`; the first is 0.
    """

    __slots__ = ("lines", "starts")

    starts: tuple[int, ...]
    lines: tuple[int, ...]

    def __new__(cls, words: str, starts: Iterable[int] = (0,), lines: Iterable[int] = (1,)) -> Self:
        """Text with known lines."""
        text = super().__new__(cls, words)
        text.starts = tuple(starts)
        text.lines = tuple(lines)
        return text

    @classmethod
    def on(cls, line: int, words: str) -> Self:
        """Text on a single line."""
        return cls(words, (0,), (line,))

    @classmethod
    def of_file(cls, words: str) -> Self:
        """A whole file."""
        starts = [0]
        at = words.find("\n")
        while at >= 0:
            starts.append(at + 1)
            at = words.find("\n", at + 1)
        return cls(words, starts, range(1, len(starts) + 1))

    @classmethod
    def joined(cls, pieces: Iterable[Text]) -> Self:
        """Concatenated pieces, each with its own lines."""
        words: list[str] = []
        starts: list[int] = []
        lines: list[int] = []
        length = 0
        for piece in pieces:
            starts.extend(length + start for start in piece.starts)
            lines.extend(piece.lines)
            words.append(piece)
            length += len(piece)
        return cls("".join(words), starts or (0,), lines or (1,))

    @property
    def line(self) -> int:
        """Line of the first character."""
        return self.lines[0]

    def line_at(self, offset: int) -> int:
        """Line of the character at `offset`."""
        return self.lines[max(0, bisect_right(self.starts, offset) - 1)]

    def part(self, start: int, end: int) -> Text:
        """Characters from `start` up to `end`."""
        first = max(0, bisect_right(self.starts, start) - 1)
        last = bisect_right(self.starts, max(start, end - 1))
        starts = (0, *(at - start for at in self.starts[first + 1 : last]))
        return Text(self[start:end], starts, self.lines[first:last] or (self.line_at(start),))

    def stripped(self) -> Text:
        """Without surrounding whitespace."""
        kept = self.strip()
        start = len(self) - len(self.lstrip())
        return self.part(start, start + len(kept))

    def by_line(self) -> Iterator[Text]:
        """Each line without its break."""
        start = 0
        for line in self.split("\n"):
            yield self.part(start, start + len(line)) if line else Text.on(self.line_at(start), "")
            start += len(line) + 1
