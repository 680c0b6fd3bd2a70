"""Versions of MLX-LM."""

from __future__ import annotations

from kvcalc.engines.base.versions import Release


class MlxLmRelease(Release):
    """A version of MLX-LM."""

    TITLE = "MLX-LM"
    KNOWN = ("0.32.2",)
