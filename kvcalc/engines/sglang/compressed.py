"""What SGLang stores of DeepSeek-V4: pages of 256 tokens of its window, pages of compressed entries, and their states.

Entries lie in pages of bytes, padded to what the kernels read in one piece, on every GPU alike (the layout of V4.1 is
taken where SGLANG_DSV4_KV_LAYOUT asks for it):

    window        ceil(256 * 584 / 576) * 576 bytes a page: of an entry 448 fp8, 64 in bf16, 7 scales and a spare byte
    CSA           pages of 256 / 4 entries, laid out alike, and of as many index keys of 128 fp8 and a float32 scale
    HCA           pages of 256 / 128 entries
    CSA states    for each page of the window 8 rows of kv and gate, for two overlapping entries and index keys, float32
    HCA states    for each request 128 rows of kv and gate, float32; with drafts twice as many rows of both

Source: SGLang, mem_cache/deepseek_v4_memory_pool.py, deepseek_v4_compress_state.py,
model_executor/pool_configurator.py (DSV4PoolConfigurator), kernels/ops/attention/dsv4/kv_layout.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from kvcalc.attention.compressed import CompressedAttention
from kvcalc.cache.dtypes import FP32, Dtype
from kvcalc.cache.slots.engines import blocks
from kvcalc.cache.slots.layers import EVERY_TOKEN, last_tokens, once
from kvcalc.cache.tensor import CacheTensor, Dim
from kvcalc.engines.sglang.schedule import Schedule
from kvcalc.errors import NotApplicableError
from kvcalc.model import LayerGroup, Model

PAGE = 256
"""Tokens of a page, whatever is asked for."""
_ENTRY_WIDTH = 512
_INDEX_SCALE_BLOCK = 128
CSA_RATE, HCA_RATE = 4, 128
_RING_ROWS = {CSA_RATE: 8, HCA_RATE: 128}
_OVERLAPPING = 2


_ENTRY = Dtype("v4", 1, 1, "448 fp8, 64 bf16, 7 scales and a spare byte")
_ENTRY_BYTES = 448 + 2 * 64 + 8
_STEP_BYTES = 576
"""What a page is a multiple of (DeepSeekV4SingleKVPool)."""
_INDEX = Dtype("fp8", _INDEX_SCALE_BLOCK, _INDEX_SCALE_BLOCK + 4, "fp8 and a float32 scale for 128")


def is_compressed(model: Model) -> bool:
    """Whether the model has layers of DeepSeek-V4."""
    return any(isinstance(part, CompressedAttention) for group in model.groups for part in group.parts)


def ring_rows(rate: int, *, drafts: bool) -> int:
    """Rows of a ring of tokens that wait to be compressed (get_compress_state_ring_size)."""
    return _RING_ROWS[rate] * (2 if drafts else 1)


def tensors_of(group: LayerGroup, part: CompressedAttention, schedule: Schedule) -> Iterator[CacheTensor]:
    """Pages and rows that a request takes in one layer. Raises NotApplicableError for what the pools are not made for.

    Of its window a request holds what the schedule says, in pages that both ends cut.
    """
    _check(group, part)
    window, every = blocks(PAGE, last_tokens(schedule.window_tokens(part.sliding_window))), blocks(PAGE, EVERY_TOKEN)
    yield CacheTensor("kv", (_page(PAGE),), window, _ENTRY, quantizable=False)
    rate = part.compress_rate
    if rate is None:
        return
    yield CacheTensor("compressed_kv", (_page(PAGE // rate),), every, _ENTRY, quantizable=False)
    if part.index_head_dim is not None:
        index = (Dim("entries", PAGE // rate), Dim("index_head_dim", part.index_head_dim))
        yield CacheTensor("index_k", index, every, _INDEX, quantizable=False)
    rows = Dim("rows", ring_rows(rate, drafts=schedule.drafts is not None))
    ring = window if rate == CSA_RATE else once(1)
    yield CacheTensor("states", (rows, *_state_row(part)), ring, FP32, quantizable=False)


def _page(entries: int) -> Dim:
    """Bytes of a page of so many entries."""
    return Dim("page_bytes", -(-entries * _ENTRY_BYTES // _STEP_BYTES) * _STEP_BYTES)


def _state_row(part: CompressedAttention) -> tuple[Dim, ...]:
    """Dimensions of what one token waits with until it is compressed."""
    if part.index_head_dim is None:
        return Dim("kv_and_gate", 2), Dim("head_dim", part.head_dim)
    both = Dim("head_dim + index_head_dim", part.head_dim + part.index_head_dim)
    return Dim("kv_and_gate", 2), Dim("overlapping_entries", _OVERLAPPING), both


def _check(group: LayerGroup, part: CompressedAttention) -> None:
    known = {(None, False), (CSA_RATE, True), (HCA_RATE, False)}
    if part.head_dim != _ENTRY_WIDTH or (part.compress_rate, part.index_head_dim is not None) not in known:
        raise NotApplicableError(
            f"SGLang's pools of DeepSeek-V4 are made for entries of {_ENTRY_WIDTH}, compressed {CSA_RATE} to 1 with an "
            f"index or {HCA_RATE} to 1 without, not for {part.label} of {part.head_dim} as {group.name} layers are",
            help="size it in another engine",
        )
    if part.index_head_dim is not None and part.index_head_dim % _INDEX_SCALE_BLOCK:
        raise NotApplicableError(
            f"SGLang scales index keys in blocks of {_INDEX_SCALE_BLOCK}, which do not divide index_head_dim "
            f"({part.index_head_dim})",
            help="size it in another engine",
        )
