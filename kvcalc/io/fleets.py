"""A fleet file: JSON lines, each a deployment as in a plan's `deployments`, read one by one.

Only one line is kept in memory, plus what lines share: models, engines and weights already read.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterator
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from kvcalc.errors import InvalidFileError, KvcalcError
from kvcalc.fleet.check import Deployment
from kvcalc.io.documents import Document
from kvcalc.io.files import opened
from kvcalc.io.plans import parse_plan
from kvcalc.report.deployments import Note

SUFFIX = ".jsonl"
_MOST_LINE = 1 << 20
_MOST_KNOWN = 2048
"""Cached models, engines and weights; beyond that the cache is cleared."""
_HELP = 'write {"name": "chat", "model": "r1", "tokens": "32K", "budget": "80GB"}; `kvcalc schema plan` has all fields'


def is_fleet(paths: list[str]) -> bool:
    """Whether the input is a single fleet file."""
    return len(paths) == 1 and Path(paths[0]).suffix.lower() == SUFFIX


def read_fleet(path: Path, *, hub: bool = False) -> Iterator[Deployment | Note]:
    """Each line's deployment, or its error. Raises InvalidFileError for a file that cannot be read."""
    known: dict[Hashable, Any] = {}
    for number, line in _lines(path):
        if len(known) > _MOST_KNOWN:
            known.clear()
        where = f"{path}:{number}"
        try:
            values = _values(line, where)
            document = Document(str(path), {"deployments": [values]}, {(): number, ("deployments", 0): number})
            yield from parse_plan(document, path, hub=hub, known=known)
        except KvcalcError as error:
            yield Note.of(error, where)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    with opened(path) as file, TextIOWrapper(file, encoding="utf-8-sig", errors="replace", newline="\n") as text:
        for number, line in enumerate(iter(lambda: text.readline(_MOST_LINE), ""), 1):
            if line.strip():
                yield number, line


def _values(line: str, where: str) -> dict[str, object]:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise InvalidFileError("is not a JSON object on one line", where=where, help=_HELP)
    return values
