"""LMCache's settings file: how it is named, and which settings take memory."""

from __future__ import annotations

from collections.abc import Iterable

_LMCACHE = "LMCACHE_"
LMCACHE_FILE = f"{_LMCACHE}CONFIG_FILE"
LMCACHE_FLAGS = ("--lmcache-config-file",)
LMCACHE_SIZES = ("max_local_cpu_size", "max_local_disk_size", "local_disk")
"""Keys of the file that decide its memory."""


def lmcache_variables(entries: Iterable[tuple[str, object]]) -> dict[str, str]:
    """Entries of LMCache's file that take memory, by the names of the equivalent variables."""
    own = {key: value for key, value in entries if key in LMCACHE_SIZES and value not in (None, False, "")}
    return {f"{_LMCACHE}{key.upper()}": str(value) for key, value in own.items()}
