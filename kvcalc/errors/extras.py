"""How an extra of kvcalc is installed, as errors say it."""

from __future__ import annotations

_FROM = " @ git+https://github.com/kvcalc/kvcalc"
"""Empty once there is a release on PyPI."""


def install(extra: str) -> str:
    """The command that installs kvcalc with an extra."""
    return f"pip install 'kvcalc[{extra}]{_FROM}'"
