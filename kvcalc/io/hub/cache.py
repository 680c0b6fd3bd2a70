"""Files in the cache of huggingface_hub, in its own layout, so that every program finds them.

    models--ORG--NAME/blobs/ETAG, snapshots/COMMIT/FILE -> the blob, refs/REVISION: the commit

Source: huggingface_hub, file_download.py.
"""

from __future__ import annotations

import os
import re
import uuid
from contextlib import suppress
from pathlib import Path

from kvcalc.io.files import is_file

_ETAG = re.compile(r"(?:W/)?\"?([0-9a-f]{32,128})\"?")
"""Names of blobs: SHA-1 or SHA-256. Files with any other name, such as a path, are read but not cached."""


class Cached:
    """A repository in the cache, existing or not."""

    def __init__(self, cache: Path, id: str) -> None:
        self.folder = cache / "--".join(("models", *id.split("/")))

    def commit(self, revision: str) -> str:
        """The last known commit of a revision; the revision itself if unknown."""
        reference = self.folder / "refs" / revision
        with suppress(OSError, UnicodeDecodeError):
            if is_file(reference):
                return reference.read_text("ascii").strip()
        return revision

    def snapshot(self, commit: str) -> Path:
        """Folder of the files of a commit."""
        return self.folder / "snapshots" / commit

    def files(self, commit: str) -> frozenset[str]:
        """Files of a commit that are there."""
        snapshot = self.snapshot(commit)
        return frozenset(str(path.relative_to(snapshot)) for path in snapshot.rglob("*") if is_file(path))

    def keep_revision(self, revision: str, commit: str) -> None:
        """Records the commit of a revision, if the cache is writable."""
        if revision != commit:
            with suppress(OSError):
                _replace(self.folder / "refs" / revision, commit.encode())

    def keep(self, commit: str, file: str, content: bytes, etag: str, *, symlinks: bool) -> None:
        """Caches a file of a commit, if the cache is writable."""
        found = _ETAG.fullmatch(etag)
        if found is None:
            return
        blob, pointer = self.folder / "blobs" / found[1], self.snapshot(commit) / file
        with suppress(OSError):
            pointer.parent.mkdir(parents=True, exist_ok=True)
            if symlinks:
                _replace(blob, content)
                with suppress(OSError):
                    pointer.symlink_to(os.path.relpath(blob, pointer.parent))
            if not pointer.exists():
                _replace(pointer, content)


def _replace(path: Path, content: bytes) -> None:
    """Writes a file in one step, since others may read it meanwhile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.incomplete")
    try:
        unfinished.write_bytes(content)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
