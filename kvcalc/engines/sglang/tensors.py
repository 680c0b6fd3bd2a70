"""What SGLang stores for each kind of layer: rows of its token pools, and states of its Mamba pool.

Source: SGLang, mem_cache/memory_pool.py, model_executor/pool_configurator.py, configs/mamba_utils.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
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
from kvcalc.attention.ngram_conv import NgramConvolution
from kvcalc.attention.none import NoCache
from kvcalc.attention.short_conv import ShortConvolution
from kvcalc.cache.dtypes import BF16, FP8, FP32, Dtype
from kvcalc.cache.slots.engines import in_blocks
from kvcalc.cache.slots.layers import EVERY_TOKEN, last_tokens, once
from kvcalc.cache.slots.rule import SlotRule
from kvcalc.cache.tensor import CacheTensor, Dim
from kvcalc.engines.base.checks import check_blocks
from kvcalc.engines.sglang.compressed import tensors_of
from kvcalc.engines.sglang.schedule import Drafts, Schedule
from kvcalc.engines.sglang.types import CROSS_ATTENDING, INKLING, LIGHTNING, is_of
from kvcalc.errors import NotApplicableError
from kvcalc.model import DRAFT, Attention, LayerGroup, Model

TAIL_K, TAIL_SCORE = "tail_k", "tail_score"
"""What tokens keep until their index keys are pooled."""
DRAFTED = "drafted_"
"""Prefix of the name of a state kept for each draft token."""
_STATES = (GatedDeltaNet, KimiDeltaAttention, Mamba, Mamba2, NgramConvolution, ShortConvolution)
"""Kinds whose states are in slots of the Mamba pool."""
QUANT_BLOCK = 128
"""Elements of an index key, and of a scaled latent, that share a float32 scale (DSATokenToKVPool)."""


class Rows(NamedTuple):
    """How tokens are stored.

    dtype: of K and V, or of the latent. model_dtype: in which the model computes. index_dtype: of index keys next to K
    and V. scaled_latent: whether a latent in fp8 has scales and its rotary key in bf16. own_windows: whether sliding
    layers have their own pool. schedule: pages, states and drafts of a request. state_dtype: of recurrent states, if
    not the model's own. stream_channels: of Inkling's convolutions, those that no rank splits. drafts: how another
    checkpoint's tokens are stored, which drafts.
    """

    dtype: Dtype
    model_dtype: Dtype
    index_dtype: Dtype
    scaled_latent: bool
    own_windows: bool
    schedule: Schedule
    state_dtype: Dtype | None
    stream_channels: int = 0
    drafts: Rows | None = None

    def of(self, model: Model, group: LayerGroup) -> tuple[CacheTensor, ...]:
        """Tensors of one layer of `group`. Raises NotApplicableError for a kind of layer without a pool."""
        if group.drafts and self.drafts is not None and model.drafter is not None:
            return self.drafts.of(model.drafter, replace(group, name=group.name.removeprefix(f"{DRAFT} ")))
        return tuple(tensor for part in group.parts for tensor in self._of_part(model, group, part))

    def _of_part(self, model: Model, group: LayerGroup, part: Attention) -> Iterator[CacheTensor]:
        if is_state(model, part):
            states = self._convolutions(model, part) if self.stream_channels else part.tensors()
            yield from map(self._state, states)
            if self.schedule.drafts and not group.drafts:
                yield from (self._draft_state(part, tensor, self.schedule.drafts) for tensor in states)
        elif isinstance(part, CrossAttention) and is_of(model, CROSS_ATTENDING):
            yield from (tensor._replace(slot_rule=self._tokens(), dtype=self.dtype) for tensor in part.tensors())
        elif isinstance(part, GroupedQueryAttention):
            rule = self._tokens(window_of(part) if self.own_windows else None)
            for tensor in part.tensors():
                check_blocks(f"a head of {tensor.name}", tensor.dims[-1].size, self.dtype, "SGLang")
                yield tensor._replace(slot_rule=rule, dtype=self.dtype)
        elif isinstance(part, MultiHeadLatentAttention):
            yield from self._latent(part)
        elif isinstance(part, CompressedAttention):
            yield from tensors_of(group, part, self.schedule)
        elif isinstance(part, Indexer) and (part.index_pool_tokens or not part.index_pooling):
            yield self._index(group, part)
            yield from self._tails(group, part)
        elif isinstance(part, NoCache):
            yield from self._unwritten(model, group)
        else:
            raise NotApplicableError(
                f"kvcalc does not know how SGLang stores {part.label} layers, as {group.name} layers of {model.name} "
                "are",
                help="try another --engine",
            )

    def _unwritten(self, model: Model, group: LayerGroup) -> tuple[CacheTensor, ...]:
        """Rows of a layer that caches nothing: pools have as many layers as the model, unless it has states."""
        if not rows_without_use(model):
            return ()
        others = [other for other in model.groups if not _is_empty(other)]
        rows = dict.fromkeys(self.of(model, other) for other in others if is_like(model, group, other))
        if len(rows) == 1:
            return next(iter(rows))
        names = " and ".join(other.name for other in others)
        why = f"and those of {names} differ" if rows else "and no other layer is on their pipeline stage"
        raise NotApplicableError(
            f"kvcalc does not know SGLang's rows for {group.name} layers of {model.name}, which cache nothing: it has "
            f"rows for every layer, {why}",
            help="try another --engine" if rows else "use fewer pipeline stages",
        )

    def _tokens(self, window: int | None = None) -> SlotRule:
        """Whole pages of all tokens, or of those of a window that a request may hold."""
        rule = EVERY_TOKEN if window is None else last_tokens(self.schedule.window_tokens(window))
        return rule if self.schedule.page == 1 else in_blocks(self.schedule.page, rule)

    def _latent(self, part: MultiHeadLatentAttention) -> Iterator[CacheTensor]:
        """c_kv and k_rope, neighbours in one row; with scaled fp8, the scales of c_kv between them."""
        rule = self._tokens()
        for tensor in part.tensors():
            scaled_rope = self.scaled_latent and tensor.name == "k_rope"
            check_blocks(tensor.name, tensor.elements_per_slot, self.dtype, "SGLang")
            yield tensor._replace(slot_rule=rule, dtype=BF16 if scaled_rope else self.dtype)
            if self.scaled_latent and tensor.name == "c_kv":
                check_blocks("c_kv", part.kv_lora_rank, FP8._replace(block_elements=QUANT_BLOCK), "SGLang")
                scales = Dim("scales", part.kv_lora_rank // QUANT_BLOCK)
                yield CacheTensor("c_kv_scales", (scales,), rule, FP32, quantizable=False)

    def _index(self, group: LayerGroup, part: Indexer) -> CacheTensor:
        """Key of an indexer: with a latent in fp8 with float32 scales, with K and V in the model's dtype.

        If keys are pooled, a token counts its share of the common key.
        """
        (key, *_) = part.tensors()
        pooled, width = part.index_pool_tokens or 1, part.index_head_dim
        key = key._replace(slot_rule=self._tokens())
        if is_beside_latent(group):
            key_bytes = width + width // QUANT_BLOCK * FP32.block_bytes
            _check_pooled(group, pooled, width, key_bytes)
            scaled = Dtype("fp8", width // pooled, key_bytes // pooled, "fp8 and a float32 scale for 128")
            key = key._replace(dtype=scaled, quantizable=False)
        else:
            _check_pooled(group, pooled, width)
            dtype = self.index_dtype if pooled == 1 else self.model_dtype  # qsa_indexer_dtype is auto
            key = key._replace(dtype=key.dtype or dtype)
        return key if pooled == 1 else key._replace(dims=(Dim(f"index_head_dim / {pooled}", width // pooled),))

    def _tails(self, group: LayerGroup, part: Indexer) -> Iterator[CacheTensor]:
        """Keys (and scores, for a latent's indexer) of a request's tokens pending pooling, in the model's dtype.

        Those of a latent's indexer have room for draft tokens (DSATokenToKVPool, QSATokenToKVPool).
        """
        if part.index_pool_tokens is None:
            return
        scored = is_beside_latent(group)
        drafted = self.schedule.drafts.tokens if scored and self.schedule.drafts else 0
        dims = (Dim("tokens", part.index_pool_tokens + drafted), Dim("index_head_dim", part.index_head_dim))
        for name in (TAIL_K, TAIL_SCORE) if scored else (TAIL_K,):
            yield CacheTensor(name, dims, once(1), BF16, quantizable=False)

    def _state(self, tensor: CacheTensor) -> CacheTensor:
        """Convolution states in bf16 (SGLANG_MAMBA_CONV_DTYPE), recurrent states in the model's or the set format."""
        dtype = BF16 if tensor.dtype is None else self.state_dtype or tensor.dtype
        slots = self.schedule.states
        words = "once" if slots == 1 else f"{slots} slots of a request"
        return tensor._replace(slot_rule=once(slots, words=words), dtype=dtype)

    def _convolutions(self, model: Model, part: Attention) -> tuple[CacheTensor, ...]:
        """Inkling's, all of them in each layer: of K and V of either kind of layer, and of its two streams."""
        (state, *_) = part.tensors()
        channels = self.stream_channels + sum(map(kv_channels, kv_heads_of(model)))
        return (state._replace(dims=(state.dims[0]._replace(size=channels), *state.dims[1:])),)

    def _draft_state(self, part: Attention, tensor: CacheTensor, drafts: Drafts) -> CacheTensor:
        """States after each verified token; a convolution's inputs are stored once for consecutive tokens."""
        state = self._state(tensor)
        dims = (Dim("draft_tokens", drafts.tokens), *tensor.dims)
        overlaps = drafts.topk == 1 and not isinstance(part, KimiDeltaAttention | NgramConvolution | ShortConvolution)
        if tensor.dtype is None and overlaps:
            *channels, columns = tensor.dims
            dims = (*channels, Dim(columns.name, columns.size + drafts.tokens - 1))
        return state._replace(name=f"{DRAFTED}{tensor.name}", dims=dims, slot_rule=once(1))


def _check_pooled(group: LayerGroup, pooled: int, *sizes: int) -> None:
    """Raises NotApplicableError for a pooled key that its tokens cannot share evenly."""
    if odd := next((size for size in sizes if size % pooled), None):
        raise NotApplicableError(
            f"kvcalc divides a pooled key of {group.name} layers among its {pooled} tokens, of which {odd} is not a "
            "multiple",
            help="try another --engine",
        )


def is_beside_latent(group: LayerGroup) -> bool:
    """Whether the layers also have a latent."""
    return any(isinstance(part, MultiHeadLatentAttention) for part in group.parts)


def pooled_tokens(model: Model) -> int | None:
    """Tokens whose index keys are pooled into one, if they are."""
    parts = (part for group in model.groups for part in group.parts)
    return next((part.index_pool_tokens for part in parts if isinstance(part, Indexer)), None)


def window_of(part: GroupedQueryAttention) -> int | None:
    """The window as SGLang counts it, without the query itself; the chunk for chunked layers."""
    return part.sliding_window - 1 if part.sliding_window else part.attention_chunk_size


def is_like(model: Model, shared: LayerGroup, owner: LayerGroup) -> bool:
    """Whether layers that cache nothing have rows like those of `owner`, if it is known whose cache they read."""
    if not any(reads_sliding(group) for group in model.groups):
        return True
    return is_sliding(owner) == reads_sliding(shared)


def reads_sliding(group: LayerGroup) -> bool:
    """Whether the layers have rows of the sliding pool, although they read other layers' rows."""
    return any(part.reads_sliding for part in group.parts if isinstance(part, NoCache))


def is_sliding(group: LayerGroup) -> bool:
    """Whether the layers have a window or chunk."""
    return any(window_of(part) is not None for part in group.parts if isinstance(part, GroupedQueryAttention))


def has_states(model: Model) -> bool:
    """Whether some layer keeps a state."""
    return any(is_state(model, part) for group in model.groups for part in group.parts)


def is_state(model: Model, part: Attention) -> bool:
    """Whether it keeps states in slots of the Mamba pool."""
    return isinstance(part, _STATES) or (isinstance(part, LightningAttention) and is_of(model, LIGHTNING))


def keeps_states_alone(model: Model) -> bool:
    """Whether no layer caches tokens."""
    return all(is_state(model, part) or isinstance(part, NoCache) for group in model.groups for part in group.parts)


def rows_without_use(model: Model) -> int:
    """Layers that cache nothing but still have rows of the pools; none in models with states."""
    return 0 if has_states(model) else sum(len(group.layers) for group in model.groups if _is_empty(group))


def _is_empty(group: LayerGroup) -> bool:
    return any(isinstance(part, NoCache) for part in group.parts)


def kv_heads_of(model: Model) -> set[GroupedQueryAttention]:
    """Attention of each shape."""
    parts = [part for group in model.groups for part in group.parts if isinstance(part, GroupedQueryAttention)]
    return {replace(part, sliding_window=None) for part in parts}


def kv_channels(part: GroupedQueryAttention) -> int:
    """Channels of K and V together."""
    return part.num_kv_heads * sum(part.head_widths)


def stream_channels(model: Model) -> int:
    """Channels of Inkling's convolutions over the outputs of attention and MLP, without K's and V's; else 0."""
    if not is_of(model, INKLING):
        return 0
    return max(
        (
            part.conv_channels
            - sum(kv_channels(other) for other in group.parts if isinstance(other, GroupedQueryAttention))
            for group in model.groups
            for part in group.parts
            if isinstance(part, ShortConvolution)
        ),
        default=0,
    )


def encoder_rows(model: Model) -> int:
    """Layers of an encoder that have rows of the pool: Whisper's, whose layers are numbered before the decoder's."""
    return model.published.encoder_layers if is_of(model, ("whisper",)) else 0


def has_sparse_latent(model: Model) -> bool:
    """Whether it is DeepSeek sparse attention: a latent, and an indexer in some layers."""
    kinds = {type(part) for group in model.groups for part in group.parts}
    return {MultiHeadLatentAttention, Indexer} <= kinds
