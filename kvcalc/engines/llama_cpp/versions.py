"""Versions of llama.cpp, by those of llama-cpp-python, which holds a copy of it."""

from __future__ import annotations

from kvcalc.engines.base.versions import Release


class LlamaCppRelease(Release):
    """A version of llama-cpp-python, and of its copy of llama.cpp."""

    TITLE = "llama-cpp-python"
    KNOWN = ("0.3.36",)
