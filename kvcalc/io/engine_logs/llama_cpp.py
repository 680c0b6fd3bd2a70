"""llama.cpp: `llama_kv_cache: size = 512.00 MiB ( 4096 cells, 32 layers, 1/1 seqs), K (f16): 256.00 MiB, V (f16): ...`.

Older builds print `KV self size = 512.00 MiB, K (f16): 256.00 MiB, V (f16): 256.00 MiB`, ik_llama.cpp for latents `KV
self size = 2196.00 MiB, c^KV (f16): 2196.00 MiB, kv^T: not used`, and recurrent memory `llama_memory_recurrent: size =
..., R (f32): 16.88 MiB, S (f32): 432.00 MiB`. Out of memory they print `failed to allocate CUDA0 buffer of size
37748736000` and `failed to allocate buffer for kv cache`.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple

from kvcalc.fleet.explain import Printed, Reading, Refusal
from kvcalc.fleet.explain._reading import NEEDED
from kvcalc.fleet.explain.llama_cpp import FREE, WEIGHTS
from kvcalc.io.engine_logs import last_in, last_value, matches
from kvcalc.io.engine_logs._gguf import metadata_before
from kvcalc.report.sheet import Json

LOOKED_FOR = (
    "'llama_kv_cache: size = ... MiB (...), K (f16): ... MiB, V (f16): ... MiB', 'KV self size = ...', "
    "'failed to allocate buffer for kv cache'"
)
_SIZE = r"size *= *\d+(?:\.\d+)? MiB.{0,120}"


def _line(first: str, second: str, letters: str) -> re.Pattern[str]:
    """A line with two sizes, named `letters`; the second may be missing or unused."""
    one, two = letters[0], letters[1]
    size = r" \((?P<{0}_type>\w+)\): *(?P<{0}>\d+(?:\.\d+)?) MiB"
    return re.compile(_SIZE + first + size.format(one) + f"(?:, *{second}{size.format(two)})?")


_KV = _line("K", "V", "KV")
_LATENT = _line(r"c\^KV", r"kv\^T", "KV")
_STATES = _line("R", "S", "RS")
_TOTAL = re.compile(r"(?:\b[kK][vV] self size|\bllama_kv_cache\w*: +size) *= *(?P<total>\d+(?:\.\d+)?) Mi?B")
"""A size without K and V: from builds of 2023, or a truncated line."""
_BUFFER_OF = re.compile(r"\bllama_kv_cache\w*: +(\S+) KV buffer size *= *(?P<total>\d+(?:\.\d+)?) MiB")
"""What each device holds of a cache; the only lines of it where its own is not printed."""
_CELLS = re.compile(r"\( *(\d+) cells, *(\d+) layers(?:, *(\d+)(?:/ *(\d+))? seqs)?\)")
_PARAMETER = re.compile(r"constructing llama_context\b|\bn_(?:ctx|seq_max) *= *\d")
"""Lines of a context before its caches."""
_PARAMETERS = {
    "n_ctx": r"\bn_ctx *= *(\d+)|\bkv_size *= *(\d+)",
    "n_seq_max": r"\bn_seq_max *= *(\d+)|\bn_slots *= *(\d+)",
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
"""Command-line arguments, used if the context itself prints nothing because it failed earlier."""
_FORMS = (
    (re.compile(r"\b[kK][vV] self size *="), "2025-04-16"),
    (re.compile(r"llama_kv_cache_unified: size =.{0,80} layers, +\d+ seqs\)"), "2025-07-09"),
    (re.compile(r"llama_kv_cache_unified: size ="), "2025-08-15"),
)
"""Forms of a cache's line, with dates: streams, after a slash, since 2025-07-16; `unified` until August."""
_FULL = re.compile(r"using (full)-size SWA cache")
_BUILD = re.compile(r"\b(?:build_info|build|system_info): *(?:build *= *)?(b?\d{4,6})\b")
_IK = re.compile(r"(mla_attn) *=|(fused_moe) *=|(c\^KV) ")
_FAILED = re.compile(r"failed\s+to\s+allocate\s+(?:buffer\s+for\s+kv\s+cache|compute\s+buffers)")
_BUFFERS = (  # in bytes, or in MiB
    (re.compile(r"failed to allocate (?:\w+ )?buffer of size (\d+)"), ""),
    (re.compile(r"Device memory allocation of size (\d+) failed"), ""),
    (re.compile(r"attempted to allocate (\d+(?:\.\d+)?) MB"), "MB"),
    (re.compile(r"allocating (\d+(?:\.\d+)?) MiB on device \d+: \w+ failed"), "MiB"),
    (re.compile(r"failed to allocate buffer, size = +(\d+(?:\.\d+)?) MiB"), "MiB"),
)
_FREE = re.compile(r"using device \S{1,80} \(.{0,160}\) .{0,80}?- (\d+) MiB free")
_WEIGHTS = re.compile(r"(?!CPU|\w{0,40}_Mapped)\b(\w+) model buffer size = +(\d+(?:\.\d+)?) MiB")
_WITHOUT_SIZE = ("0.00", "0")
_BY_NAME = {"kv": "the buffer of the cache cannot be allocated", "compute": "the compute buffers cannot be allocated"}


