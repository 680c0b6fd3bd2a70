"""Start-up errors that are not about the cache: memory that ran out elsewhere, and lengths beyond the model's.

They report no cache to predict; the answer is their meaning and what to do about it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from kvcalc.io.engine_logs import Lines

_LESS = (
    "leave more memory outside the cache: a lower gpu_memory_utilization or mem_fraction_static, fewer sequences or "
    "batched tokens; `kvcalc fit MODEL --gpu NAME` shows what fits"
)
_WEIGHTS = "keep fewer layers on the GPU (-ngl), or use a smaller quantisation; `kvcalc weights MODEL` sizes them"


_MOST_DIGITS = 25


class _Error(NamedTuple):
    """An error: its pattern, its explanation with groups filled in, and what to try."""

    pattern: re.Pattern[str]
    what: str
    help: str


_ERRORS = (
    _Error(
        re.compile(
            r"out of memory\. Tried to allocate (?P<size>[\d.]+ [KMG]iB)[^\n]{0,400}?"
            r"(?:of which (?P<free>[\d.]+ [KMG]iB) is free|(?P<left>[\d.]+ [KMG]iB) free)"
        ),
        "memory ran out outside the cache: {size} more were requested, {free} were free",
        _LESS,
    ),
    _Error(
        re.compile(r"out of memory occurred when warming up sampler with (?P<size>\d+) dummy requests"),
        "memory ran out outside the cache, in a first batch of {size} requests",
        "lower --max-num-seqs, or --gpu-memory-utilization",
    ),
    _Error(
        re.compile(
            r"User-specified max_model_len \((?P<size>\d+)\) is greater than the derived max_model_len \([^)\n]{0,200}?"
            r"=(?P<free>\d+)"
        ),
        "max_model_len is {size}, but the model's config ends at {free}: memory is not the cause",
        "lower --max-model-len, or set VLLM_ALLOW_LONG_MAX_MODEL_LEN=1 with rope scaling in --hf-overrides",
    ),
    _Error(
        re.compile(
            r"(?:unable to allocate (?P<size>\w+) buffer|(?P<free>failed to load model)[^\n]{0,200}out of memory)"
        ),
        "the weights do not fit on the device ({size}), and no cache was allocated",
        _WEIGHTS,
    ),
    _Error(
        re.compile(r"memory capacity is unbalanced"),
        "SGLang found less memory free on some GPUs than on others: other processes hold it, and no cache was made",
        "stop them (nvidia-smi lists them), or pick other GPUs with CUDA_VISIBLE_DEVICES",
    ),
    _Error(
        re.compile(r"llama runner process has terminated[^\n]{0,200}out of memory"),
        "Ollama's runner ran out of memory while it loaded the model; this line does not say for what",
        "pass its server log, which has the sizes (journalctl -u ollama), or lower num_ctx",
    ),
    _Error(
        re.compile(r"memory layout cannot be allocated"),
        "Ollama found no layout of the model's layers that fits in the free memory",
        "unload other models (ollama stop), or use a shorter num_ctx; `kvcalc size MODEL --engine ollama` sizes it",
    ),
    _Error(
        re.compile(r"No enough (?:gpu )?memory for (?:kv cache|runtime)", re.IGNORECASE),
        "LMDeploy has no memory left for its cache after the weights",
        "raise --cache-max-entry-count if memory is free, lower --max-prefill-token-num, or add --tp",
    ),
    _Error(
        re.compile(r"Not enough memory to handle (?P<size>\d+) (?:total|prefill) tokens"),
        "TGI has no memory for a batch of {size} tokens; its cache is not modelled",
        "lower --max-batch-prefill-tokens, or size the model with --engine ideal",
    ),
    _Error(
        re.compile(r"Setting max batch total tokens to (?P<size>\d+)"),
        "this is a log of TGI, whose cache is not modelled: it holds {size} tokens, but does not state their bytes",
        "`kvcalc size MODEL --tokens N --engine ideal` sizes N tokens without any engine's padding",
    ),
)


def _grouped(text: str) -> str:
    """A count with separators; anything else unchanged."""
    return f"{int(text):,}" if text.isdecimal() and len(text) < _MOST_DIGITS else text


def error_outside(lines: Sequence[str]) -> tuple[int, str, str] | None:
    """The last such error: its line, its meaning, and the next thing to try; None if there is none."""
    log = lines if isinstance(lines, Lines) else Lines(lines)
    found: list[tuple[int, str, str]] = []
    for error in _ERRORS:
        number, match = log.last_match(error.pattern)
        if match is not None:
            numbers = {name: _grouped(text) for name, text in match.groupdict().items() if text}
            numbers.setdefault("free", numbers.get("left", "less"))
            numbers.setdefault("size", "all of it")
            found.append((number, error.what.format(**numbers), error.help))
    return max(found, default=None)
