"""Versions of SGLang whose rules are known."""

from __future__ import annotations

from kvcalc.engines.base.versions import Release


class SglangRelease(Release):
    """A version of SGLang."""

    TITLE = "SGLang"
    KNOWN = ("0.5.23",)
