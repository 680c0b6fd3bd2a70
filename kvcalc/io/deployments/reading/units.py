"""Files of sections and `name=value`: systemd units, quadlets, .env files, properties."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from kvcalc.io.deployments.reading.text import Text

_SECTION = re.compile(r"\s*\[([\w -]+)\]\s*$")
_ENTRY = re.compile(r"\s*([\w.-]+)\s*=\s*")
_ENV = re.compile(r"\s*(?:export\s+)?([A-Za-z_]\w*)=(.*)", re.DOTALL)


class Entry(NamedTuple):
    """A name of a section, with its value."""

    section: str
    name: str
    value: Text


def entries(text: Text) -> Iterator[Entry]:
    """All entries of a file; a line ending in a backslash continues on the next."""
    section = ""
    lines = list(text.by_line())
    at = 0
    while at < len(lines):
        line = lines[at]
        at += 1
        if not line.strip() or line.lstrip().startswith(("#", ";")):
            continue
        if match := _SECTION.match(line):
            section = match[1]
            continue
        pieces = [line]
        while pieces[-1].rstrip().endswith("\\") and at < len(lines):
            pieces[-1] = _without_backslash(pieces[-1])
            pieces.append(lines[at])
            at += 1
        whole = Text.joined(pieces)
        if match := _ENTRY.match(whole):
            yield Entry(section, match[1], whole.part(match.end(), len(whole)).stripped())


def _without_backslash(line: Text) -> Text:
    kept = len(line.rstrip()) - 1
    return Text.joined((line.part(0, kept), Text.on(line.line, " ")))


def variables(text: Text) -> dict[str, Text]:
    """Variables of an .env file, without surrounding quotes."""
    found: dict[str, Text] = {}
    for line in text.by_line():
        match = _ENV.match(line)
        if match is None:
            continue
        value = match[2].strip()
        if value[:1] in ("'", '"') and value.endswith(value[:1]) and len(value) > 1:
            value = value[1:-1]
        elif " #" in value:
            value = value[: value.index(" #")].rstrip()
        found[match[1]] = Text.on(line.line, value)
    return found
