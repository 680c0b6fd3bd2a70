"""TensorRT-LLM 1.x with its KV-cache manager V1: blocks of tokens_per_block, in a pool for each attention window.

A size is what requests take, in whole blocks; the pools are `kvcalc.fit`'s. Established from its source and by 4 sizes
that users saw in logs; it was not run. What manager V2 makes of its byte quotas is not known to kvcalc.
Of KV heads each tensor-parallel rank holds ceil(num_kv_heads / tp); a latent every rank holds whole. Attention data
parallelism (enable_attention_dp) is tp=1 and dp here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from kvcalc.attention.gqa import GroupedQueryAttention
from kvcalc.attention.indexer import Indexer
from kvcalc.attention.mla import MultiHeadLatentAttention
from kvcalc.attention.none import NoCache
from kvcalc.dtypes import BF16, FP32, Dtype, dtype_named
from kvcalc.engines import Allocation, count_from, one_of
from kvcalc.engines._checks import check_blocks, check_unchanged, share
from kvcalc.engines._stages import stage_models
from kvcalc.errors import InvalidValueError, NotApplicableError
from kvcalc.hardware import gpu_named
from kvcalc.model import Attention, LayerGroup, Model
from kvcalc.parallel import Sharing, rounded_heads
from kvcalc.report.pool import Pool, PoolReport
from kvcalc.slots.engines import in_blocks
from kvcalc.slots.layers import EVERY_TOKEN, last_tokens
from kvcalc.slots.rule import SlotRule
from kvcalc.tensors import CacheTensor
from kvcalc.units import GIB, shown

VERSION = "1.x, manager V1"
_AUTO = "auto"
_STORED = {**{name: dtype_named(name) for name in ("fp8", "nvfp4", "int8")}, "float16": dtype_named("fp16")}
_DTYPES = (_AUTO, *_STORED, "bfloat16", "float32")
_KV_DTYPES = ("bf16", "fp16", "fp32", *_STORED)
_QUANT_BLOCK = 128
"""Elements of an index key that share a float32 scale."""
SHARING = Sharing(
    kv_heads="ceil", extra_layers="first", caveat="some of what the ranks hold is twice there, or never written"
)
"""(num_kv_heads + tp - 1) // tp of each layer (KVCacheManager), and layers left over in the first stages (Mapping)."""
_NVFP4_ELEMENTS, _NVFP4_CODES = 9, 8
"""Bytes of a block of nvfp4, and those that are no scale."""


@dataclass(frozen=True)
class Settings:
    """Fields of KvCacheConfig, named and defaulted as TensorRT-LLM has them, and of the LLM around it.

    gpu: a name of presets/gpus.yaml.
    dtype: of the cache: auto (the model's, or size's kv_dtype), fp8, nvfp4, int8, float16, bfloat16, float32.
    tokens_per_block: tokens of a block (32; engines that were built for TensorRT had 64).
    free_gpu_memory_fraction: share of what is free once weights are loaded and activations were measured.
    max_tokens: most tokens of the pool; the smaller of the two holds.
    host_cache_size: bytes of each rank's host for blocks that wait there; none without it.
    max_attention_window: windows of the layers in turn, given again and again; none: every layer keeps every token.
    max_seq_len: longest request, which no window is longer than.
    """

    gpu: str = "h100-80gb"
    dtype: str = _AUTO
    tokens_per_block: int = 32
    free_gpu_memory_fraction: float = 0.9
    max_tokens: int | None = None
    host_cache_size: int | None = None
    max_attention_window: Sequence[int] = ()
    max_seq_len: int | None = None

    def __post_init__(self) -> None:
        gpu_named(self.gpu)
        one_of(self.dtype, "dtype", _DTYPES)
        for field in ("tokens_per_block", "max_tokens", "max_seq_len"):
            count_from(getattr(self, field), field, 1)
        count_from(self.host_cache_size, "host_cache_size", 0)
        if self.tokens_per_block is None or self.tokens_per_block & (self.tokens_per_block - 1):
            raise InvalidValueError(
                f"tokens_per_block must be a power of two, not {shown(self.tokens_per_block)}",
                field="tokens_per_block",
                help="write tokens_per_block=32",
            )
        share(self.free_gpu_memory_fraction, "free_gpu_memory_fraction", 0.9)
        windows = self.max_attention_window
        if isinstance(windows, int) and not isinstance(windows, bool):
            windows = (windows,)
        if not isinstance(windows, list | tuple) or any(type(window) is not int or window < 1 for window in windows):
            raise InvalidValueError(
                f"max_attention_window must be a list of whole numbers, not {shown(self.max_attention_window)}",
                field="max_attention_window",
                help='for instance {"max_attention_window": [512, 512, 32768]}',
            )
        object.__setattr__(self, "max_attention_window", tuple(windows))


