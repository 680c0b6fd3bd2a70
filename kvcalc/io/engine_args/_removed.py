"""Removed flags of a program: the last version with each, and the note for it."""

from __future__ import annotations

from kvcalc.engines.base import engine_class
from kvcalc.io.engine_args._program import Program
from kvcalc.io.engine_args._rows import Flag


def removed_in(program: Program, version: str | None) -> frozenset[str]:
    """Names of the flags no longer in a version, by default the newest."""
    return frozenset(flag.name for flag in program.flags if flag.until and _is_after(version, flag.until))


def removed_words(flag: Flag, program: Program, version: str | None) -> str:
    """A note that a flag is no longer in a version; empty if it is."""
    if not (flag.until and _is_after(version, flag.until)):
        return ""
    return f"no longer a flag of {program.title} {version or newest(program)} (last in {flag.until})"


def newest(program: Program) -> str:
    """The newest known version."""
    release = engine_class(program.engine).RELEASE if program.engine else None
    return release.newest() if release is not None else ""


def _is_after(version: str | None, last: str) -> bool:
    return version is None or _key(version) > _key(last)


def _key(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:3] if part.isdecimal())
