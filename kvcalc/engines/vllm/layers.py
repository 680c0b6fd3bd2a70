"""What each layer of a model registers with vLLM's planner, for blocks of one token, before their size is chosen.

A layer may register several caches: its latent and its indexer's keys, its own attention and the encoder's. They come
in the order in which vLLM builds them, which decides the order of groups.
Source: vLLM, model_executor/layers/attention/, layers/mamba/, and models/.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from math import prod
from typing import Any, NamedTuple

from kvcalc.attention._token_cache import TokenCache
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
from kvcalc.attention.region_summary import RegionSummary
from kvcalc.attention.short_conv import ShortConvolution
from kvcalc.cache.tensor import Dim
from kvcalc.engines.vllm import quirks
from kvcalc.engines.vllm.backends import (
    CONV_WINDOW,
    HOPPER,
    INDEXER,
    KPOOL_TAIL,
    MINIMAX_SPARSE,
    QSA,
    Backend,
    Need,
    canonical,
    choose,
    pooled_indexer,
    step5_sparse,
)
from kvcalc.engines.vllm.compressed import compressed_caches
from kvcalc.engines.vllm.cpu import choose_on_cpu, stored_on_cpu
from kvcalc.engines.vllm.dtypes import ELEMENT_BYTES, MODEL, kv_bytes, latent_bytes
from kvcalc.engines.vllm.pooled import pooled_caches, pools_entries
from kvcalc.engines.vllm.run import Run
from kvcalc.engines.vllm.specs import CHUNKED, CIRCULAR, CROSS, FULL, MLA, SLIDING, STATE, Spec, ceil_div
from kvcalc.errors import NotApplicableError
from kvcalc.model import DRAFTS, Attention, LayerGroup, Model

_INDEX_SCALE_GROUP, _INDEX_SCALE_BYTES = 128, 4  # one float32 scale for 128 fp8 elements: deepseek_v2.py, Indexer
_GDN_CHECKPOINT_TOKENS, _GDN_KEY_WIDTH = 64, 128  # gdn_attn.py; what FlashInfer's prefill kernel wants on Blackwell
ATTENTION = "attn"
"""Name of a layer's own attention, which every quantisation is for."""


class Cache(NamedTuple):
    """One cache that vLLM registers.

    name: of the layer in vLLM's words, such as attn or indexer. layer: its index; drafts count on from the last.
    spec: for blocks of one token, unless own_block is set.
    backend: kernels that read it; None for states. own_block: tokens of its blocks, independent of the model's.
    checkpoint_tokens: number of which a block must be a multiple where states of a prompt are kept.
    dims: of one stored state, whose elements together take the spec's state_bytes.
    """

    name: str
    layer: int
    spec: Spec
    backend: Backend | None
    own_block: int | None = None
    checkpoint_tokens: int = 1
    dims: tuple[Dim, ...] = ()


Builder = Callable[[Any, "Place", Run], Iterator[Cache]]


class Place(NamedTuple):
    """A part's place: its model, group and layer. sparse: whether the model has an indexer."""

    model: Model
    group: LayerGroup
    layer: int
    sparse: bool


def caches_of(model: Model, run: Run) -> list[Cache]:
    """Every cache of the model in the order of its layers, drafts last.

    Raises NotApplicableError for a layer without a cache in vLLM.
    """
    groups = {layer: group for group in model.groups for layer in group.layers} | _full_at_the_end(model)
    caches = list(_caches_of(model, groups, run))
    if run.speculation.has_layers:
        drafts = {layer: group for group in draft_groups(model) for layer in group.layers}
        caches += _caches_of(model.drafter or model, drafts, run.of_drafts(model.num_layers))
    return caches


def _caches_of(model: Model, groups: Mapping[int, LayerGroup], run: Run) -> Iterator[Cache]:
    """Caches of these layers, which are `model`'s."""
    sparse = any(map(_indexes, model.groups))
    for layer in sorted(groups):
        for part in _in_order(groups[layer]):
            yield from _builder(part, model, run)(part, Place(model, groups[layer], layer, sparse), run)


