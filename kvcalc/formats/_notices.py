"""What formats for CI systems have in common: the notices of a document, and by what one is known from run to run."""

from __future__ import annotations

import os
from hashlib import sha256

from kvcalc.report.notices import Notice, Noticing
from kvcalc.report.sheet import Document


def notices_of(document: Document) -> tuple[Notice, ...]:
    """The notices of a document; none of one that has none."""
    return tuple(document.notices()) if isinstance(document, Noticing) else ()


def fingerprints(notices: tuple[Notice, ...]) -> list[str]:
    """What tells each from the others and stays where lines move: rule, file and deployment, and which of several."""
    found: list[str] = []
    seen: dict[str, int] = {}
    for notice in notices:
        key = "\0".join((notice.rule.id, relative(notice.file), notice.deployment))
        seen[key] = seen.get(key, 0) + 1
        found.append(sha256(f"{key}\0{seen[key]}".encode("utf-8", "surrogatepass")).hexdigest()[:32])
    return found


def relative(file: str) -> str:
    """A path as repositories have it: from here, with slashes; as it is where it lies elsewhere."""
    path = os.path.normpath(file) if file else ""
    here = os.path.relpath(path) if os.path.isabs(path) else path  # noqa: PTH117  # as text: it may be no path at all
    return (path if here.startswith(os.pardir) else here).replace(os.sep, "/")
