"""Changes in llama.cpp by date: its builds have numbers, and llama-cpp-python contains copies of it.

Rules come from the source in llama-cpp-python 0.3.8 to 0.3.36 and from the pull requests named; only 0.3.36 was run. A
rule without a known pull request applies from the first copy that has it.
"""

from __future__ import annotations

from kvcalc.engines.base.builds import DatedRelease
from kvcalc.engines.base.versions import Rule

MEASURED = "0.3.36"


class LlamaCppRelease(DatedRelease):
    """A version of llama.cpp: a date, a build, or a version of llama-cpp-python."""

    TITLE = "llama.cpp"
    KNOWN = (MEASURED,)
    OLDEST = "2025-04-16"
    RECENT = MEASURED

    BUILDS = {  # noqa: RUF012  # never mutated; dates on which they were packaged, pinned or reported
        **{4879: "2025-03-13", 5554: "2025-05-31", 5857: "2025-07-09", 5913: "2025-07-16", 7079: "2025-11-16"},
        **{7223: "2025-12-02", 8047: "2026-02-14", 8232: "2026-03-08", 8400: "2026-03-17", 8558: "2026-03-28"},
        **{8651: "2026-04-03", 8864: "2026-04-20", 8982: "2026-04-30", 9174: "2026-05-15", 9409: "2026-05-29"},
        **{9672: "2026-06-16", 9888: "2026-07-06", 10091: "2026-07-22", 10242: "2026-08-04", 10353: "2026-08-10"},
        **{10488: "2026-08-18", 10760: "2026-09-02"},
    }
    PACKAGES = {  # noqa: RUF012
        **{"0.3.9": "2025-05-08", "0.3.12": "2025-07-06", "0.3.16": "2025-08-15", "0.3.17": "2026-03-14"},
        **{"0.3.20": "2026-03-31", "0.3.24": "2026-05-31", "0.3.26": "2026-06-05", "0.3.28": "2026-06-07"},
        **{"0.3.29": "2026-06-13", "0.3.30": "2026-06-16", "0.3.31": "2026-06-20", "0.3.32": "2026-06-29"},
        **{"0.3.33": "2026-07-05", "0.3.34": "2026-07-11", "0.3.35": "2026-08-17", MEASURED: "2026-08-24"},
    }

    window_caches = Rule("whether sliding layers have separate caches", False, {"2025.5.20": True}, "#13194")
    window_spare = Rule(
        "tokens in addition to the window: n_batch or n_ubatch", "n_batch", {"2025.5.31": "n_ubatch"}, "#13833 (b5554)"
    )
    streams = Rule(
        "whether each sequence has its own stream unless kv_unified", False, {"2025.7.16": True}, "#14363 (b5913)"
    )
    widest_values = Rule(
        "whether V without flash attention has the widest row in all layers", False, {"2025.7.16": True}, "#14363"
    )
    hybrid_memory = Rule(
        "whether layers with states have a cache in addition to attention's", False, {"2025.6.19": True}, "#13979"
    )
    hybrid_shares = Rule(
        "whether streams of a hybrid divide the context; otherwise each has all of it",
        False,
        {"2025.10.28": True},
        "#16812",
    )
    flash_attn = Rule("default of flash_attn", "off", {"2025.8.30": "auto"}, "#15434 (about b6327)")
    padding = Rule("cells per step with flash attention", 256, {"2025.10.28": 1, "2025.11.7": 256}, "#16812, #17046")
    padding_without_flash = Rule(
        "cells per step without flash attention", 32, {"2025.10.28": 1, "2025.11.7": 256}, "#16812, #17046"
    )
    counts_draft_layers = Rule(
        "architectures whose multi-token-prediction layers are cached with the others",
        "glm4moe, exaone-moe",
        {"2026.3.14": "exaone-moe", "2026.5.31": "none"},
        "llama-model.cpp (n_layer_kv_from_start), between 0.3.16 and 0.3.17, and between 0.3.20 and 0.3.24",
    )
    one_draft_context = Rule(
        "whether one context drafts for all slots; before, each slot had its own",
        False,
        {"2026.5.31": True},
        "#22838, between 0.3.20 and 0.3.24",
    )
    server_slots = Rule("default slots of llama-server", 1, {"2025.11.2": 4}, "#16736 (seen in b7079)")
    server_checkpoints = Rule(
        "default context checkpoints per slot of llama-server",
        0,
        {"2025.8.14": 3, "2025.10.7": 8, "2026.3.6": 32},
        "#15293, #16453; 8 in b7966 and 32 in logs of May 2026, about #20087",
    )
    server_cache_ram = Rule(
        "default MiB of prompts that llama-server keeps in host memory", 0, {"2025.10.9": 8192}, "#16391"
    )
    latent_values = Rule("whether MLA has a V: the latent a second time", True, {"2026.1.24": False}, "#19067")
    index_caches = Rule(
        "whether indexers have caches", False, {"2026.5.31": True}, "llama-kv-cache-dsa.cpp, between 0.3.20 and 0.3.24"
    )
    rollback_rows = Rule(
        "whether n_rs_seq extra copies of states are kept", False, {"2026.5.31": True}, "between 0.3.20 and 0.3.24"
    )

    @property
    def is_measured(self) -> bool:
        """Whether this version was run."""
        return self.version == MEASURED
