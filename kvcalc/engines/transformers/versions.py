"""Rules of transformers that changed between its versions, each a row with its source."""

from __future__ import annotations

from kvcalc.engines.base.versions import Release, Rule


class TransformersRelease(Release):
    """A version of transformers."""

    TITLE = "transformers"
    KNOWN = ("5.23",)
    OLDEST = "4.57"

    expands_latent = Rule(
        "whether keys and values are expanded from the latent of MLA before they are cached",
        True,
        {"5.15": False},
        "models/deepseek_v3/modeling_deepseek_v3.py",
    )
