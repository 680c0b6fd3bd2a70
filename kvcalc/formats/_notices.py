"""Common parts of CI formats: the notices of a document, and their fingerprints across runs."""

from __future__ import annotations

import os
from hashlib import sha256

from kvcalc.report.notices import Notice, Noticing
from kvcalc.report.sheet import Document


def notices_of(document: Document) -> tuple[Notice, ...]:
    """The notices of a document, if any."""
    return tuple(document.notices()) if isinstance(document, Noticing) else ()


def fingerprints(notices: tuple[Notice, ...]) -> list[str]:
    """A fingerprint that is unique and survives moved lines: rule, file, deployment, and an index."""
    found: list[str] = []
    seen: dict[str, int] = {}
    for notice in notices:
        key = "\0".join((notice.rule.id, relative(notice.file), notice.deployment))
        seen[key] = seen.get(key, 0) + 1
        found.append(sha256(f"{key}\0{seen[key]}".encode("utf-8", "surrogatepass")).hexdigest()[:32])
    return found


def relative(file: str) -> str:
    """A path as in a repository: relative, with slashes; unchanged if it lies elsewhere."""
    path = os.path.normpath(file) if file else ""
    here = os.path.relpath(path) if os.path.isabs(path) else path  # noqa: PTH117  # as text: it may not be a path
    return (path if here.startswith(os.pardir) else here).replace(os.sep, "/")
