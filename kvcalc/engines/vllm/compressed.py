"""The caches of a DeepSeek-V4 layer: a window of tokens, compressed entries, an indexer, and pending tokens.

Rows of an entry are 448 fp8 elements without position, 64 rotary ones in bf16 and 8 bytes of scales; a page is a
multiple of 576 bytes. Tokens pending compression are kept in float32 as a separate window.
Source: vLLM, models/deepseek_v4/attention.py, compressor.py, v1/attention/backends/mla/sparse_swa.py.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from kvcalc.attention.compressed import CompressedAttention
from kvcalc.engines.vllm.backends import Backend
from kvcalc.engines.vllm.dtypes import FP8_DS_MLA
from kvcalc.engines.vllm.run import Run
from kvcalc.engines.vllm.specs import MLA, SLIDING_MLA, Spec
from kvcalc.errors import NotApplicableError

_MAJORS = (9, 10)
_ROW_BYTES = 448 + 2 * 64 + 8
_ENTRY_WIDTH = 512
_PAGE_STEP = 576
_WINDOW_BLOCK = 64
_WAITING_BLOCKS = {4: 4, 128: 8}
"""Tokens of a block of pending tokens, by the tokens per entry."""
_FLOAT32_BYTES = 4
_INDEX_SCALE_GROUP = 128
_OVERLAPPING_RATE = 4
"""Tokens per entry for entries that overlap: each token is compressed into two neighbouring ones."""

WINDOW = Backend("DEEPSEEK_SPARSE_SWA", (32,))
ENTRIES = Backend("FLASHMLA_SPARSE_DSV4", (256,), exact=True)
INDEX = Backend("DEEPSEEK_V4_INDEXER", (256,), exact=True)
WAITING = Backend("CompressorBackend", (1,))


def compressed_caches(part: CompressedAttention, run: Run) -> Iterator[tuple[str, Spec, Backend, int | None]]:
    """Name, spec, kernels and own block of each cache of a layer, in the order in which vLLM builds them."""
    check_rows(part, run, "DeepSeek-V4", "fp8_ds_mla layout only supports", _MAJORS, _WAITING_BLOCKS)
    shape = (FP8_DS_MLA, "deepseek_v4")
    window = Spec(SLIDING_MLA, 1, _ROW_BYTES, shape, window=part.sliding_window, alignment=_PAGE_STEP)
    yield "window", window, WINDOW, _WINDOW_BLOCK
    rate = part.compress_rate
    if rate is None:
        return
    block = _WAITING_BLOCKS[rate]
    if part.index_head_dim is not None:
        width = part.index_head_dim
        row = width + width // _INDEX_SCALE_GROUP * _FLOAT32_BYTES
        index = Spec(MLA, 1, row, (row, "uint8", "sparse"), rate, alignment=_PAGE_STEP)
        yield "indexer", index, INDEX, None
        yield "indexer waiting", _waiting(rate, width), WAITING, block
    yield "entries", Spec(MLA, 1, _ROW_BYTES, shape, rate, alignment=_PAGE_STEP), ENTRIES, None
    yield "waiting", _waiting(rate, part.head_dim), WAITING, block


def _waiting(rate: int, width: int) -> Spec:
    """Kv and gate of each token in float32, twice as wide if entries overlap, as far back as an entry reaches."""
    overlap = 2 if rate == _OVERLAPPING_RATE else 1
    elements = 2 * overlap * width  # kv and gate
    return Spec(
        SLIDING_MLA,
        1,
        elements * _FLOAT32_BYTES,
        (elements, "float32"),
        window=overlap * rate,
        alignment=_PAGE_STEP,
    )


def check_rows(
    part: CompressedAttention, run: Run, name: str, in_fp8: str, majors: Collection[int], rates: Collection[int]
) -> None:
    """Raises NotApplicableError for what vLLM's kernels for `name` do not support.

    in_fp8: vLLM's words for rows in fp8. majors: compute capabilities. rates: tokens that a row may stand for.
    """
    if run.cpu is not None:
        raise NotApplicableError(
            f"vLLM's storage of {name}'s cache on a CPU is unknown", help="choose a Hopper or Blackwell GPU as gpu"
        )
    if run.capability[0] not in majors:
        raise NotApplicableError(
            f"vLLM's kernels for {name} need compute capability {' or '.join(map(str, majors))}, but {run.gpu.name} "
            f"has {run.capability[0]}.{run.capability[1]}",
            help="choose a Hopper or Blackwell GPU as gpu",
        )
    if run.cache_dtype != "auto" and not run.cache_dtype.startswith("fp8"):
        raise NotApplicableError(
            f"DeepseekV4 {in_fp8} fp8 kv-cache, got {run.cache_dtype}",
            help="set kv_cache_dtype to auto or fp8",
        )
    if part.head_dim != _ENTRY_WIDTH or (part.compress_rate and part.compress_rate not in rates):
        raise NotApplicableError(
            f"vLLM's rows for {name} hold {_ENTRY_WIDTH} elements and stand for "
            f"{' or '.join(map(str, rates))} tokens, not {part.head_dim} and {part.compress_rate}",
            help="use --engine ideal",
        )
