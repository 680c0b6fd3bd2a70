"""What LMDeploy's PyTorch engine stores for each kind of layer: blocks, and slots of states.

A kernel's read of each tensor (kernel_block_size tokens) is padded to 256 bytes (CacheDesc). Operators' own caches
(index keys, entries of DeepSeek-V4) are not padded since 0.18 (ContiguousBlockCacheLayout).
Source: LMDeploy, pytorch/engine/cache_engine/schema.py and layout.py, pytorch/configurations/qwen3_5.py, qwen3_next.py
and deepseek_v4.py, pytorch/backends/cuda/nsa.py and v4_compressor.py, pytorch/consts.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kvcalc.attention._state import CONV_COLUMNS
from kvcalc.attention.compressed import CompressedAttention
from kvcalc.attention.gated_deltanet import GatedDeltaNet
from kvcalc.attention.gqa import GroupedQueryAttention
from kvcalc.attention.indexer import Indexer
from kvcalc.attention.mla import MultiHeadLatentAttention
from kvcalc.cache.dtypes import BF16, FP8, FP32, Dtype, dtype_named
from kvcalc.cache.packing import SCALE_AND_OFFSET, int_codes
from kvcalc.cache.slots.engines import blocks
from kvcalc.cache.slots.layers import EVERY_TOKEN, once
from kvcalc.cache.tensor import CacheTensor, Dim
from kvcalc.engines.base.checks import check_blocks
from kvcalc.engines.lmdeploy.serving import EXPANDED, Serving, has_sparse_latent
from kvcalc.engines.lmdeploy.settings import FP8 as FP8_POLICY
from kvcalc.engines.lmdeploy.settings import FP8_E5M2, INT4, INT8, NONE, TURBO_QUANT
from kvcalc.errors import NotApplicableError
from kvcalc.model import LayerGroup, Model

ALIGNMENT = 256
"""Alignment of each tensor of a block and of a slot of states, in bytes."""
PADDING = "_padding"
_BYTE = Dtype("uint8", 1, 1, "bytes")
_CODES = {  # of K and of V
    INT8: (dtype_named("int8"), dtype_named("int8")),
    INT4: (dtype_named("int4"), dtype_named("int4")),
    TURBO_QUANT: (int_codes(4), int_codes(2)),
    FP8_POLICY: (FP8, FP8),
    FP8_E5M2: (FP8, FP8),
}
_NORM = Dim("norm", 1)
"""TurboQuant has one scale per value, two per key."""
_SCALED_LATENT = Dtype("fp8_ds_mla", 1, 1, "512 fp8, 4 float32 scales and a rotary key of 64 in bf16")
_SCALED_LATENT_WIDTHS, _SCALED_LATENT_BYTES = (512, 64), 656
_INDEX_SCALE_BYTES = 4
_ENTRY = Dtype("v4", 1, 1, "448 fp8, 64 bf16, 7 scales and a spare byte")
_ENTRY_WIDTH, _ENTRY_BYTES = 512, 448 + 2 * 64 + 7 + 1
_CSA_RATE, _HCA_RATE = 4, 128


def tensors_of(model: Model, group: LayerGroup, serving: Serving) -> Iterator[CacheTensor]:
    """Tensors of one layer. Raises NotApplicableError for an unsupported kind of layer."""
    for part in group.parts:
        if isinstance(part, GroupedQueryAttention):
            k, v, *_ = (*part.tensors(), *part.tensors())
            yield from _keys_and_values(k, v._replace(dims=k.dims, name="v"), serving)
        elif isinstance(part, MultiHeadLatentAttention) and model.model_type in EXPANDED:
            heads = Dim("num_kv_heads", part.num_query_heads)
            width = Dim("head_dim", part.qk_nope_head_dim + part.qk_rope_head_dim)
            k = CacheTensor("k", (heads, width), serving.rule)
            yield from _keys_and_values(k, k._replace(name="v"), serving)
        elif isinstance(part, MultiHeadLatentAttention):
            yield from _scaled_latent(part, serving) if _is_scaled(model, serving) else _latent(part, serving)
        elif isinstance(part, Indexer) and has_sparse_latent(model) and not part.index_pooling:
            yield from _index(part, serving)
        elif isinstance(part, GatedDeltaNet):
            yield from (_state(tensor, serving) for tensor in part.tensors())
        elif isinstance(part, CompressedAttention):
            yield from _compressed(group, part, serving)
        else:
            raise NotApplicableError(
                f"kvcalc does not know how LMDeploy stores {part.label} layers, as {group.name} layers of {model.name} "
                "are",
                help="try another --engine",
            )


def _keys_and_values(k: CacheTensor, v: CacheTensor, serving: Serving) -> Iterator[CacheTensor]:
    codes = _CODES.get(serving.policy, (serving.dtype, serving.dtype))
    stored = [t._replace(slot_rule=serving.rule, dtype=codes[i]) for i, t in enumerate((k, v))]
    for tensor, dtype in zip(stored, codes, strict=True):
        check_blocks(f"a head of {tensor.name}", tensor.dims[-1].size, dtype, "LMDeploy")
        yield from _padded(tensor.name, (tensor,), serving)
    yield from _scales(k.dims[:-1], serving)


def _latent(part: MultiHeadLatentAttention, serving: Serving) -> Iterator[CacheTensor]:
    """One key of latent and rotary key; its value has no width, but has scales."""
    codes, _ = _CODES.get(serving.policy, (serving.dtype, serving.dtype))
    stored = [tensor._replace(slot_rule=serving.rule, dtype=codes) for tensor in part.tensors()]
    for tensor in stored:
        check_blocks(tensor.name, tensor.elements_per_slot, codes, "LMDeploy")
    yield from _padded("c_kv", stored, serving)
    scales = tuple(_scales((Dim("num_kv_heads", 1),), serving))
    yield from (scale for scale in scales if scale.name == "k_scales" or not serving.turbomind)


def _scales(heads: tuple[Dim, ...], serving: Serving) -> Iterator[CacheTensor]:
    """Scale and zero of each token and head, in the model's dtype; fp8 has none."""
    if serving.policy in (NONE, FP8_POLICY, FP8_E5M2):
        return
    of_value = _NORM if serving.policy == TURBO_QUANT else SCALE_AND_OFFSET
    for name, width in (("k_scales", SCALE_AND_OFFSET), ("v_scales", of_value)):
        scales = CacheTensor(name, (*heads, width), serving.rule, serving.dtype, quantizable=False)
        yield from _padded(name, (scales,), serving)


