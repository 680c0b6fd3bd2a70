"""Known versions of LMDeploy, and the rules that changed between them."""

from __future__ import annotations

from kvcalc.engines.base.versions import Release, Rule


class LmdeployRelease(Release):
    """A version of LMDeploy."""

    TITLE = "LMDeploy"
    KNOWN = ("0.15.0", "0.16.0", "0.17.0", "0.18.0")

    types_to_come = Rule(
        "types without a class yet",
        "hy_v3, interns2_mobius, kimi_k2, kimi_k25",
        {"0.16.0": "kimi_k2, kimi_k25", "0.17.0": "none"},
        "pytorch/models/module_map.py, pytorch/configurations/",
    )
    is_sparse_known = Rule(
        "whether kvcalc models its sparse latents and DeepSeek-V4",
        False,
        {"0.17.0": True},
        "pytorch/engine/cache_engine.py, pytorch/configurations/deepseek_v32.py",
    )
    shares_drafts = Rule(
        "whether ranks divide the layers loaded by deepseek_mtp",
        False,
        {"0.18.0": True},
        "pytorch/engine/config_builder.py",
    )
    pads_operators = Rule(
        "whether operators' own caches are padded to 256 bytes",
        True,
        {"0.18.0": False},
        "pytorch/engine/cache_engine/layout.py",
    )
