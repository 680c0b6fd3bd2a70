"""Answers of running servers: one file per engine that has a server.

Such a file holds

    PAGES: paths that it may be asked for
    ask(get) -> its pages, if one answer decides what to request next
    read(pages) -> Reading of those texts, by path, or None for another engine's

A saved text is tried as each of the pages.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from kvcalc.fleet.explain import Printed, Reading
from kvcalc.registry import Registry

SERVERS = Registry("kvcalc.io.servers", "engine with a supported server")
Get = Callable[..., str | None]
Pages = Mapping[str, str]
_MOST_DIGITS = 25


def ask(get: Get, engine: str | None = None) -> Reading | None:
    """What a server says about its cache. get: text of a page or None; engine: of the server, None to detect."""
    for name in SERVERS.names() if engine is None else [engine]:
        module = SERVERS.module(name)
        reading: Reading | None = module.read(module.ask(get))
        if reading is not None:
            return reading
    return None


def saved(text: str, engine: str | None = None) -> Reading | None:
    """What a saved answer of a server says about its cache."""
    names = [name for name in SERVERS.names() if engine in (None, name, name.replace("-", "_"))]
    for name in names:
        module = SERVERS.module(name)
        reading: Reading | None = module.read(dict.fromkeys(module.PAGES, text))
        if reading is not None:
            return reading
    return None


def asked(get: Get, paths: tuple[str, ...]) -> Pages:
    """The pages that there are."""
    found = {path: get(path) for path in paths}
    return {path: text for path, text in found.items() if text is not None}


# Texts of others ----------------------------------------------------------------------------------------------------


def json_of(text: str | None) -> Any:
    """Value of a JSON text; None if invalid."""
    try:
        return json.loads(text) if text and text.lstrip()[:1] in ("{", "[") else None
    except (ValueError, RecursionError):
        return None


def entry(value: Any, *keys: str | int) -> Any:
    """Value at a path into mappings and lists; None if missing."""
    for key in keys:
        if isinstance(value, dict):
            value = value.get(key)
        elif isinstance(value, list) and isinstance(key, int) and key < len(value):
            value = value[key]
        else:
            return None
    return value


def whole(value: Any) -> int | None:
    """A count that an engine may have printed, as a number or as text; None for anything else."""
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < _MOST_DIGITS:
        value = int(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < 10**15:
        value = int(value)
    return value if type(value) is int and 0 <= value < 10**_MOST_DIGITS else None


def number(value: Any) -> float | None:
    """A finite number; None for anything else."""
    try:
        found = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else None
    except (ValueError, OverflowError):
        return None
    return found if found is not None and abs(found) < 10**_MOST_DIGITS else None


def printed(value: Any, unit: str = "", line: int = 0) -> Printed | None:
    """A number as printed; None for anything else."""
    if number(value) is None:
        return None
    text = value if isinstance(value, str) else f"{value}"
    return Printed(text, unit, line) if text.replace(".", "", 1).isdecimal() and text.isascii() else None


Sample = tuple[str, Mapping[str, str], str, int]
"""Name, labels and value of a line of metrics, and its number."""


def samples(text: str | None, prefix: str) -> Iterator[Sample]:
    """Lines of Prometheus' text format with this name prefix."""
    import re

    label = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
    for line_number, line in enumerate((text or "").splitlines(), 1):
        if not line.startswith(prefix):
            continue
        name, brace, rest = line.partition("{")
        labels, _, value = rest.rpartition("}") if brace else ("", "", line.partition(" ")[2])
        yield name.split(" ")[0], dict(label.findall(labels)), value.strip().split(" ")[0], line_number