def read(lines: Sequence[str]) -> Reading | None:
    """K, V, R and S of each cache of one context, its parameters, and its final error."""
    caches = _caches(lines)
    context = _largest(caches, lines)
    refusal = _refusal(lines, last_line=max((cache.line for cache in caches), default=0))
    if not caches and refusal is None:
        return None
    settings = _settings(lines, context)
    if last_value(_FULL, lines) or (next(matches(_IK, lines), None) and not any(cache.latent for cache in caches)):
        settings["swa_full"] = True  # ik_llama.cpp has no window caches
    if build := _build(lines):
        settings["version"] = build
    date = _by_form(lines)
    return Reading(
        "llama_cpp",
        tuple(cache.sizes for cache in context),
        {name: value for name, value in settings.items() if value is not None},
        {},
        refusal=refusal,
        device=_device(lines),
        notes=_several(caches, context),
        supposed={"version": date} if date else {},
        metadata=metadata_before(lines, context[0].line if context else len(lines)),
    )


# Caches of a context --------------------------------------------------------------------------------------------------


class _Cache(NamedTuple):
    """A line about a cache. cells: per stream; types: of K and V, if they store anything."""

    line: int
    sizes: Mapping[str, Printed]
    types: Mapping[str, str] = {}
    latent: bool = False
    cells: int = 0
    layers: int = 0
    seqs: int = 0
    streams: int = 0

    @property
    def bytes(self) -> Fraction:
        """Its total size."""
        return sum((each.value for each in self.sizes.values()), Fraction(0))


def _caches(lines: Sequence[str]) -> list[_Cache]:
    """Each cache's line; the total for builds that print no K and V; latents instead of their K."""
    latents = dict(matches(_LATENT, lines))
    split = latents or dict(matches(_KV, lines))
    found = {**split, **dict(matches(_STATES, lines))}
    if not latents:
        found |= {number: total for number, total in matches(_TOTAL, lines) if number not in split}
    if not any(found[number].re in (_KV, _LATENT, _TOTAL) for number in found):
        found |= dict(matches(_BUFFER_OF, lines))
    return [_cache(number, found[number], lines[number - 1], latent=bool(latents)) for number in sorted(found)]


def _cache(number: int, found: re.Match[str], line: str, *, latent: bool) -> _Cache:
    groups = {name: text for name, text in found.groupdict().items() if text}
    sizes = {name: Printed(text, "MiB", number) for name, text in groups.items() if not name.endswith("_type")}
    types = {name: groups[f"{name}_type"] for name in ("K", "V") if groups.get(name, "0") not in _WITHOUT_SIZE}
    stored = _CELLS.search(line)
    counts = [int(text or 0) for text in stored.groups()] if stored else []
    return _Cache(number, sizes, types, latent, *counts)


def _largest(caches: Sequence[_Cache], lines: Sequence[str]) -> list[_Cache]:
    """Caches of the context that stores most: a log may have several runs, and a draft's context besides the model's.

    A context ends when parameters are printed again, or the same layers are stored in another format.
    """
    starts = sorted(number for number, _ in matches(_PARAMETER, lines))
    contexts: list[list[_Cache]] = []
    for cache in caches:
        last = contexts[-1] if contexts else []
        begun = bisect_right(starts, cache.line) > bisect_right(starts, last[-1].line) if last else True
        if begun or any(_is_other_run(cache, each) for each in last):
            contexts.append([])
        contexts[-1].append(cache)
    return max(contexts, key=lambda context: sum(cache.bytes for cache in context), default=[])


