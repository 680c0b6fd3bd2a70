"""The caches that MLX-LM creates for a model: arrays of each layer, their slots and format."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

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
from kvcalc.attention.rg_lru import GatedLinearRecurrence
from kvcalc.attention.short_conv import ShortConvolution
from kvcalc.attention.wkv import MatrixWkv
from kvcalc.cache.dtypes import FP32, Dtype
from kvcalc.cache.slots.rule import SlotRule
from kvcalc.cache.tensor import CacheTensor
from kvcalc.engines.base.longest import Longest
from kvcalc.engines.mlx_lm.arrays import Reading
from kvcalc.engines.mlx_lm.classes import (
    CHUNKS,
    EXPANDS_LATENT,
    FAILS_QUANTISED,
    FILLS_VALUES,
    OWN_CACHES,
    STATES_IN_FLOAT32,
    makes_cache,
    window_of,
)
from kvcalc.engines.mlx_lm.quantised import Quantising
from kvcalc.errors import NotApplicableError
from kvcalc.model import Attention, LayerGroup, Model

_FLOAT32_STATES = (GatedDeltaNet, KimiDeltaAttention, Mamba2)
"""Kinds whose recurrent states are in float32 (gated_delta.py; ssm.py, compute_dt); convolutions have the model's
dtype."""
_MODEL_DTYPE_STATES = (GatedLinearRecurrence, LightningAttention, Mamba, MatrixWkv, ShortConvolution)
"""Kinds whose states have the dtype of their inputs."""
STATES = (*_FLOAT32_STATES, *_MODEL_DTYPE_STATES)


class Array(NamedTuple):
    """An array of a cache before quantisation. ring, chunked: whether its cache is a ring, or holds only a chunk."""

    group: LayerGroup
    tensor: CacheTensor
    ring: bool
    chunked: bool


class Caches(NamedTuple):
    """The caches of one model.

    module: of the model. max_kv_size: of rings in every layer, if the module uses MLX-LM's default caches. dtype: of
    the model. quantising: of long caches; None: never.
    """

    model: Model
    module: str
    reading: Reading
    max_kv_size: int | None
    dtype: Dtype
    quantising: Quantising | None

    def of(self, group: LayerGroup) -> Iterator[CacheTensor]:
        """Arrays of one layer of the group. Raises NotApplicableError for an unknown kind."""
        for part in group.parts:
            if isinstance(part, STATES):
                yield from self._states(part)
            elif self.module in OWN_CACHES:  # arrays trimmed to what the model itself keeps
                yield from part.tensors()
            else:
                for array in self._arrays(group, part):
                    yield from self._stored(array)

    def longest(self) -> Longest | None:
        """The longest sequence with kv_bits; None if unlimited."""
        if self.quantising is None:
            return None
        arrays = (array for group in self.model.groups for part in group.parts for array in self._arrays(group, part))
        limits = (self.quantising.limit(*array) for array in arrays)
        return next(filter(None, limits), self.quantising.fails(self.module) if self._fails else None)

    @property
    def _fails(self) -> bool:
        return self.module in FAILS_QUANTISED

    def _stored(self, array: Array) -> Iterator[CacheTensor]:
        if self.quantising is None or array.ring or array.chunked or not self.quantising.divides(array.tensor):
            yield array.tensor
        else:
            yield from self.quantising.stored(array.tensor)

    def _states(self, part: Attention) -> Iterator[CacheTensor]:
        in_float32 = isinstance(part, _FLOAT32_STATES) or self.module in STATES_IN_FLOAT32
        for tensor in part.tensors():
            yield tensor._replace(dtype=(FP32 if in_float32 else self.dtype) if tensor.dtype else None)

    def _arrays(self, group: LayerGroup, part: Attention) -> Iterator[Array]:
        """Arrays of a part that caches tokens; none for a part with states."""
        if isinstance(part, STATES):
            return
        window = window_of(part, self.module, self.model) if makes_cache(self.module) else self.max_kv_size
        chunk = part.attention_chunk_size if isinstance(part, GroupedQueryAttention) else None
        chunk = chunk if self.module in CHUNKS else None
        rule = self._slots(window, chunk)
        for tensor in self._tensors(group, part):
            own = tensor._replace(slot_rule=rule, dtype=tensor.dtype or self.dtype)
            yield Array(group, own, window is not None, chunk is not None)

    def _slots(self, window: int | None, chunk: int | None) -> SlotRule:
        if window is not None:
            return self.reading.ring(window)
        return self.reading.every_token() if chunk is None else self.reading.current_chunk(chunk)

    def _tensors(self, group: LayerGroup, part: Attention) -> tuple[CacheTensor, ...]:
        """Tensors of a part before counting slots."""
        if isinstance(part, MultiHeadLatentAttention) and self.module in EXPANDS_LATENT:
            return NaiveMultiHeadLatentAttention(
                num_query_heads=part.num_query_heads,
                qk_rope_head_dim=part.qk_rope_head_dim,
                qk_nope_head_dim=part.qk_nope_head_dim,
                v_head_dim=part.v_head_dim,
            ).tensors()
        if isinstance(part, GroupedQueryAttention | MultiHeadLatentAttention | NoCache):
            return part.tensors()
        if isinstance(part, Indexer) and not part.index_pooling:
            (key,) = part.tensors()
            return (key, key._replace(name="index_zeros")) if self.module in FILLS_VALUES else (key,)
        raise NotApplicableError(
            f"kvcalc does not know how MLX-LM stores {part.label} layers, as {group.name} layers of {self.model.name} "
            "are",
            help="try another --engine",
        )
