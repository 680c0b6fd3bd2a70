"""Versions of LMDeploy whose rules are known."""

from __future__ import annotations

from kvcalc.engines.base.versions import Release


class LmdeployRelease(Release):
    """A version of LMDeploy."""

    TITLE = "LMDeploy"
    KNOWN = ("0.18.0",)
