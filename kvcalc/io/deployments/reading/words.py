"""Words of a command not run by a shell, as split by compose, systemd and Docker: only quotes and backslashes."""

from __future__ import annotations

import json

from kvcalc.io.deployments.reading.text import Text


def split(text: Text) -> list[Text]:
    """Words with their lines. An unclosed quote extends to the end."""
    words: list[Text] = []
    current: list[str] | None = None
    line, quote, at, end = text.line, "", 0, len(text)
    while at < end:
        char = text[at]
        if not quote and char.isspace():
            if current is not None:
                words.append(Text.on(line, "".join(current)))
                current = None
            at += 1
            continue
        if current is None:
            if text.startswith(("\\\n", "\\\r\n"), at) or (char == "\\" and text[at + 1 : at + 2].isspace()):
                at += 1  # the line continues
                continue
            current, line = [], text.line_at(at)
        if char == quote:
            quote = ""
        elif not quote and char in "'\"":
            quote = char
        elif char == "\\" and quote != "'" and at + 1 < end:
            at += 1
            kept = "\\" if quote and text[at] not in '"\\$`\n' else ""
            current.append(kept + text[at].replace("\n", ""))
        else:
            current.append(char)
        at += 1
    if current is not None:
        words.append(Text.on(line, "".join(current)))
    return words


def listed(text: Text) -> list[Text] | None:
    """Words of a JSON list, as in Dockerfiles; None for anything else."""
    stripped = text.strip()
    if not stripped.startswith("["):
        return None
    try:
        found = json.loads(stripped.replace("\\\n", ""))
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        return None
    return [Text.on(text.line, each) for each in found]