def _is_other_run(one: _Cache, other: _Cache) -> bool:
    """Whether two caches with equal cells and layers differ in format, so they are from different contexts."""
    same = one.cells and (one.cells, one.layers) == (other.cells, other.layers)
    return bool(same) and one.types != other.types


def _several(caches: Sequence[_Cache], context: Sequence[_Cache]) -> tuple[str, ...]:
    others = [cache.line for cache in caches if cache not in context]
    if not others:
        return ()
    return (f"the log has several contexts: the largest is compared, not that of line {others[0]:,}",)


def _settings(lines: Sequence[str], context: Sequence[_Cache]) -> dict[str, Json]:
    """Parameters of the context, else derived from its caches; from a command line if it failed earlier."""
    settings: dict[str, Json] = {}
    for cache in context:
        settings |= {f"type_{letter.lower()}": word for letter, word in cache.types.items()}
    last = context[-1].line if context else len(lines)
    for name, pattern in (*_ASKED.items(), *_PARAMETERS.items()):
        found = list(matches(re.compile(pattern), lines))
        before = [match for number, match in found if number <= last]
        match = before[-1] if before else found[0][1] if found else None
        value = next((text for text in match.groups() if text), "") if match else ""
        if value and (name not in ("type_k", "type_v") or not context):
            settings[name] = int(value) if value.isdecimal() else value
    if context or "type_k" in settings:
        settings.setdefault("type_v", settings.get("type_k"))
    of_tokens = [cache for cache in context if not cache.sizes.keys() & {"R", "S"}]
    longest = max(of_tokens, key=lambda cache: cache.cells, default=None)
    if longest is not None and longest.cells:
        settings.setdefault("n_ctx", longest.cells * max(longest.streams, 1))
        settings |= {"n_seq_max": longest.seqs} if longest.seqs and "n_seq_max" not in settings else {}
        if longest.streams and longest.seqs > 1:
            settings.setdefault("kv_unified", "true" if longest.streams == 1 else "false")
    return settings


def _build(lines: Sequence[str]) -> str:
    """The build of llama.cpp; ik_llama.cpp numbers its builds differently."""
    build = last_value(_BUILD, lines)
    if build is None or next(matches(_IK, lines), None):
        return ""
    return build if build.startswith("b") else f"b{build}"


def _by_form(lines: Sequence[str]) -> str:
    """A date with this form of cache lines, if no build is named; empty for today's form."""
    if next(matches(_IK, lines), None):
        return ""
    return next((date for form, date in _FORMS if next(matches(form, lines), None)), "")


def _refusal(lines: Sequence[str], last_line: int) -> Refusal | None:
    """The buffer that could not be allocated: of the cache, or a compute buffer after the cache."""
    if (one := last_in(_FAILED, lines)) is None or (one[0] < last_line and "kv" in one[1][0]):
        return None
    line, found = one
    of_cache = "kv" in found[0]
    if not of_cache:
        return Refusal(_BY_NAME["compute"], line)
    numbers: dict[str, Printed] = {}
    tried = [Printed(found[1], unit, at) for each, unit in _BUFFERS for at, found in matches(each, lines[:line])]
    if tried:
        numbers[NEEDED] = max(tried, key=lambda printed: printed.line)
    return Refusal(_BY_NAME["kv"], line, numbers)


def _device(lines: Sequence[str]) -> dict[str, Printed]:
    """Free memory of a single device before, and the weights on it; nothing for several devices."""
    free, weights = list(matches(_FREE, lines)), list(matches(_WEIGHTS, lines))
    if len(free) != 1 or len({match[1] for _, match in weights}) != 1:
        return {}
    return {
        FREE: Printed(free[0][1][1], "MiB", free[0][0]),
        WEIGHTS: Printed(weights[-1][1][2], "MiB", weights[-1][0]),
    }
