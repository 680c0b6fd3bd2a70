"""llama.cpp: `llama_kv_cache: size = 512.00 MiB ( 4096 cells, 32 layers, 1/1 seqs), K (f16): 256.00 MiB, V (f16): ...`.

Older builds print `KV self size = 512.00 MiB, K (f16): 256.00 MiB, V (f16): 256.00 MiB`, and recurrent memory
`llama_memory_recurrent: size = ..., R (f32): 16.88 MiB, S (f32): 432.00 MiB`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from kvcalc.fleet.explain import Printed, Reading
from kvcalc.io.engine_logs import last_value, matches
from kvcalc.report.sheet import Json

LOOKED_FOR = "'llama_kv_cache: size = ... MiB (...), K (f16): ... MiB, V (f16): ... MiB', 'KV self size = ...'"
_PAIR = r"{} \((?P<{}_type>\w+)\): *(?P<{}>\d+(?:\.\d+)?) MiB"
_KV = re.compile(rf"size *= *\d+(?:\.\d+)? MiB.*{_PAIR.format('K', 'K', 'K')}(?:, *{_PAIR.format('V', 'V', 'V')})?")
_STATES = re.compile(rf"size *= *\d+(?:\.\d+)? MiB.*{_PAIR.format('R', 'R', 'R')}(?:, *{_PAIR.format('S', 'S', 'S')})?")
_PARAMETERS = {
    "n_ctx": r"\bn_ctx *= *(\d+)",
    "n_seq_max": r"\bn_seq_max *= *(\d+)",
    "n_batch": r"\bn_batch *= *(\d+)",
    "n_ubatch": r"\bn_ubatch *= *(\d+)",
    "n_rs_seq": r"\b(\d+) rs_seq",
    "flash_attn": r"\bflash_attn *= *(\w+)",
    "kv_unified": r"\bkv_unified *= *(\w+)",
}
_FULL = re.compile(r"using (full)-size SWA cache")
_WITHOUT_SIZE = ("0.00", "0")


def read(lines: Sequence[str]) -> Reading | None:
    """K, V, R and S of each cache, and the parameters of the context."""
    caches: list[Mapping[str, Printed]] = []
    settings: dict[str, Json] = {}
    for number, found in (*matches(_KV, lines), *matches(_STATES, lines)):
        letters = {name: text for name, text in found.groupdict().items() if text and not name.endswith("_type")}
        caches.append({letter: Printed(text, "MiB", number) for letter, text in letters.items()})
        for letter in ("K", "V"):
            if letters.get(letter, "0") not in _WITHOUT_SIZE:
                settings[f"type_{letter.lower()}"] = found[f"{letter}_type"]
    if not caches:
        return None
    settings.setdefault("type_v", settings.get("type_k"))
    for name, pattern in _PARAMETERS.items():
        value = last_value(re.compile(pattern), lines)
        if value is not None:
            settings[name] = int(value) if value.isdecimal() else value
    if last_value(_FULL, lines):
        settings["swa_full"] = True
    return Reading("llama_cpp", tuple(caches), {name: v for name, v in settings.items() if v is not None}, {})
