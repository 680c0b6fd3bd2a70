"""llama.cpp: `llama_kv_cache: size = 512.00 MiB ( 4096 cells, 32 layers, 1/1 seqs), K (f16): 256.00 MiB, V (f16): ...`.

Older builds print `KV self size = 512.00 MiB, K (f16): 256.00 MiB, V (f16): 256.00 MiB`, ik_llama.cpp for latents
`KV self size = 2196.00 MiB, c^KV (f16): 2196.00 MiB, kv^T: not used`, and recurrent memory
`llama_memory_recurrent: size = ..., R (f32): 16.88 MiB, S (f32): 432.00 MiB`. Out of memory they say `failed to
allocate CUDA0 buffer of size 37748736000` and `failed to allocate buffer for kv cache`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from kvcalc.fleet.explain import Printed, Reading, Refusal
from kvcalc.fleet.explain._reading import NEEDED
from kvcalc.fleet.explain.llama_cpp import FREE, WEIGHTS
from kvcalc.io.engine_logs import last_in, last_value, matches
from kvcalc.report.sheet import Json

LOOKED_FOR = (
    "'llama_kv_cache: size = ... MiB (...), K (f16): ... MiB, V (f16): ... MiB', 'KV self size = ...', "
    "'failed to allocate buffer for kv cache'"
)
_SIZE = r"size *= *\d+(?:\.\d+)? MiB.*"


def _line(first: str, second: str, letters: str) -> re.Pattern[str]:
    """A line of two sizes, which are called `letters`; the second may be missing, or not used."""
    one, two = letters[0], letters[1]
    size = r" \((?P<{0}_type>\w+)\): *(?P<{0}>\d+(?:\.\d+)?) MiB"
    return re.compile(_SIZE + first + size.format(one) + f"(?:, *{second}{size.format(two)})?")


_KV = _line("K", "V", "KV")
_LATENT = _line(r"c\^KV", r"kv\^T", "KV")
_STATES = _line("R", "S", "RS")
_PARAMETERS = {
    "n_ctx": r"\bn_ctx *= *(\d+)",
    "n_seq_max": r"\bn_seq_max *= *(\d+)",
    "n_batch": r"\bn_batch *= *(\d+)",
    "n_ubatch": r"\bn_ubatch *= *(\d+)",
    "n_rs_seq": r"\b(\d+) rs_seq",
    "flash_attn": r"\bflash_attn *= *(\w+)",
    "kv_unified": r"\bkv_unified *= *(\w+)",
}
_ASKED = {
    "n_ctx": r"(?:^|\s)(?:-c|--ctx-size)[ =](\d+)|\bn_ctx_seq \((\d+)\)",
    "type_k": r"(?:^|\s)(?:-ctk|--cache-type-k)[ =](\w+)",
    "type_v": r"(?:^|\s)(?:-ctv|--cache-type-v)[ =](\w+)",
    "n_seq_max": r"(?:^|\s)(?:-np|--parallel)[ =](\d+)",
}
"""Arguments of a command line, where the context itself prints nothing: it ended before."""
_FULL = re.compile(r"using (full)-size SWA cache")
_BUILD = re.compile(r"\b(?:build_info|build|system_info): *(?:build *= *)?(b?\d{4,6})\b")
_IK = re.compile(r"(mla_attn) *=|(fused_moe) *=|(c\^KV) ")
_FAILED = re.compile(r"failed\s+to\s+allocate\s+(?:buffer\s+for\s+kv\s+cache|compute\s+buffers)")
_BUFFER = re.compile(r"failed to allocate (?:\w+ )?buffer of size (\d+)|attempted to allocate (\d+(?:\.\d+)?) MB")
_FREE = re.compile(r"using device \S+ \(.*\) .*?- (\d+) MiB free")
_WEIGHTS = re.compile(r"(?!CPU|.*_Mapped)\b(\w+) model buffer size = +(\d+(?:\.\d+)?) MiB")
_WITHOUT_SIZE = ("0.00", "0")
_BY_NAME = {"kv": "the buffer of the cache cannot be allocated", "compute": "the buffers of the computation cannot"}


def read(lines: Sequence[str]) -> Reading | None:
    """K, V, R and S of each cache, the parameters of the context, and the error that ended it."""
    caches: list[Mapping[str, Printed]] = []
    settings: dict[str, Json] = {}
    latents = list(matches(_LATENT, lines))
    for number, found in (*(latents or matches(_KV, lines)), *matches(_STATES, lines)):
        letters = {name: text for name, text in found.groupdict().items() if text and not name.endswith("_type")}
        caches.append({letter: Printed(text, "MiB", number) for letter, text in letters.items()})
        for letter in ("K", "V"):
            if letters.get(letter, "0") not in _WITHOUT_SIZE:
                settings[f"type_{letter.lower()}"] = found[f"{letter}_type"]
    refusal = _refusal(lines, last_line=max((each.line for cache in caches for each in cache.values()), default=0))
    if not caches and refusal is None:
        return None
    for name, pattern in (*_ASKED.items(), *_PARAMETERS.items()):
        for _, match in matches(re.compile(pattern), lines):
            value = next((text for text in match.groups() if text), "")
            if name not in ("type_k", "type_v") or not caches:
                settings[name] = int(value) if value.isdecimal() else value
    if caches or "type_k" in settings:
        settings.setdefault("type_v", settings.get("type_k"))
    if last_value(_FULL, lines) or (next(matches(_IK, lines), None) and not latents):
        settings["swa_full"] = True  # ik_llama.cpp has no caches for windows
    if build := _build(lines):
        settings["version"] = build
    return Reading(
        "llama_cpp",
        tuple(caches),
        {name: value for name, value in settings.items() if value is not None},
        {},
        refusal=refusal,
        device=_device(lines),
    )


def _build(lines: Sequence[str]) -> str:
    """The build of llama.cpp; those of ik_llama.cpp are counted otherwise."""
    build = last_value(_BUILD, lines)
    if build is None or next(matches(_IK, lines), None):
        return ""
    return build if build.startswith("b") else f"b{build}"


def _refusal(lines: Sequence[str], last_line: int) -> Refusal | None:
    """The buffer that could not be had: of the cache, or of the computation beside a cache that could."""
    if (one := last_in(_FAILED, lines)) is None or (one[0] < last_line and "kv" in one[1][0]):
        return None
    line, found = one
    of_cache = "kv" in found[0]
    if not of_cache:
        return Refusal(_BY_NAME["compute"], line)
    numbers: dict[str, Printed] = {}
    for number, match in matches(_BUFFER, lines[:line]):
        numbers[NEEDED] = Printed(match[1], "", number) if match[1] else Printed(match[2], "MB", number)
    return Refusal(_BY_NAME["kv"], line, numbers)


def _device(lines: Sequence[str]) -> dict[str, Printed]:
    """What the one device had free before, and the weights on it; nothing where there are several."""
    free, weights = list(matches(_FREE, lines)), list(matches(_WEIGHTS, lines))
    if len(free) != 1 or len({match[1] for _, match in weights}) != 1:
        return {}
    return {
        FREE: Printed(free[0][1][1], "MiB", free[0][0]),
        WEIGHTS: Printed(weights[-1][1][2], "MiB", weights[-1][0]),
    }