def _full_at_the_end(model: Model) -> dict[int, LayerGroup]:
    """Layers after the last whole group that vLLM makes full, unlike the config's pattern."""
    delta = [g for g in model.groups if any(isinstance(part, KimiDeltaAttention) for part in g.parts)]
    full = next((group for group in model.groups if group not in delta), None)
    if full is None or not delta or not quirks.is_one_of(model, quirks.FULL_AFTER_LAST_GROUP):
        return {}
    last = max(full.layers)
    return {layer: full for group in delta for layer in group.layers if layer > last}


def draft_groups(model: Model) -> tuple[LayerGroup, ...]:
    """Groups of the draft layers, as vLLM builds them."""
    if model.draft_groups:
        whose = model.drafter or model
        indexers = [part for group in whose.groups for part in group.parts if isinstance(part, Indexer)]
        own = quirks.is_one_of(whose, quirks.INDEXES_FOR_DRAFTS) and indexers[:1]
        return tuple(
            replace(group, parts=(*group.parts, *own)) if own and not _indexes(group) else group
            for group in model.draft_groups
        )
    windowed = quirks.UNMENTIONED_DRAFT[model.model_type]
    heads = [group for group in model.groups if any(isinstance(p, GroupedQueryAttention) for p in group.parts)]
    alike = next(group for group in heads if ("sliding_window" in group.facts) == windowed)
    return (replace(alike, name=DRAFTS, layers=(model.num_layers,)),)


def _indexes(group: LayerGroup) -> bool:
    return any(isinstance(part, Indexer) for part in group.parts)


def _in_order(group: LayerGroup) -> tuple[Attention, ...]:
    """Parts in vLLM's order: an indexer before its attention, Inkling's convolutions before theirs."""
    return tuple(sorted(group.parts, key=lambda part: not isinstance(part, Indexer | ShortConvolution)))


def _builder(part: Attention, model: Model, run: Run) -> Builder:
    builder = _BUILDERS.get(type(part))
    if builder is None:
        raise NotApplicableError(
            f"vLLM {run.version} has no cache for the {part.label} layers of {model.name}",
            help="use --engine ideal or transformers",
        )
    return builder


