"""The caches of a DeepSeek-V4.1 layer: a window of tokens, and in some layers entries, their index and an open group.

A row is 448 fp8 elements without position, 64 rotary ones in bf16 and 8 bytes of scales, in pages of a multiple of 576
bytes; on Blackwell 512 fp8 elements and 16 scales, in pages of a multiple of 512 bytes. Kv and gate of the open group
are a ring of float32 rows, one block for each request.
Source: vLLM 0.33, models/deepseek_v41/attention.py, compressor.py, sparse_mla.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from kvcalc.attention.compressed import CompressedAttention
from kvcalc.engines.vllm.backends import BLACKWELL, HOPPER, Backend
from kvcalc.engines.vllm.compressed import check_rows
from kvcalc.engines.vllm.dtypes import FP8_DS_MLA
from kvcalc.engines.vllm.run import Run
from kvcalc.engines.vllm.specs import CIRCULAR, MLA, SLIDING_MLA, Spec
from kvcalc.model import Model

_ROW_BYTES = {HOPPER[0]: 448 + 2 * 64 + 8, BLACKWELL[0]: 512 + 16}
_PAGE_STEP = {HOPPER[0]: 576, BLACKWELL[0]: 512}
_BLOCK = {HOPPER[0]: 64, BLACKWELL[0]: 128}
_WINDOW_BLOCK = 32
_LEAST_RING = 8
_RATES = (1, 2)
_INDEX_SCALE_GROUP, _FLOAT32_BYTES = 128, 4

WINDOW = Backend("DEEPSEEK_SPARSE_SWA", (32,))
RING = Backend("CompressorBackend", (1,))


def pools_entries(model: Model) -> bool:
    """Whether it is DeepSeek-V4.1, whose entries are those of closed groups."""
    parts = (part for group in model.groups for part in group.parts)
    return any(isinstance(part, CompressedAttention) and part.closed_groups for part in parts)


def pooled_caches(part: CompressedAttention, run: Run) -> Iterator[tuple[str, Spec, Backend, int | None]]:
    """Name, spec, kernels and own block of each cache of a layer, in the order in which vLLM builds them."""
    check_rows(part, run, "DeepSeek-V4.1", "packed KV layouts only support", _ROW_BYTES, _RATES)
    major = run.capability[0]
    row, step = _ROW_BYTES[major], _PAGE_STEP[major]
    shape = (FP8_DS_MLA, "deepseek_v4")
    stride = row if major == BLACKWELL[0] else 1
    window = Spec(SLIDING_MLA, 1, row, shape, window=part.sliding_window, alignment=step, stride_bytes=stride)
    yield "window", window, WINDOW, _WINDOW_BLOCK
    rate = part.compress_rate
    if rate is None:
        return
    if part.index_head_dim is not None:
        keys = part.index_head_dim + part.index_head_dim // _INDEX_SCALE_GROUP * _FLOAT32_BYTES
        index = Spec(MLA, 1, keys, (keys, "uint8", "sparse"), rate, alignment=step)
        yield "indexer", index, Backend("DEEPSEEK_V41_INDEXER", (_BLOCK[major],), exact=True), None
    entries = Backend("DEEPSEEK_V41_SPARSE", (_BLOCK[major],), exact=True)
    yield "entries", Spec(MLA, 1, row, shape, rate, alignment=step), entries, None
    if rate > 1:
        yield "open group", _ring(part.head_dim), RING, _ring_tokens(run)


def _ring(width: int) -> Spec:
    """Kv and gate of each token in float32."""
    elements = 2 * width
    return Spec(CIRCULAR, 1, elements * _FLOAT32_BYTES, (elements, "float32"))


def _ring_tokens(run: Run) -> int:
    """Rows of the ring: the drafts of a step, its own token and the one before, in a power of two of at least 8."""
    rows = run.num_speculative_tokens + 2
    return max(_LEAST_RING, 1 << (rows - 1).bit_length())
