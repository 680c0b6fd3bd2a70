"""Ollama's own engine, in Go: one cache of padded cells for all sequences, smaller in sliding layers.

    cells of full layers    = pad(num_parallel * num_ctx, 256)
    cells of sliding layers = pad(num_parallel * held + batch, 256), where held tokens are fewer than num_ctx; else full
    held = window, plus one with several sequences; 4096 for gpt-oss and gemma4, which keep more
    MLA: latent and rotary key as K, the latent again as V, one head

Without flash attention older versions pad to 32. Gemma 2 has its own cache without padding. Only the models of WINDOWED
have window caches; all others keep every token, whatever their window, as do chunked layers.
Source: kvcache/causal.go, kvcache/wrapper.go, ml/backend/ggml/ggml.go (CacheConfig), model/models/*/model.go.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from kvcalc.attention.gqa import GroupedQueryAttention
from kvcalc.attention.mla import MultiHeadLatentAttention
from kvcalc.attention.none import NoCache
from kvcalc.cache.dtypes import Dtype
from kvcalc.cache.slots.engines import in_steps, switched
from kvcalc.cache.slots.layers import once
from kvcalc.cache.slots.rule import SlotRule
from kvcalc.cache.tensor import CacheTensor, Dim
from kvcalc.engines.base.checks import check_blocks
from kvcalc.errors import NotApplicableError
from kvcalc.model import Attention, LayerGroup, Model

PADDING = 256
_GEMMA4 = ("gemma4", "gemma4_text", "gemma4_unified_text")
WINDOWED = frozenset(
    {
        *("gemma2", "gemma3", "gemma3_text", "gemma3n", "gemma3n_text", "gpt_oss", "laguna", "olmo3"),
        *_GEMMA4,
    }
)
"""Types whose sliding layers have separate caches (NewSWACache, NewSWAMemCache)."""
REMEMBERS = dict.fromkeys(("gpt_oss", *_GEMMA4), 4096)
"""Types whose sliding layers hold more than their window, to resume prefixes (NewSWAMemCache)."""
UNPADDED = frozenset({"gemma2"})
"""Types that set a CacheConfig without padding."""


class OwnEngine(NamedTuple):
    """One context. padding: cells per step. keeps_stop_token: one more for windows of several sequences."""

    sequences: int
    batch: int
    dtype: Dtype
    padding: int
    keeps_stop_token: bool

    def of(self, model: Model, group: LayerGroup) -> Iterator[CacheTensor]:
        """Tensors of a layer. Raises NotApplicableError for a kind whose storage is unknown."""
        for part in group.parts:
            for tensor in self._stored(model, group, part):
                check_blocks(f"a head of {tensor.name}", tensor.dims[-1].size, self.dtype, "Ollama")
                yield tensor._replace(slot_rule=self._cells(part, model), dtype=self.dtype)

    def _stored(self, model: Model, group: LayerGroup, part: Attention) -> tuple[CacheTensor, ...]:
        if isinstance(part, GroupedQueryAttention | NoCache):
            return part.tensors()
        if isinstance(part, MultiHeadLatentAttention):
            rule = in_steps(1, 1)
            key = Dim("kv_lora_rank + qk_rope_head_dim", part.kv_lora_rank + part.qk_rope_head_dim)
            return CacheTensor("k", (key,), rule), CacheTensor("v", (Dim("kv_lora_rank", part.kv_lora_rank),), rule)
        raise NotApplicableError(
            f"kvcalc does not know how Ollama's engine stores {part.label} layers, as {group.name} layers of "
            f"{model.name} are",
            help="use ollama 0.30 or later, where llama.cpp stores them",
        )

    def _cells(self, part: Attention, model: Model) -> SlotRule:
        padding = 1 if model.model_type in UNPADDED else self.padding
        by = f", by {padding}" if padding > 1 else ""
        every = in_steps(padding, padding, words=f"every token{by}")
        window = part.sliding_window if isinstance(part, GroupedQueryAttention) else None
        if window is None or model.model_type not in WINDOWED:
            return every
        spare = self.keeps_stop_token and self.sequences > 1
        held = max(window + spare, REMEMBERS.get(model.model_type, 0))
        ring = -(-(self.sequences * held + self.batch) // padding) * padding
        words = f"last {self.sequences} x {held:,} + {self.batch:,}{by}"
        return switched(every, self.sequences * held + self.keeps_stop_token, once(ring), words=words)