def allocate(model: Model, settings: Settings, kv_dtype: Dtype) -> Allocation:
    """Whole blocks that a request takes. Raises NotApplicableError for what the manager does not store."""
    check_unchanged(model, "TensorRT-LLM")
    dtype = _dtype(settings, kv_dtype)
    return tuple(tuple(_tensors(model, group, settings, dtype)) for group in model.groups)


def notes(model: Model, settings: Settings) -> tuple[str, ...]:
    """What TensorRT-LLM does with this model that nobody would expect."""
    found = ["blocks that TensorRT-LLM gives a request; kvcalc.fit knows the pools that they come from"]
    limits = ("sliding_window", "attention_chunk_size")
    if not settings.max_attention_window and any(limit in group.facts for group in model.groups for limit in limits):
        found.append("without max_attention_window every layer keeps every token, whatever the model's own windows")
    return tuple(found)


MEMORY_SHARE = "free_gpu_memory_fraction"


def left_for_cache(settings: Settings, memory_bytes: int, used_bytes: int) -> int:
    """(memory - what is in use) * free_gpu_memory_fraction."""
    return int((memory_bytes - used_bytes) * settings.free_gpu_memory_fraction)


def fit(model: Model, settings: Settings, *, tp: int, pp: int, dcp: int, available_bytes: Sequence[int]) -> PoolReport:
    """Pools that fit available_bytes of a rank of each stage; several windows share them equally.

    One window: floor(min(available / bytes of a token, max_tokens) / tokens_per_block) blocks, by the stage that has
    fewest. Several: floor(available / windows / bytes of a block) blocks of each, whatever max_tokens says, where the
    scales of nvfp4 are not charged. host_cache_size is shared alike, whatever max_tokens says. Raises
    NotApplicableError where there is not one block.
    """
    if dcp > 1:
        raise NotApplicableError(
            f"TensorRT-LLM has no decode context parallelism of this kind (dcp {dcp})", help="leave dcp out"
        )
    stages = stage_models(model, tp, pp, SHARING)
    bytes_of = [_bytes_by_window(stage, settings) for stage in stages]
    blocks = [_blocks(held, settings, available) for held, available in zip(bytes_of, available_bytes, strict=True)]
    fewest = _fewest(blocks)
    if not fewest or min(fewest.values()) <= 0:
        raise NotApplicableError(
            "not one block of the cache fits the memory that is left for it",
            help="raise free_gpu_memory_fraction or max_tokens, or use more GPUs",
        )
    pools, host = (
        tuple(tuple(_pool(window, held, number, settings) for window, held in own.items()) for own in bytes_of)
        for number in (fewest, _fewest([_host_blocks(held, settings) for held in bytes_of]))
    )
    tokens = settings.tokens_per_block * fewest[max(fewest)]
    return PoolReport(
        model=model.name,
        engine="tensorrt_llm",
        version=VERSION,
        gpu=gpu_named(settings.gpu).name,
        available_bytes=tuple(available_bytes),
        tokens=tokens,
        stages=pools,
        log_lines=tuple(_log_line(pool, settings) for pool in pools[0]),
        resolved=(("tokens_per_block", settings.tokens_per_block),),
        notes=(*model.notes, *rounded_heads(model, tp, SHARING)),
        host=host if settings.host_cache_size else (),
    )


