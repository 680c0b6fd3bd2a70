"""Metadata of a GGUF file, as llama.cpp prints it while it loads a model.

    llama_model_loader: - kv  10:                          llama.block_count u32              = 32

Long lists are printed only in part; a model whose shape stands in one is not described.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from kvcalc.io.engine_logs import matches

_ENTRY = re.compile(r"- kv +(\d+): +(\S+) +(u?int\d+|[uif]\d+|bool|str|arr\[\w+,\d+\]) += (.*)")
_ARCHITECTURE = "general.architecture"
_IGNORED = ("tokenizer.", "general.")
_READ = (_ARCHITECTURE, "general.name")


def metadata_before(lines: Sequence[str], last_line: int) -> dict[str, object]:
    """Entries of the last file that was loaded before a line; empty for none, and where a list of its shape is cut."""
    found: dict[str, object] = {}
    for number, match in matches(_ENTRY, lines):
        if number > last_line:
            break
        if int(match[1]) == 0:
            found = {}
        name, value = match[2], _value(match[3], match[4].strip())
        if not name.startswith(_IGNORED) or name in _READ:
            found[name] = value
    return found if _ARCHITECTURE in found and None not in found.values() else {}


def _value(kind: str, text: str) -> object:
    """A value by its type; None for one that is printed in part."""
    if kind == "str":
        return text
    if kind == "bool":
        return text == "true"
    if kind.startswith("arr"):
        return _items(text)
    return _number(text)


def _items(text: str) -> object:
    if text.endswith("...") or not text.startswith("["):
        return None
    items = [_number(item.strip()) for item in text.strip("[]").split(",")]
    return None if None in items else items


def _number(text: str) -> int | float | None:
    try:
        return int(text)
    except ValueError:
        try:
            return float(text)
        except ValueError:
            return None
