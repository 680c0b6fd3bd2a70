"""Reader for the plain YAML of shipped presets, without the YAML library.

Importing that library takes a third of the start-up time, and shipped presets use little of YAML: one `name: value` per
line, `layers:` with one level below it, values that are integers, booleans, plain or quoted text, and lists and
mappings of these on one line. Anything else is left to the library: `parse` returns None. Otherwise it returns what the
library would; the tests compare the two on every shipped preset and on random text.
"""

from __future__ import annotations

import re
from typing import Any

_LINE = re.compile(r"( {2})?([A-Za-z_][\w-]*):(?: (.*))?")
_ITEM_END = re.compile(r", (?![^\[\]]*\])")
"""End of an item of a mapping: a comma outside a list."""
_INTEGER = re.compile(r"0|[1-9]\d*")
_TEXT = re.compile(r"[A-Za-z](?:[\w./()+-]|, | )*")
_QUOTED = re.compile(r'"[ !#-\[\]-~]*"')
"""Double-quoted text without escapes: printable ASCII except quotes and backslashes."""
_FLAGS = {"true": True, "false": False}
_WORDS = frozenset(["y", "yes", "n", "no", "true", "false", "on", "off", "null"])
"""Words that YAML reads as something other than text."""

Path = tuple[str | int, ...]
"""Keys and indices from the top of a document to a value."""
Lines = dict[Path, int]


def parse(text: str) -> tuple[dict[str, Any], Lines] | None:
    """Values of `text`, and the line of each by its path; None if the text is not plain enough."""
    values: dict[str, Any] = {}
    lines: Lines = {(): 1}
    section: str | None = None
    for number, line in enumerate(text.splitlines(), 1):
        if not line or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            return None
        indented, name, written = match.groups()
        holder = values[section] if indented and section else values
        path = (section, name) if indented and section else (name,)
        if name.lower() in _WORDS or name in holder or (indented and section is None):
            return None
        if written is None:
            section, holder[name] = (name, {}) if not indented else (None, None)
        else:
            section = section if indented else None
            holder[name] = _value(written, path, number, lines)
        if holder[name] is None:
            return None
        lines[path] = number
    return None if {} in values.values() else (values, lines)  # an empty section is null in YAML


def _value(written: str, path: Path, number: int, lines: Lines) -> object:
    if written.startswith("[") and written.endswith("]"):
        items = [_scalar(item) for item in written[1:-1].split(", ")] if written != "[]" else []
        lines.update({(*path, index): number for index in range(len(items))})
        return None if None in items else items
    if written.startswith("{") and written.endswith("}"):
        pairs = [item.partition(": ") for item in _ITEM_END.split(written[1:-1])] if written != "{}" else []
        entries = {
            name: _scalar(item) if not item.startswith("[") else _value(item, (*path, name), number, lines)
            for name, _, item in pairs
            if _LINE.fullmatch(f"{name}:")
        }
        lines.update({(*path, name): number for name in entries})
        return None if len(entries) < len(pairs) or None in entries.values() else entries
    return _scalar(written)


def _scalar(written: str) -> int | str | None:
    if written in _FLAGS:
        return _FLAGS[written]
    if _INTEGER.fullmatch(written):
        return int(written)
    if _QUOTED.fullmatch(written):
        return written[1:-1]
    if _TEXT.fullmatch(written) and written.lower() not in _WORDS and written == written.strip():
        return written
    return None
