"""Repositories and Ollama tags known to have a preset's cache: presets/repositories.tsv, one row each."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from kvcalc.hardware import presets_folder

FILE = "repositories.tsv"
TAG = "ollama:"
_NOT_A_PRESET = "-"
_UNKNOWN = "?"


class Row(NamedTuple):
    """A known name. preset: with the same cache; empty for a name that must not be read as a preset.

    weights: their format, empty if as published. context: tokens, if different from the preset's; -1 if different and
    unknown. remark: further facts, or why there is no preset.
    """

    name: str
    preset: str
    weights: str = ""
    context: int | None = None
    remark: str = ""

    @property
    def declares_fp8(self) -> bool:
        """Whether its checkpoint declares an FP8 cache."""
        return self.remark.startswith("fp8 cache") and not self.may_declare_fp8

    @property
    def may_declare_fp8(self) -> bool:
        """Whether related checkpoints declare an FP8 cache, and its own config was not read."""
        return self.remark.startswith("fp8 cache?")


@cache
def _text() -> tuple[str, str]:
    """The table, also in lower case; searching it for a line is faster than parsing it."""
    text = "\n" + (presets_folder() / FILE).read_text("utf-8")
    return text, text.lower()


def row_of(name: str) -> Row | None:
    """Row of a repository's id, or of an Ollama tag written `ollama:family:size`, ignoring case."""
    text, lowered = _text()
    if not name or not name.isprintable() or "\t" in name:
        return None
    start = lowered.find(f"\n{name.lower()}\t")
    return None if start < 0 else _row(text[start + 1 :].partition("\n")[0])


def tag_row(tag: str) -> Row | None:
    """Row of an Ollama tag, written `family:size`."""
    return row_of(f"{TAG}{tag.lower().removeprefix(TAG)}")


def rows() -> tuple[Row, ...]:
    """Every row, in the order of the table."""
    return tuple(_row(line) for line in _text()[0].splitlines() if line and not line.startswith("#"))


@cache
def published() -> tuple[Row, ...]:
    """Repositories whose weights are as published, and names that only look like a preset's."""
    return tuple(row for row in rows() if not row.weights and not row.name.startswith(TAG))


def tags_of(family: str) -> tuple[str, ...]:
    """Tags of an Ollama family."""
    start = f"{TAG}{family.lower()}:"
    return tuple(row.name.removeprefix(TAG) for row in rows() if row.name.lower().startswith(start))


def names_of(preset: str) -> tuple[str, ...]:
    """Ids and tags that resolve to a preset."""
    return tuple(row.name for row in rows() if row.preset == preset)


def _row(line: str) -> Row:
    name, preset, weights, context, remark = (*line.split("\t"), "", "", "")[:5]  # trailing empty fields are omitted
    tokens = -1 if context == _UNKNOWN else int(context) if context else None
    return Row(name, "" if preset == _NOT_A_PRESET else preset, weights, tokens, remark)
