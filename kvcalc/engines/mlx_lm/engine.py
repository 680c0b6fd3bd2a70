"""MLX-LM's caches of a model: which arrays each layer has, with how many slots, in which format."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

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
from kvcalc.cache.dtypes import BF16, FP32, Dtype
from kvcalc.cache.slots.rule import SlotRule
from kvcalc.cache.tensor import CacheTensor
from kvcalc.engines.base import Allocation, Engine
from kvcalc.engines.base.checks import check_unchanged
from kvcalc.engines.base.longest import Longest
from kvcalc.engines.base.settings import count_from, one_of, setting
from kvcalc.engines.mlx_lm.arrays import Reading
from kvcalc.engines.mlx_lm.classes import (
    CHUNKS,
    EXPANDS_LATENT,
    FAILS_QUANTISED,
    FILLS_VALUES,
    LISTS,
    OWN_CACHES,
    STATES_IN_FLOAT32,
    makes_cache,
    module_of,
    window_of,
)
from kvcalc.engines.mlx_lm.quantised import RING, WITHOUT_LIMIT, Quantising
from kvcalc.engines.mlx_lm.versions import MlxLmRelease
from kvcalc.errors import NotApplicableError
from kvcalc.model import Attention, LayerGroup, Model

_BITS, _GROUPS = (2, 3, 4, 5, 6, 8), (32, 64, 128)
_BY_KV_DTYPE = {"int4": 4, "int8": 8}
_KEPT = 4
"""Tokens that a ring of max_kv_size keeps from the start (make_prompt_cache)."""
_FLOAT32_STATES = (GatedDeltaNet, KimiDeltaAttention, Mamba2)
"""Kinds whose recurrent states are in float32 (gated_delta.py; ssm.py, compute_dt); convolutions are as the model."""
_MODEL_DTYPE_STATES = (GatedLinearRecurrence, LightningAttention, Mamba, MatrixWkv, ShortConvolution)
"""Kinds whose states have the format of what they are computed from."""
_STATES = (*_FLOAT32_STATES, *_MODEL_DTYPE_STATES)


@dataclass(frozen=True)
class MlxLm(Engine):
    """Arguments of `mlx_lm.generate`, named and defaulted as MLX-LM names them."""

    TITLE = "MLX-LM"
    VERIFIED = "measured: 1,210 caches of 48 small random models, run on a CPU, equal to the byte"
    RELEASE = MlxLmRelease

    version: str = setting(MlxLmRelease.newest(), "version of MLX-LM whose rules hold")
    max_kv_size: int | None = setting(
        None, "tokens of a ring in every layer, for models that do not make their caches themselves"
    )
    prefill_step_size: int = setting(2048, "tokens of a prompt's chunks")
    prompt_tokens: int | None = setting(None, "how many of the tokens the prompt was; none: all of them")
    kv_bits: int | None = setting(
        None, "8, 6, 5, 4, 3 or 2; none: as the model computes, or by size's kv_dtype, int8 or int4"
    )
    kv_group_size: int = setting(64, "elements that share a scale and a bias")
    quantized_kv_start: int = setting(5000, "tokens from which on caches are quantised")

    def __post_init__(self) -> None:
        count_from(self.max_kv_size, "max_kv_size", 1)
        count_from(self.prefill_step_size, "prefill_step_size", 1)
        count_from(self.prompt_tokens, "prompt_tokens", 1)
        if self.kv_bits is not None:
            one_of(self.kv_bits, "kv_bits", _BITS)
        one_of(self.kv_group_size, "kv_group_size", _GROUPS)
        count_from(self.quantized_kv_start, "quantized_kv_start", 0)

    def allocate(self, model: Model, kv_dtype: Dtype) -> Allocation:
        """Arrays of the caches. Raises NotApplicableError for what MLX-LM refuses, and for what is not known of it."""
        check_unchanged(model, self.TITLE)
        caches = _Caches(self, model, kv_dtype)
        return tuple(tuple(caches.of(group)) for group in model.groups)

    def longest(self, model: Model, kv_dtype: Dtype) -> Longest | None:
        """Up to where kv_bits goes: rings, odd rows and some modules fail once their caches are quantised."""
        return _Caches(self, model, kv_dtype).longest()

    def notes(self, model: Model) -> tuple[str, ...]:
        """What of the settings is not used, and what was assumed of the weights."""
        module = module_of(model)
        found = []
        if self.max_kv_size is not None and makes_cache(module):
            found.append(f"max_kv_size is ignored: MLX-LM's {module} makes its caches itself")
        if self.kv_bits is not None and module in LISTS | OWN_CACHES:
            what = "lists of caches" if module in LISTS else "caches of its own"
            found.append(f"kv_bits is ignored: MLX-LM's {module} has {what}, which are not quantised")
        parts = [part for group in model.groups for part in group.parts]
        if module not in STATES_IN_FLOAT32 and any(isinstance(part, Mamba) for part in parts):
            found.append(
                "states of Mamba are in the format of A_log, taken as that of all weights: float32 is twice that"
            )
        return tuple(found)


class _Caches:
    """The caches of one model with these settings."""

    def __init__(self, settings: MlxLm, model: Model, kv_dtype: Dtype) -> None:
        self.model = model
        self.module = module_of(model)
        self.reading = Reading(settings.prefill_step_size, settings.prompt_tokens)
        self.max_kv_size = None if makes_cache(self.module) else settings.max_kv_size
        if self.max_kv_size is not None and self.max_kv_size < _KEPT:
            raise NotApplicableError(
                f"a ring keeps its first {_KEPT} tokens, more than the {self.max_kv_size} of max_kv_size",
                help=f"write max_kv_size={_KEPT}, or more",
            )
        bits = settings.kv_bits or _BY_KV_DTYPE.get(kv_dtype.name)
        if not (bits or kv_dtype.is_computed_in):
            raise NotApplicableError(f"MLX-LM stores no cache in {kv_dtype}", help="use bf16, fp16, or kv_bits=8 or 4")
        self.model_dtype = kv_dtype if kv_dtype.is_computed_in else BF16
        self.quantising = None
        if bits and self.module not in LISTS | OWN_CACHES:
            self.quantising = Quantising(bits, settings.kv_group_size, settings.quantized_kv_start, self.model_dtype)

    def of(self, group: LayerGroup) -> Iterator[CacheTensor]:
        """Arrays of one layer of the group."""
        for part in group.parts:
            if isinstance(part, _STATES):
                yield from self._states(part)
                continue
            if self.module in OWN_CACHES:  # arrays that are cut to what the model itself keeps
                yield from part.tensors()
                continue
            for tensor, is_ring in self._arrays(part, group):
                if self.quantising and self._quantises(part, tensor, is_ring=is_ring):
                    yield from self.quantising.stored(tensor)
                else:
                    yield tensor

    def longest(self) -> Longest | None:
        """The first refusal on the way, of all layers."""
        if self.quantising is None:
            return None
        first = self.quantising.first
        for group in self.model.groups:
            for part in group.parts:
                for tensor, is_ring in () if isinstance(part, _STATES) else self._arrays(part, group):
                    if is_ring:
                        return Longest(
                            first - 1, f"{RING}: {group.name} layers keep {tensor.name} in a ring", WITHOUT_LIMIT
                        )
                    if not self._is_chunked(part) and not self.quantising.divides(tensor):
                        return Longest(first - 1, self.quantising.refusal(tensor), WITHOUT_LIMIT)
        if self.module in FAILS_QUANTISED:
            words = f"MLX-LM's {self.module} computes with its cache as with arrays, and fails on quantised ones"
            return Longest(first, words, WITHOUT_LIMIT)
        return None

    def _quantises(self, part: Attention, tensor: CacheTensor, *, is_ring: bool) -> bool:
        assert self.quantising is not None
        return not is_ring and not self._is_chunked(part) and self.quantising.divides(tensor)

    def _is_chunked(self, part: Attention) -> bool:
        return self.module in CHUNKS and isinstance(part, GroupedQueryAttention) and bool(part.attention_chunk_size)

    def _states(self, part: Attention) -> Iterator[CacheTensor]:
        in_float32 = isinstance(part, _FLOAT32_STATES) or self.module in STATES_IN_FLOAT32
        for tensor in part.tensors():
            yield tensor._replace(dtype=(FP32 if in_float32 else self.model_dtype) if tensor.dtype else None)

    def _arrays(self, part: Attention, group: LayerGroup) -> Iterator[tuple[CacheTensor, bool]]:
        """Arrays of a part that caches tokens, before any is quantised, and whether each is a ring."""
        window = self._ring(part)
        rule = self._slots(part, window)
        for tensor in self._stored(part, group):
            yield tensor._replace(slot_rule=rule, dtype=tensor.dtype or self.model_dtype), window is not None

    def _ring(self, part: Attention) -> int | None:
        return window_of(part, self.module, self.model) if makes_cache(self.module) else self.max_kv_size

    def _slots(self, part: Attention, window: int | None) -> SlotRule:
        if window is not None:
            return self.reading.ring(window)
        if self._is_chunked(part) and isinstance(part, GroupedQueryAttention) and part.attention_chunk_size:
            return self.reading.current_chunk(part.attention_chunk_size)
        return self.reading.every_token()

    def _stored(self, part: Attention, group: LayerGroup) -> tuple[CacheTensor, ...]:
        """Tensors of a part before their slots are counted. Raises NotApplicableError for a kind that is not known."""
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
            help="size it in another engine",
        )