def _heads(total: int, tp: int) -> int:
    """KV heads of one rank: a share, or one copy if there are more ranks than heads."""
    if total % tp and tp % total:
        raise NotApplicableError(
            f"vLLM cannot share {total} KV heads among tensor parallel size {tp}",
            help="choose a tp that divides the KV heads, or a multiple of them",
        )
    return max(1, total // tp)


def _share(total: int, tp: int) -> int:
    """One rank's part of channels or heads that cannot be copied."""
    if total % tp:
        raise NotApplicableError(f"{total} is not divisible by tensor parallel size {tp}", help="choose another tp")
    return total // tp


def _cache_dtype(place: Place, run: Run, *, window: bool) -> str:
    """Format of a layer's cache: the model's own if it is not quantised."""
    if run.cache_dtype in MODEL:
        return run.cache_dtype
    skipped = place.layer in run.skipped_layers or (window and run.skips_windows)
    return "auto" if skipped or quirks.is_one_of(place.model, run.release.keeps_model_dtype) else run.cache_dtype


def _need(place: Place, run: Run, width: int, cache_dtype: str) -> Need:
    return Need(
        width=width,
        cache_dtype=cache_dtype,
        model_dtype=run.model_dtype,
        block_size=run.block_size,
        sinks=quirks.is_one_of(place.model, quirks.HAS_SINKS),
        images_whole=place.model.published.sees_images_whole,
        dcp=run.ranks.dcp > 1,
        asked=run.attention_backend,
    )


def _kernels(need: Need, run: Run) -> Backend:
    """Backend of a layer, by the GPU or the CPU that runs it."""
    return choose(need, run.capability) if run.cpu is None else choose_on_cpu(need, run.cpu, run.version)


def _head_bytes(cache_dtype: str, run: Run, widths: tuple[int, int]) -> int:
    """Bytes of one head's key and value as the kernels pack them."""
    return kv_bytes(cache_dtype if run.cpu is None else stored_on_cpu(cache_dtype), run.model_dtype, *widths)


def _grouped_query(part: GroupedQueryAttention, place: Place, run: Run) -> Iterator[Cache]:
    share = _share if quirks.is_one_of(place.model, quirks.COPIES_NO_HEADS) else _heads
    heads, value = share(part.num_kv_heads, run.ranks.tp), part.v_head_dim or part.head_dim
    value = part.head_dim if value != part.head_dim and run.release.pads_values else value
    yield _attention(place, run, heads, (part.head_dim, value), part.num_query_heads, part)


def _attention(
    place: Place, run: Run, heads: int, widths: tuple[int, int], query_heads: int, part: TokenCache
) -> Cache:
    """Keys and values of `heads` heads, of full, sliding or chunked attention."""
    window, chunk = part.sliding_window, part.attention_chunk_size
    if window is not None and quirks.is_one_of(place.model, quirks.WINDOW_INCLUDES_QUERY):
        window -= 1  # kvcalc counts the query's own token beside sliding_window_size
    if (
        window is not None
        and run.release.cohere_sees_itself
        and quirks.is_one_of(place.model, quirks.WINDOW_SEES_ONE_MORE)
    ):
        window += 1
    cache_dtype = _cache_dtype(place, run, window=window is not None)
    summary = _summary_of(place.group)
    if summary is not None or quirks.is_one_of(place.model, quirks.SUMMARISES_REGIONS):
        backend = step5_sparse(widths[0], run.capability)
    elif _indexes(place.group) and run.cpu is None:
        pools = any(isinstance(other, Indexer) and other.index_pool_tokens for other in place.group.parts)
        backend = QSA if pools else MINIMAX_SPARSE
    else:
        per_rank = max(1, query_heads // run.ranks.tp)
        need = _need(
            place,
            run,
            widths[0],
            cache_dtype,
        )._replace(
            query_heads=per_rank,
            kv_heads=heads,
            windowed=window is not None,
            sparse=_indexes(place.group),
        )
        backend = _kernels(need, run)
    head_bytes = _head_bytes(cache_dtype, run, widths)
    kind = SLIDING if window is not None else CHUNKED if chunk is not None else FULL
    spec = Spec(
        kind,
        1,
        heads * head_bytes,
        (heads, *widths, cache_dtype),
        window=window or chunk,
        chunked=chunk is not None,
        stride_bytes=heads * head_bytes * summary.region_tokens if summary else 1,
        kernel_block=backend.kernel_block,
    )
    dims = (Dim("num_kv_heads", heads), Dim("key + value", sum(widths)))
    return Cache(ATTENTION, place.layer, spec, backend, dims=dims)


def _latent(part: MultiHeadLatentAttention, place: Place, run: Run) -> Iterator[Cache]:
    if not quirks.uses_mla(place.model):
        yield _expanded(part, place, run)
        return
    width = part.kv_lora_rank + part.qk_rope_head_dim
    asked = _cache_dtype(place, run, window=False)
    need = _need(
        place,
        run,
        width,
        asked,
    )._replace(
        mla=True,
        sparse=place.sparse,
        no_position_width=part.qk_nope_head_dim,
        query_heads=max(1, part.num_query_heads // run.ranks.tp),
        gathered_heads=max(1, part.num_query_heads // run.ranks.tp) * run.ranks.dcp,
    )
    backend = _kernels(need, run)
    cache_dtype = canonical(backend, asked)
    row = latent_bytes(cache_dtype, run.model_dtype, width)
    spec = Spec(
        MLA,
        1,
        row,
        (width, cache_dtype, "sparse", _indexes(place.group)),
        stride_bytes=row if place.sparse and cache_dtype in MODEL else 1,
        kernel_block=backend.kernel_block,
    )
    yield Cache(ATTENTION, place.layer, spec, backend, dims=(Dim("kv_lora_rank + qk_rope_head_dim", width),))


def _expanded(part: MultiHeadLatentAttention, place: Place, run: Run) -> Cache:
    """Keys and values of every head, if vLLM has no latent cache for the model type."""
    key = part.qk_nope_head_dim + part.qk_rope_head_dim
    value = key if quirks.is_one_of(place.model, quirks.EXPANDS_LATENT) else part.v_head_dim
    return _attention(place, run, _share(part.num_query_heads, run.ranks.tp), (key, value), part.num_query_heads, part)


def _indexer(part: Indexer, place: Place, run: Run) -> Iterator[Cache]:
    if part.index_pool_tokens is not None:
        yield from _pooled_indexer(part, place, run)
        return
    width = part.index_head_dim
    dims = (Dim("index_head_dim", width),)
    if not any(isinstance(other, MultiHeadLatentAttention) for other in place.group.parts):
        spec = Spec(MLA, 1, width * ELEMENT_BYTES[run.model_dtype], (width, run.model_dtype, "indexer"))
        yield Cache("indexer", place.layer, spec, MINIMAX_SPARSE, dims=dims)
        return
    row = width + width // _INDEX_SCALE_GROUP * _INDEX_SCALE_BYTES
    spec = Spec(MLA, 1, row, (row, "uint8", "indexer"), kernel_block=INDEXER.kernel_block)
    yield Cache("indexer", place.layer, spec, INDEXER, dims=dims)


def _pooled_indexer(part: Indexer, place: Place, run: Run) -> Iterator[Cache]:
    """Index keys pooled from several tokens, and a ring of the keys pending pooling.

    With a latent, keys are fp8 with scales, and the ring also has their gates; with K and V (Qwen4 Exp) they are in the
    model's dtype. The ring also holds the drafts of a step.
    """
    pool, width = part.index_pool_tokens or 1, part.index_head_dim
    beside_latent = any(isinstance(other, MultiHeadLatentAttention) for other in place.group.parts)
    span = ceil_div(pool + run.num_speculative_tokens, pool)
    element = ELEMENT_BYTES[run.model_dtype]
    if beside_latent:
        row = width + width // _INDEX_SCALE_GROUP * _INDEX_SCALE_BYTES
        backend = pooled_indexer(pool, run.capability)
        keys = Spec(MLA, 1, row, (row, "uint8", "indexer"), pool, kernel_block=backend.kernel_block)
        waiting, ring = 2 * width, pool * (1 << (span - 1).bit_length())  # K and gate
    else:
        row, backend = width * element, QSA
        keys = Spec(MLA, 1, row, (width, run.model_dtype, "indexer"), pool)
        waiting, ring = width, pool * span
    dims = (Dim("index_head_dim", width),)
    yield Cache("indexer", place.layer, keys, backend, dims=dims)
    tail = Spec(CIRCULAR, 1, waiting * element, (waiting, run.model_dtype, "tail"))
    yield Cache("open group", place.layer, tail, KPOOL_TAIL, own_block=ring, dims=dims)


def _summary_of(group: LayerGroup) -> RegionSummary | None:
    return next((part for part in group.parts if isinstance(part, RegionSummary)), None)


def _region_summary(part: RegionSummary, place: Place, run: Run) -> Iterator[Cache]:
    """Step 5: one key in fp8 for each region, and a ring of the open region's rows, as large as a page of attention."""
    keys = next((other for other in place.group.parts if isinstance(other, GroupedQueryAttention)), None)
    if keys is None:
        raise NotApplicableError(
            f"vLLM keeps {part.label} next to keys and values of heads, which {place.group.name} layers do not have",
            help="use --engine ideal",
        )
    (main,) = _grouped_query(keys, place, run)
    row_bytes = 2 * part.summary_dim * ELEMENT_BYTES[run.model_dtype]  # key and score
    width = (Dim("summary_dim", part.summary_dim),)
    summary = Spec(FULL, 1, part.summary_dim, (1, part.summary_dim, "uint8", "summary"), part.region_tokens)
    yield Cache("summary", place.layer, summary, main.backend, dims=width)
    ring = Spec(CIRCULAR, 1, main.spec.state_bytes, (main.spec.state_bytes, "tail"), stride_bytes=row_bytes)
    yield Cache("open region", place.layer, ring, None, dims=main.dims)


def _cross(part: CrossAttention, place: Place, run: Run) -> Iterator[Cache]:
    heads = _heads(part.cross_num_kv_heads, run.ranks.tp)
    widths = (part.cross_head_dim, part.cross_head_dim)
    backend = _kernels(_need(place, run, part.cross_head_dim, run.cache_dtype)._replace(crosses=True), run)
    head_bytes = _head_bytes(run.cache_dtype, run, widths)
    spec = Spec(CROSS, 1, heads * head_bytes, (heads, *widths, run.cache_dtype))
    dims = (Dim("cross_num_kv_heads", heads), Dim("key + value", sum(widths)))
    yield Cache("cross_attn", place.layer, spec, backend, dims=dims)


def _states(
    place: Place, *states: tuple[tuple[int, ...], str], checkpoint: int = 0, each: int = 0, name: str = "states"
) -> Cache:
    """A layer of states, each with its shape and format.

    checkpoint: blocks for the states it leaves behind; each: interval of these states in tokens.
    """
    total = sum(prod(shape) * ELEMENT_BYTES[dtype] for shape, dtype in states)
    spec = Spec(STATE, 1, total, states, checkpoint_blocks=checkpoint)
    return Cache(name, place.layer, spec, None, checkpoint_tokens=each, dims=(Dim("bytes of all states", total),))


def _mamba(part: Mamba, place: Place, run: Run) -> Iterator[Cache]:
    channels = _share(part.mamba_intermediate_size, run.ranks.tp)
    conv = ((part.mamba_conv_kernel - 1, channels), run.conv_dtype)
    yield _states(place, conv, ((channels, part.mamba_state_size), run.state_dtype))


def _mamba2(part: Mamba2, place: Place, run: Run) -> Iterator[Cache]:
    tp, groups = run.ranks.tp, part.mamba_num_groups
    if groups % tp and groups > 1:
        raise NotApplicableError(
            f"If tensor parallel world size ({tp}) does not divide num_groups ({groups}), then num_groups must equal 1",
            help="choose a tp that divides the groups",
        )
    groups = tp if groups == 1 else groups  # every rank has a copy of the only one
    inner = part.mamba_intermediate_size or part.mamba_num_heads * part.mamba_head_dim
    channels = _share(inner + 2 * groups * part.mamba_state_size, tp)
    columns = part.mamba_conv_kernel - 1 + run.num_speculative_tokens
    state = (_share(part.mamba_num_heads, tp), part.mamba_head_dim, part.mamba_state_size)
    yield _states(
        place,
        ((columns, channels), run.conv_dtype),
        (state, run.state_dtype),
        checkpoint=int(run.release.mamba2_checkpoints),
    )


def _gated_deltanet(part: GatedDeltaNet, place: Place, run: Run) -> Iterator[Cache]:
    tp = run.ranks.tp
    keys = part.linear_num_key_heads * part.linear_key_head_dim
    values = part.linear_num_value_heads * part.linear_value_head_dim
    columns = part.linear_conv_kernel - 1 + run.num_speculative_tokens
    state = (_share(part.linear_num_value_heads, tp), part.linear_value_head_dim, part.linear_key_head_dim)
    by_flashinfer = not quirks.is_one_of(place.model, quirks.WITHOUT_GDN_CHECKPOINTS) and (
        run.capability == HOPPER or (run.capability[0] > HOPPER[0] and part.linear_key_head_dim == _GDN_KEY_WIDTH)
    )
    checkpoint = int(by_flashinfer and run.limits.keeps_states and run.release.gdn_checkpoints)
    yield _states(
        place,
        ((columns, _share(2 * keys + values, tp)), run.conv_dtype),
        (state, run.state_dtype),
        checkpoint=checkpoint,
        each=checkpoint * _GDN_CHECKPOINT_TOKENS,
    )


def _kimi_delta(part: KimiDeltaAttention, place: Place, run: Run) -> Iterator[Cache]:
    channels = 3 * part.linear_num_heads * part.linear_head_dim  # queries, keys and values
    columns = part.linear_conv_kernel - 1 + run.num_speculative_tokens
    state = (_share(part.linear_num_heads, run.ranks.tp), part.linear_head_dim, part.linear_head_dim)
    yield _states(
        place,
        ((columns, _share(channels, run.ranks.tp)), run.conv_dtype),
        (state, run.state_dtype),
        checkpoint=int(
            run.release.kda_checkpoints
            and quirks.is_one_of(place.model, quirks.EXPORTS_KDA_STATES)
            and run.capability >= HOPPER
        ),
    )


def _lightning(part: LightningAttention, place: Place, run: Run) -> Iterator[Cache]:
    width = part.linear_head_dim
    yield _states(place, ((_share(part.linear_num_heads, run.ranks.tp), width, width), run.conv_dtype))


def _short_conv(part: ShortConvolution, place: Place, run: Run) -> Iterator[Cache]:
    attention = next((other for other in place.group.parts if isinstance(other, GroupedQueryAttention)), None)
    if attention is not None:
        yield _conv_window(part, attention, place, run)
        return
    columns = part.conv_kernel - 1 + run.num_speculative_tokens
    yield _states(place, ((columns, _share(part.conv_channels, run.ranks.tp)), run.conv_dtype))


def _conv_window(part: ShortConvolution, attention: GroupedQueryAttention, place: Place, run: Run) -> Cache:
    """Inkling's convolutions next to attention: a window of inputs, in heads padded to a power of two."""
    if run.ranks.tp > attention.num_kv_heads:
        raise NotApplicableError(
            f"sconv SWA cache supports tp_size <= num_kv_heads ({attention.num_kv_heads}), got {run.ranks.tp}",
            help="choose a tp of at most the KV heads",
        )
    heads = _share(attention.num_kv_heads, run.ranks.tp)
    width = 1 << (part.conv_channels // attention.num_kv_heads - 1).bit_length()
    row = heads * width * ELEMENT_BYTES[run.model_dtype]
    spec = Spec(SLIDING, 1, row, (heads, width, run.model_dtype, "conv"), window=part.conv_kernel)
    dims = (Dim("num_kv_heads", heads), Dim("conv channels, padded", width))
    return Cache("conv", place.layer, spec, CONV_WINDOW, own_block=part.conv_kernel, dims=dims)


def _ngram_conv(part: NgramConvolution, place: Place, run: Run) -> Iterator[Cache]:
    """Whole on every rank; it leaves states behind where the model's other states do."""
    columns = part.ngram_conv_columns + run.num_speculative_tokens
    checkpoint = next(
        (
            cache
            for group in place.model.groups
            for other in group.parts
            if isinstance(other, GatedDeltaNet)
            for cache in _gated_deltanet(other, place, run)
        ),
        None,
    )
    blocks = checkpoint.spec.checkpoint_blocks if checkpoint else 0
    each = checkpoint.checkpoint_tokens if checkpoint else 0
    yield _states(
        place, ((columns, part.ngram_conv_channels), run.conv_dtype), checkpoint=blocks, each=each, name="n-gram conv"
    )


def _compressed(part: CompressedAttention, place: Place, run: Run) -> Iterator[Cache]:
    caches = pooled_caches if pools_entries(place.model) else compressed_caches
    for name, spec, backend, block in caches(part, run):
        dims = (Dim("bytes of a row", spec.state_bytes),)
        yield Cache(name, place.layer, spec, backend, own_block=block, dims=dims)


def _nothing(_: NoCache, __: Place, ___: Run) -> Iterator[Cache]:
    yield from ()


_BUILDERS: dict[type, Builder] = {
    GroupedQueryAttention: _grouped_query,
    MultiHeadLatentAttention: _latent,
    Indexer: _indexer,
    CrossAttention: _cross,
    Mamba: _mamba,
    Mamba2: _mamba2,
    GatedDeltaNet: _gated_deltanet,
    KimiDeltaAttention: _kimi_delta,
    LightningAttention: _lightning,
    ShortConvolution: _short_conv,
    NgramConvolution: _ngram_conv,
    CompressedAttention: _compressed,
    RegionSummary: _region_summary,
    NoCache: _nothing,
}
"""What a layer of each kind registers."""