def _padded(name: str, tensors: Iterable[CacheTensor], serving: Serving) -> Iterator[CacheTensor]:
    """Tensors that are together in a block, and the padding per token."""
    together = tuple(tensors)
    read_bytes = serving.kernel_block * sum(tensor.bytes_per_slot(serving.dtype) for tensor in together)
    yield from together
    if (padding := -read_bytes % ALIGNMENT // serving.kernel_block) and not serving.turbomind:
        yield CacheTensor(f"{name}{PADDING}", (Dim("bytes", padding),), serving.rule, _BYTE, quantizable=False)


def _is_scaled(model: Model, serving: Serving) -> bool:
    return serving.policy == FP8_POLICY and has_sparse_latent(model)


def _scaled_latent(part: MultiHeadLatentAttention, serving: Serving) -> Iterator[CacheTensor]:
    """656 bytes, made for a latent of 512 and a rotary key of 64."""
    if (part.kv_lora_rank, part.qk_rope_head_dim) != _SCALED_LATENT_WIDTHS:
        raise NotApplicableError(
            f"LMDeploy's fp8_ds_mla supports latents of 512 and 64 only, not {part.label}", help="use quant_policy=0"
        )
    row = (Dim("row_bytes", _SCALED_LATENT_BYTES),)
    yield from _padded("c_kv", (CacheTensor("c_kv", row, serving.rule, _SCALED_LATENT, quantizable=False),), serving)


def _index(part: Indexer, serving: Serving) -> Iterator[CacheTensor]:
    """Key of an indexer in fp8, and one float32 scale."""
    width = part.index_head_dim
    scaled = Dtype("fp8", width, width + _INDEX_SCALE_BYTES, "fp8 and one float32 scale")
    key = part.tensors()[0]._replace(slot_rule=serving.rule, dtype=scaled, quantizable=False)
    yield from _padded("index_k", (key,), serving) if serving.pads_operators else (key,)


def _state(tensor: CacheTensor, serving: Serving) -> CacheTensor:
    """A slot of states in bf16, the convolution with all columns of its kernel; draft tokens have their own."""
    ahead = serving.drafts
    if tensor.dims[-1].name == CONV_COLUMNS:
        columns = Dim(CONV_COLUMNS, tensor.dims[-1].size + 1 + ahead)
        return tensor._replace(dims=(*tensor.dims[:-1], columns), dtype=BF16)
    guessed = (Dim("guessed_tokens", 1 + ahead),) if ahead else ()
    return tensor._replace(dims=(*guessed, *tensor.dims), dtype=FP32 if serving.fp32_states else BF16)


def _compressed(group: LayerGroup, part: CompressedAttention, serving: Serving) -> Iterator[CacheTensor]:
    """Entries in blocks of 256 tokens; in a slot of states the window, and tokens pending compression, in float32."""
    rate, block = part.compress_rate, serving.block_size
    known = {(None, False), (_CSA_RATE, True), (_HCA_RATE, False)}
    if part.head_dim != _ENTRY_WIDTH or (rate, part.index_head_dim is not None) not in known:
        raise NotApplicableError(
            f"LMDeploy's cache of DeepSeek-V4 supports only entries of {_ENTRY_WIDTH}, compressed {_CSA_RATE} to 1 "
            f"with an index or {_HCA_RATE} to 1 without, not for {part.label} of {part.head_dim} as {group.name} "
            "layers are",
            help="try another --engine",
        )
    entry, every = Dim("entry_bytes", _ENTRY_BYTES), blocks(block, EVERY_TOKEN)
    window = Dim("sliding_window", part.sliding_window)
    yield CacheTensor("kv", (window, entry), once(), _ENTRY, quantizable=False)
    if rate is None:
        return
    entries = Dim("entries", block // rate)
    compressed = CacheTensor("compressed_kv", (entries, entry), every, _ENTRY, quantizable=False)
    yield compressed
    padding = -compressed.bytes_per_slot(serving.dtype) % ALIGNMENT
    if serving.pads_operators and padding:
        yield CacheTensor(f"compressed_kv{PADDING}", (Dim("bytes", padding),), every, _BYTE, quantizable=False)
    overlapping = 2 if part.index_head_dim is not None else 1
    rows = Dim("rows", 2 * overlapping * rate)
    width = Dim("head_dim", overlapping * part.head_dim)
    yield CacheTensor("states", (rows, width), once(), FP32, quantizable=False)
    if part.index_head_dim is not None:
        index = Dim("index_bytes", part.index_head_dim + _INDEX_SCALE_BYTES)
        yield CacheTensor("index_k", (entries, index), every, _BYTE, quantizable=False)
        states = (rows, Dim("index_head_dim", overlapping * part.index_head_dim))
        yield CacheTensor("index_states", states, once(), FP32, quantizable=False)
