"""Ollama with its own engine, in Go: one cache of padded cells for all sequences, smaller in sliding layers.

`tokens` is the whole context, num_ctx x num_parallel, and `sequences` is num_parallel (OLLAMA_NUM_PARALLEL).
Established from its source (kvcache/causal.go); it was not run. Models that Ollama still runs with llama.cpp, as the
MLA of DeepSeek, are the llama_cpp engine's: there n_ctx is num_ctx * num_parallel, too.

    cells of full layers    = pad(num_parallel * num_ctx, 256)
    cells of sliding layers = pad(num_parallel * held + batch, 256), where held tokens are fewer than num_ctx; else full
    held = window, and one more where there are several sequences; 4096 for gpt-oss and gemma4, which keep more
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Self

from kvcalc.attention.gqa import GroupedQueryAttention
from kvcalc.attention.none import NoCache
from kvcalc.cache.dtypes import Dtype, dtype_named
from kvcalc.cache.slots.engines import in_steps, switched
from kvcalc.cache.slots.layers import once
from kvcalc.cache.slots.rule import SlotRule
from kvcalc.cache.tensor import CacheTensor
from kvcalc.engines.base import Allocation, Engine
from kvcalc.engines.base.checks import check_blocks, check_unchanged
from kvcalc.engines.base.settings import count_from, flag, one_of, setting
from kvcalc.errors import InvalidValueError, NotApplicableError
from kvcalc.model import LayerGroup, Model

_PADDING = 256
_TYPES = ("f16", "q8_0", "q4_0")
_COMPUTED = "bf16"
"""size's default kv_dtype, which Ollama has not: it stores f16, of as many bytes."""
_REMEMBERS = {"gpt_oss": 4096, "gemma4": 4096, "gemma4_text": 4096}
"""Types whose sliding layers hold more than their window, for prefixes to be resumed (NewSWAMemCache)."""


@dataclass(frozen=True)
class Ollama(Engine):
    """Environment and options, named and defaulted as Ollama names them."""

    TITLE = "Ollama"
    VERIFIED = "from source (kvcache/causal.go), not run"
    SHARES_CONTEXT = True
    MAX_SEQUENCES = 256

    kv_cache_type: str | None = setting(None, "OLLAMA_KV_CACHE_TYPE: f16, q8_0 or q4_0; none: f16, or size's kv_dtype")
    flash_attention: bool = setting(True, "OLLAMA_FLASH_ATTENTION; without it a quantised cache is not used")
    num_batch: int = setting(512, "tokens computed at once")
    num_parallel: int | None = setting(
        None, "sequences, where they shall differ from those that are asked for, which may then be 1"
    )

    def __post_init__(self) -> None:
        if self.kv_cache_type is not None:
            one_of(self.kv_cache_type, "kv_cache_type", _TYPES)
        flag(self.flash_attention, "flash_attention")
        count_from(self.num_batch, "num_batch", 1)
        count_from(self.num_parallel, "num_parallel", 1)

    def serving(self, sequences: int) -> Self:
        """With so many sequences. Raises InvalidValueError where num_parallel says otherwise."""
        if self.num_parallel not in (None, sequences) and sequences != 1:
            raise InvalidValueError(
                f"num_parallel ({self.num_parallel}) is not the number of sequences ({sequences:,})",
                field="num_parallel",
                help="leave num_parallel out: it is the number of sequences",
            )
        return replace(self, num_parallel=self.num_parallel or sequences)

    def allocate(self, model: Model, kv_dtype: Dtype) -> Allocation:
        """Cells of the context. Raises NotApplicableError for what the engine does not store."""
        check_unchanged(model, self.TITLE)
        dtype = _dtype(self, kv_dtype)
        return tuple(tuple(_tensors(model, group, self, dtype)) for group in model.groups)

    def notes(self, model: Model) -> tuple[str, ...]:
        """What of the settings is not used."""
        del model
        if self.kv_cache_type in (None, "f16") or self.flash_attention:
            return ()
        return (f"without flash attention Ollama ignores {self.kv_cache_type} and stores f16",)


def _tensors(model: Model, group: LayerGroup, settings: Ollama, dtype: Dtype) -> Iterator[CacheTensor]:
    for part in group.parts:
        if isinstance(part, GroupedQueryAttention):
            rule = _cells(part, model, settings)
            for tensor in part.tensors():
                check_blocks(f"a head of {tensor.name}", tensor.dims[-1].size, dtype, "Ollama")
                yield tensor._replace(slot_rule=rule, dtype=dtype)
        elif not isinstance(part, NoCache):
            raise NotApplicableError(
                f"kvcalc does not know how Ollama's engine stores {part.label} layers, as {group.name} layers of "
                f"{model.name} are",
                help="models that it runs with llama.cpp are sized by --engine llama_cpp",
            )


def _cells(part: GroupedQueryAttention, model: Model, settings: Ollama) -> SlotRule:
    """Cells of a layer; chunked layers keep every token."""
    sequences = settings.num_parallel or 1
    every = in_steps(_PADDING, _PADDING, words=f"every token, by {_PADDING}")
    if part.sliding_window is None:
        return every
    held = max(part.sliding_window + (sequences > 1), _REMEMBERS.get(model.model_type, 0))
    ring = -(-(sequences * held + settings.num_batch) // _PADDING) * _PADDING
    words = f"last {sequences} x {held:,} + {settings.num_batch:,}, by {_PADDING}"
    return switched(every, sequences * held + 1, once(ring), words=words)


def _dtype(settings: Ollama, kv_dtype: Dtype) -> Dtype:
    """Format of the cache. Raises NotApplicableError for one that Ollama has not."""
    name = settings.kv_cache_type or (kv_dtype.name if kv_dtype.name != _COMPUTED else "f16")
    if name not in (*_TYPES, "fp16"):
        raise NotApplicableError(f"Ollama stores no cache in {kv_dtype}", help=f"use one of {', '.join(_TYPES)}")
    return dtype_named(name if settings.flash_attention else "f16")


ENGINE = Ollama