def _tensors(model: Model, group: LayerGroup, settings: Settings, dtype: Dtype) -> Iterator[CacheTensor]:
    """Tensors of one layer: K and V, or the latent alone, and the key of its indexer."""
    rule = _rule(_window(model, group, settings), settings.tokens_per_block)
    for part in group.parts:
        if isinstance(part, GroupedQueryAttention | MultiHeadLatentAttention):
            for tensor in part.tensors():
                check_blocks(f"a head of {tensor.name}", tensor.dims[-1].size, dtype, "TensorRT-LLM")
                yield tensor._replace(slot_rule=rule, dtype=dtype)
        elif isinstance(part, Indexer) and _is_beside_latent(group) and not part.index_pooling:
            width = part.index_head_dim
            scaled = Dtype("fp8", width, width + width // _QUANT_BLOCK * FP32.block_bytes, "fp8, float32 scale for 128")
            yield part.tensors()[0]._replace(slot_rule=rule, dtype=scaled, quantizable=False)
        elif not isinstance(part, NoCache):
            raise NotApplicableError(
                f"kvcalc does not know how TensorRT-LLM stores {part.label} layers, as {group.name} layers of "
                f"{model.name} are",
                help="size it in another engine",
            )


def _rule(window: int | None, block: int) -> SlotRule:
    """Whole blocks; of a window one more than it fills, so that it is always held (kSWAExtraBlock)."""
    return in_blocks(block, EVERY_TOKEN if window is None else last_tokens(-(-window // block) * block + block))


def _window(model: Model, group: LayerGroup, settings: Settings) -> int | None:
    """Window of the group's layers; None where they keep every token.

    A pipeline stage counts its own layers from 0, wherever it begins (_get_window_size_to_layers).
    """
    windows = settings.max_attention_window
    longest = settings.max_seq_len or model.max_model_len
    if not windows:
        return None
    found = {windows[layer % len(windows)] for layer in group.layers}
    if len(found) > 1:
        raise NotApplicableError(
            f"max_attention_window gives {group.name} layers of {model.name} several windows ({sorted(found)}), and a "
            "size knows one for all",
            help="give as many windows as the model's own pattern has layers",
        )
    window = found.pop()
    return None if longest is not None and window >= longest else window


def _bytes_by_window(stage: Model, settings: Settings) -> dict[int, dict[str, int]]:
    """Bytes of a token in all layers of a window, by tensor; full attention under its longest request, or 0."""
    dtype = _dtype(settings, BF16)
    found: dict[int, dict[str, int]] = {}
    for group in stage.groups:
        window = _window(stage, group, settings) or settings.max_seq_len or stage.max_model_len or 0
        for tensor in _tensors(stage, group, settings, dtype):
            held = found.setdefault(window, {"layers": 0})
            held[tensor.name] = held.get(tensor.name, 0) + len(group.layers) * tensor.bytes_per_slot(dtype)
        if window in found:
            found[window]["layers"] += len(group.layers)
    return found


def _blocks(bytes_of: dict[int, dict[str, int]], settings: Settings, available_bytes: int) -> dict[int, int]:
    """Blocks of each window."""
    block = settings.tokens_per_block
    if len(bytes_of) == 1:
        ((window, held),) = bytes_of.items()
        fitting = available_bytes // (block * _token_bytes(held))
        return {window: fitting if settings.max_tokens is None else min(fitting, settings.max_tokens // block)}
    each_bytes = available_bytes // max(1, len(bytes_of))
    charged = (_NVFP4_CODES, _NVFP4_ELEMENTS) if settings.dtype == "nvfp4" else (1, 1)
    return {
        window: each_bytes // (block * _token_bytes(held) * charged[0] // charged[1])
        for window, held in bytes_of.items()
    }


def _host_blocks(bytes_of: dict[int, dict[str, int]], settings: Settings) -> dict[int, int]:
    """Blocks of each window in the memory of the host."""
    return _blocks(bytes_of, replace(settings, max_tokens=None), settings.host_cache_size or 0)


def _fewest(blocks: Sequence[dict[int, int]]) -> dict[int, int]:
    """Of each window the blocks of the stage that has fewest."""
    return {window: min(held[window] for held in blocks if window in held) for held in blocks for window in held}


def _token_bytes(held: dict[str, int]) -> int:
    return sum(bytes_ for name, bytes_ in held.items() if name != "layers")


def _pool(window: int, held: dict[str, int], blocks: dict[int, int], settings: Settings) -> Pool:
    block = settings.tokens_per_block
    tensors = tuple((name, block * bytes_) for name, bytes_ in held.items() if name != "layers")
    return Pool(
        f"window {window:,}" if window else "full", held["layers"], f"block of {block}", blocks[window], tensors
    )


def _log_line(pool: Pool, settings: Settings) -> str:
    tokens = pool.slots * settings.tokens_per_block
    return f"[MemUsageChange] Allocated {pool.bytes / GIB:.2f} GiB for max tokens in paged KV cache ({tokens})."


def _is_beside_latent(group: LayerGroup) -> bool:
    kinds: list[Attention] = list(group.parts)
    return any(isinstance(part, MultiHeadLatentAttention) for part in kinds)


def _dtype(settings: Settings, kv_dtype: Dtype) -> Dtype:
    """Format of the cache. Raises NotApplicableError for one that the manager has not."""
    if settings.dtype != _AUTO:
        return dtype_named(settings.dtype)
    if kv_dtype.name not in _KV_DTYPES:
        raise NotApplicableError(
            f"TensorRT-LLM stores no cache in {kv_dtype}", help=f"use one of {', '.join(_KV_DTYPES)}"
        )
    return kv_dtype
