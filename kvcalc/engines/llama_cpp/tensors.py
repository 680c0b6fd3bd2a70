"""What llama.cpp stores for each kind of layer: tensors of its caches, in its formats, with its cells.

One K and one V for each layer (for MLA only K, latent and rotary key in one row), states in float32.
Source: llama.cpp, src/llama-kv-cache*.cpp and src/llama-memory-*.cpp.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from kvcalc.attention.compressed import CompressedAttention
from kvcalc.attention.cross import CrossAttention
from kvcalc.attention.gated_deltanet import GatedDeltaNet
from kvcalc.attention.gqa import GroupedQueryAttention
from kvcalc.attention.indexer import Indexer
from kvcalc.attention.kda import KimiDeltaAttention
from kvcalc.attention.lightning import LightningAttention
from kvcalc.attention.mamba import Mamba
from kvcalc.attention.mamba2 import Mamba2
from kvcalc.attention.mla import MultiHeadLatentAttention
from kvcalc.attention.mla_naive import NaiveMultiHeadLatentAttention
from kvcalc.attention.none import NoCache
from kvcalc.attention.short_conv import ShortConvolution
from kvcalc.attention.wkv import MatrixWkv
from kvcalc.cache.dtypes import FP32, Dtype
from kvcalc.cache.slots.rule import SlotRule
from kvcalc.cache.tensor import CacheTensor, Dim
from kvcalc.engines.llama_cpp.cells import Cells
from kvcalc.errors import NotApplicableError
from kvcalc.model import Attention, LayerGroup, Model

Tensors = tuple[CacheTensor, ...]
STATES = (GatedDeltaNet, KimiDeltaAttention, LightningAttention, Mamba, Mamba2, MatrixWkv, ShortConvolution)
"""Kinds whose states it keeps unchanged, in float32."""
CSA_RATIO, HCA_RATIO = 4, 128
"""The ratios of DeepSeek-V4 with separate caches."""
_OVERLAPPING = 2
_WIDEST = "widest row of V"


class Rows(NamedTuple):
    """Heads of a part, and the widths of one in K and in V."""

    heads: Dim
    key: Dim
    value: Dim

    @property
    def value_row(self) -> int:
        """Elements of a row of V."""
        return self.heads.size * self.value.size


class Layout(NamedTuple):
    """How one context stores a model.

    windows: whether sliding layers have separate caches. expands: whether MLA's latent is expanded first. latent:
    whether there is MLA that is not; then no cache has a V. k_only_index: whether the indexer's cache has no V.
    flash_attn: without it V is stored transposed. widens: whether every row of V then has the widest width.
    latent_values: whether a latent is stored a second time as V. indexes: whether indexers have caches.
    """

    cells: Cells
    type_k: Dtype
    type_v: Dtype
    windows: bool
    expands: bool
    latent: bool
    k_only_index: bool
    flash_attn: bool
    empty_layers: bool
    widens: bool
    widest_v: int = 0
    widest_v_head: int = 0
    latent_values: bool = False
    indexes: bool = True

    def of(self, model: Model, group: LayerGroup) -> Tensors:
        """Tensors of one layer of `group`. Raises NotApplicableError for a kind that llama.cpp does not have."""
        return tuple(tensor for part in group.parts for tensor in self._of_part(model, group, part))

    def _of_part(self, model: Model, group: LayerGroup, part: Attention) -> Iterator[CacheTensor]:
        if isinstance(part, STATES):
            rows_of_states = self.cells.states()
            yield from (tensor._replace(slot_rule=rows_of_states, dtype=FP32) for tensor in part.tensors())
        elif isinstance(part, CompressedAttention):
            yield from self._compressed(part)
        elif isinstance(part, Indexer):
            yield from self._index(group, part) if self.indexes else ()
        elif isinstance(part, MultiHeadLatentAttention) and not self.expands:
            width = part.kv_lora_rank + part.qk_rope_head_dim
            name = "kv_lora_rank + qk_rope_head_dim" if part.qk_rope_head_dim else "kv_lora_rank"
            yield self._tensor("k", self._cells_of(part), self.type_k, Dim(name, width))
            if self.latent_values:
                yield self._tensor("v", self._cells_of(part), self.type_v, Dim("kv_lora_rank", part.kv_lora_rank))
        elif (rows := rows_of(part)) is not None:
            cells = self._cells_of(part)
            yield self._tensor("k", cells, self.type_k, rows.heads, rows.key)
            yield self._value("v", cells, rows.heads, rows.value)
        elif isinstance(part, NoCache) and self.empty_layers and self.widens:
            yield self._tensor("v", self.cells.full(), self.type_v, Dim(_WIDEST, self.widest_v))
        elif not isinstance(part, NoCache | CrossAttention):
            raise NotApplicableError(
                f"llama.cpp has no {part.label} layers, as {group.name} layers of {model.name} are",
                help="try another --engine",
            )

    def _cells_of(self, part: Attention) -> SlotRule:
        window = getattr(part, "sliding_window", None) or getattr(part, "attention_chunk_size", None)
        return self.cells.sliding(window) if window and self.windows else self.cells.full()

    def _index(self, group: LayerGroup, part: Indexer) -> Iterator[CacheTensor]:
        """A cache of one head; its V is never read, and left out with MLA."""
        width = Dim("index_head_dim", part.index_head_dim)
        pooled = (Dim("key, gate and pooled", 3),) if part.index_pooling else ()
        yield self._tensor("index_k", self.cells.full(), self.type_k, *pooled, width)
        rows = next((rows for other in group.parts if (rows := rows_of(other))), None)
        if rows is not None and not (self.latent or self.k_only_index):
            head = self.widest_v_head if self.widens else rows.value.size
            yield self._tensor("index_v", self.cells.full(), self.type_v, Dim(rows.value.name, head))

    def _value(self, name: str, rule: SlotRule, heads: Dim, value: Dim) -> CacheTensor:
        if not self.widens or heads.size * value.size == self.widest_v:
            return self._tensor(name, rule, self.type_v, heads, value)
        return self._tensor(name, rule, self.type_v, Dim(_WIDEST, self.widest_v))

    def _compressed(self, part: CompressedAttention) -> Iterator[CacheTensor]:
        """DeepSeek-V4: only K of the window, of compressed entries and of their index; states of the compressor."""
        entry = Dim("head_dim", part.head_dim)
        yield self._tensor("k", self.cells.sliding(part.sliding_window), self.type_k, entry)
        if part.compress_rate not in (CSA_RATIO, HCA_RATIO):
            return
        rule = self.cells.compressed(part.compress_rate)
        yield self._tensor("compressed_k", rule, self.type_k, entry)
        states = {"": entry}
        if part.index_head_dim:
            index = Dim("index_head_dim", part.index_head_dim)
            yield self._tensor("index_k", rule, self.type_k, index)
            states["index_"] = index
        tokens = part.compress_rate * (_OVERLAPPING if part.index_head_dim else 1)
        for name, width in states.items():
            both = (Dim("overlapping_entries", _OVERLAPPING),) if part.index_head_dim else ()
            dims = (Dim("kv_and_score", 2), Dim("state_tokens", tokens), *both, width)
            yield CacheTensor(f"{name}state", dims, self.cells.planes(), FP32, quantizable=False)

    @staticmethod
    def _tensor(name: str, rule: SlotRule, dtype: Dtype, *dims: Dim) -> CacheTensor:
        tensor = CacheTensor(name, dims, rule, dtype)
        if tensor.elements_per_slot % dtype.block_elements:
            raise NotApplicableError(
                f"a row of {name} has {tensor.elements_per_slot:,} elements, which {dtype} cannot store in blocks of "
                f"{dtype.block_elements}",
                help="use type_k=f16, type_v=f16",
            )
        return tensor


def rows_of(part: Attention) -> Rows | None:
    """Rows of K and V of a part that caches both for its heads, with MLA expanded; None for others."""
    if isinstance(part, GroupedQueryAttention):
        name = "head_dim" if part.v_head_dim is None else "v_head_dim"
        value = Dim(name, part.v_head_dim or part.head_dim)
        return Rows(Dim("num_kv_heads", part.num_kv_heads), Dim("head_dim", part.head_dim), value)
    if isinstance(part, NaiveMultiHeadLatentAttention | MultiHeadLatentAttention):
        key = Dim("qk_head_dim", part.qk_nope_head_dim + part.qk_rope_head_dim)
        return Rows(Dim("num_query_heads", part.num_query_heads), key, Dim("v_head_dim", part.v_head_dim))
    return None


def head_widths(model: Model, *, expands: bool) -> Iterator[tuple[int, int]]:
    """Widths of key and value heads of each part with heads, as counted by llama.cpp."""
    for group in (*model.groups, *model.draft_groups):
        for part in group.parts:
            if isinstance(part, MultiHeadLatentAttention) and not expands:
                yield part.kv_lora_rank + part.qk_rope_head_dim, part.kv_lora_rank
            elif isinstance(part, CompressedAttention):
                yield part.head_dim, part.head_dim
            elif rows := rows_of(part):
                yield rows.key.size, rows.value.size


def widest_values(model: Model) -> tuple[int, int]:
    """Largest row of V and largest head of it, over all layers including those for multi-token prediction."""
    groups = (*model.groups, *model.draft_groups)
    found = [rows for group in groups for part in group.parts if (rows := rows_of(part))]
    return max((rows.value_row for rows in found), default=0), max((rows.value.size for rows in found), default=0)
