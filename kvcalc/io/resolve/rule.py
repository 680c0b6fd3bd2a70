"""The core of a repository's name that no table lists: without suffixes that do not change the cache.

    RedHatAI/Qwen3-8B-quantized.w4a16   ->   qwen3-8b, without quantized.w4a16

The organisation never decides, since copies keep names. Only whole words are removed, from the end; the rest must be
the core of exactly one preset, or the name is refused: prefixes and similar names are not enough, because distils,
drafts, pruned models and other releases have nearly the same names.
"""

from __future__ import annotations

import re
from typing import NamedTuple

LONGEST = 200
"""Characters at which a name is too long for a repository."""
_WEIGHTS = re.compile(
    r"(?:gguf|mlx|dwq|qat|i1|ud|marlin|awq(?:-int4)?|gptq(?:-int[48])?|fp8(?:-dynamic|-block|-static-pertensor|-kv)?"
    r"|nvfp4|mxfp[48]|fp4|int[48]|int4-autoround|w4a16|w8a8|quantized\.w\w+|(?:unsloth-)?bnb-4bit|\d{1,2}bit|bf16|fp16)"
)
"""Formats of weights: another file, the same cache."""
_TUNED = frozenset(("instruct", "chat", "it", "base", "pt", "hf"))
"""Suffixes for tuning: the same shape."""
_CONTEXTS = {"128k": 131072}
"""Suffixes for another context, in tokens."""
_BASE_IS_A_SIZE = ("bart", "t5", "flan", "whisper", "xlnet")
"""Families with a size called `base`."""
_LONGEST_ENDING = 3


class Core(NamedTuple):
    """A name without its suffixes. weights, tuned: removed suffixes; context: tokens given by one."""

    name: str
    weights: str = ""
    tuned: str = ""
    context: int | None = None


def core_of(repository: str) -> Core:
    """The core of a name, in lower case."""
    words = repository.rpartition("/")[2].lower().replace("_", "-").removesuffix(".gguf").split("-")
    weights: list[str] = []
    tuned: list[str] = []
    context = None
    while ending := _ending(words):
        words = words[: -ending.count("-") - 1]
        if ending in _CONTEXTS:
            context = _CONTEXTS[ending]
        else:
            (tuned if ending in _TUNED else weights).insert(0, ending)
    name = "-".join(words)
    name = name.removeprefix("meta-") if name.startswith("meta-llama-") else name
    return Core(name, "-".join(weights), "-".join(tuned), context)


def _ending(words: list[str]) -> str:
    """The longest suffix that does not change the cache, of up to three words; empty if none."""
    for number in range(min(_LONGEST_ENDING, len(words) - 1), 0, -1):
        ending = "-".join(words[-number:])
        if _WEIGHTS.fullmatch(ending) or ending in _CONTEXTS:
            return ending
        if ending in _TUNED and not (ending == "base" and words[0] in _BASE_IS_A_SIZE):
            return ending
    return ""


def format_of(name: str, weights: str) -> str:
    """Format of weights (`kvcalc.model.weight_formats`) by a repository's name and its entry.

    Empty if they are the preset's own; as written if the format is unclear.
    """
    lowered = name.lower()
    if weights == OLLAMA:
        said = _OF_A_TAG.search(lowered)
        return said[1] if said else _OLLAMA_DEFAULT
    bits = _BITS.search(lowered)
    number = (bits[1] or bits[2]) if bits else ""
    match weights:
        case "mlx" | "dwq" | "bnb" if number:
            return f"{'bnb' if weights == 'bnb' else 'mlx'}-{number}bit"
        case "gptq":
            return "gptq-8bit" if number == "8" else "gptq"
        case "fp8":
            return "fp8-channel" if _BY_ROW.search(lowered) else "fp8"
    return weights.removeprefix("quantized.")


OLLAMA = "ollama"
_OLLAMA_DEFAULT = "q4_k_m"
"""Format of most tags without one."""
_OF_A_TAG = re.compile(r"-((?:q\d(?:_\w+)?|fp16|bf16|mxfp4))$")
_BITS = re.compile(r"([2-8])-?bit|(?:int|w)([48])")
_BY_ROW = re.compile(r"dynamic|fp8-kv|static|redhatai|neuralmagic")
"""Names of FP8 checkpoints with scales per row or matrix instead of per block."""
