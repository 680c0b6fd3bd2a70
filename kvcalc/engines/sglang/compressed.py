"""What SGLang stores for DeepSeek-V4: window pages of 256 tokens, pages of compressed entries, and their states.

Entries are in byte pages, padded to the kernels' read size, the same on every GPU (the V4.1 layout is used if
SGLANG_DSV4_KV_LAYOUT requests it):

    window        ceil(256 * 584 / 576) * 576 bytes a page: of an entry 448 fp8, 64 in bf16, 7 scales and a spare byte
    CSA           pages of 256 / 4 entries, laid out alike, and of as many index keys of 128 fp8 and a float32 scale
    HCA           pages of 256 / 128 entries
    CSA states    for each page of the window 8 rows of kv and gate, for two overlapping entries and index keys, float32
    V4.1          pages of 256 / r entries of sources (r 1 or 2), index keys of 128 fp4 and 4 scales; for r 2 an open
                  pair of kv and gate for each request, float32
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
from kvcalc.cache.slots.rule import SlotRule
from kvcalc.cache.tensor import CacheTensor, Dim
from kvcalc.engines.base.rows import Row
from kvcalc.engines.sglang.schedule import Drafts, Schedule
from kvcalc.errors import NotApplicableError
from kvcalc.model import LayerGroup, Model

PAGE = 256
"""Tokens of a page, whatever is set."""
_ENTRY_WIDTH = 512
_INDEX_SCALE_BLOCK = 128
CSA_RATE, HCA_RATE = 4, 128
_RING_ROWS = {CSA_RATE: 8, HCA_RATE: 128}
_OVERLAPPING = 2
_PAIR = 2


_V4 = (
    {(None, False), (CSA_RATE, True), (HCA_RATE, False)},
    f"{CSA_RATE} to 1 with an index or {HCA_RATE} to 1 without",
)
_V41 = {(1, True), (_PAIR, True)}, f"{_PAIR} to 1 or each alone, with an index"
"""Rates of groups and whether they have an index, and the same in words."""
_ENTRY = Dtype("v4", 1, 1, "448 fp8, 64 bf16, 7 scales and a spare byte")
_ENTRY_BYTES = 448 + 2 * 64 + 8
_PAGE_BYTES = "page_bytes"
_STEP_BYTES = 576
"""Alignment of a page (DeepSeekV4SingleKVPool)."""
_INDEX_IN_FP4 = Dtype(
    "fp4",
    _INDEX_SCALE_BLOCK,
    _INDEX_SCALE_BLOCK // 2 + 4,
    "fp4 and four scales for 128",  # a scale for 32
)
_INDEX = Dtype("fp8", _INDEX_SCALE_BLOCK, _INDEX_SCALE_BLOCK + 4, "fp8 and a float32 scale for 128")


def is_compressed(model: Model) -> bool:
    """Whether the model has layers of DeepSeek-V4."""
    return any(isinstance(part, CompressedAttention) for group in model.groups for part in group.parts)


def pools_entries(model: Model) -> bool:
    """Whether it is DeepSeek-V4.1, whose entries are those of closed groups."""
    parts = (part for group in model.groups for part in group.parts)
    return any(isinstance(part, CompressedAttention) and part.closed_groups for part in parts)


def open_group_rows(drafts: Drafts | None) -> int:
    """Rows of a ring of DeepSeek-V4.1: a pair, with drafts the next power of two above them and the pair."""
    return _PAIR if drafts is None else 1 << (drafts.tokens + 1).bit_length()


def ring_rows(rate: int, *, drafts: bool) -> int:
    """Rows of a ring of tokens pending compression (get_compress_state_ring_size)."""
    return _RING_ROWS[rate] * (2 if drafts else 1)


def tensors_of(group: LayerGroup, part: CompressedAttention, schedule: Schedule) -> Iterator[CacheTensor]:
    """Pages and rows of a request in one layer. Raises NotApplicableError for shapes the pools do not support.

    Of its window a request holds what the schedule says, in pages cut at both ends.
    """
    _check(group, part)
    window, every = blocks(PAGE, last_tokens(schedule.window_tokens(part.sliding_window))), blocks(PAGE, EVERY_TOKEN)
    yield CacheTensor("kv", (_page(PAGE),), window, _ENTRY, quantizable=False)
    rate = part.compress_rate
    if rate is None:
        return
    if part.closed_groups:
        yield from _closed_groups(part, rate, every, schedule.drafts)
        return
    yield CacheTensor("compressed_kv", (_page(PAGE // rate),), every, _ENTRY, quantizable=False)
    if part.index_head_dim is not None:
        index = (Dim("entries", PAGE // rate), Dim("index_head_dim", part.index_head_dim))
        yield CacheTensor("index_k", index, every, _INDEX, quantizable=False)
    rows = Dim("rows", ring_rows(rate, drafts=schedule.drafts is not None))
    ring = window if rate == CSA_RATE else once(1)
    yield CacheTensor("states", (rows, *_state_row(part)), ring, FP32, quantizable=False)


def _closed_groups(
    part: CompressedAttention, rate: int, pages: SlotRule, drafts: Drafts | None
) -> Iterator[CacheTensor]:
    """Entries of a source of DeepSeek-V4.1, their index keys in 4 bits, and the open group in float32."""
    yield CacheTensor("compressed_kv", (_page(PAGE // rate),), pages, _ENTRY, quantizable=False)
    index = (Dim("entries", PAGE // rate), Dim("index_head_dim", part.index_head_dim or 0))
    yield CacheTensor("index_k", index, pages, _INDEX_IN_FP4, quantizable=False)
    if rate > 1:
        rows = Dim("rows", open_group_rows(drafts))
        yield CacheTensor(
            "states", (rows, Dim("kv_and_gate", 2), Dim("head_dim", part.head_dim)), once(1), FP32, quantizable=False
        )


def _page(entries: int) -> Dim:
    """Bytes of a page with this number of entries."""
    return Dim(_PAGE_BYTES, -(-entries * _ENTRY_BYTES // _STEP_BYTES) * _STEP_BYTES)


def out_of_page(row: Row) -> Row:
    """A row of entries, of which the slot is a page; others as they are."""
    return row._replace(bytes=_ENTRY_BYTES, is_slot=False) if row.stored.dims[0].name == _PAGE_BYTES else row


def _state_row(part: CompressedAttention) -> tuple[Dim, ...]:
    """Dimensions of a token's state pending compression."""
    if part.index_head_dim is None:
        return Dim("kv_and_gate", 2), Dim("head_dim", part.head_dim)
    both = Dim("head_dim + index_head_dim", part.head_dim + part.index_head_dim)
    return Dim("kv_and_gate", 2), Dim("overlapping_entries", _OVERLAPPING), both


def _check(group: LayerGroup, part: CompressedAttention) -> None:
    known, words = _V41 if part.closed_groups else _V4
    if part.head_dim != _ENTRY_WIDTH or (part.compress_rate, part.index_head_dim is not None) not in known:
        raise NotApplicableError(
            f"SGLang's pools of DeepSeek-V4 support only entries of {_ENTRY_WIDTH}, compressed {words}, not for "
            f"{part.label} of {part.head_dim} as {group.name} layers are",
            help="try another --engine",
        )
    if part.index_head_dim is not None and part.index_head_dim % _INDEX_SCALE_BLOCK:
        raise NotApplicableError(
            f"SGLang scales index keys in blocks of {_INDEX_SCALE_BLOCK}, which do not divide index_head_dim "
            f"({part.index_head_dim})",
            help="try another --engine",
        )
