"""Attention backends: which kernels vLLM chooses for a layer on a GPU, and the block sizes that they read.

The table lists what each backend refuses; vLLM takes the first, by priority, that refuses nothing.
Source: vLLM, platforms/cuda.py (priorities), v1/attention/backends/ (what each supports).
"""

from __future__ import annotations

from collections.abc import Iterator
from math import lcm
from typing import NamedTuple

from kvcalc.engines.vllm.dtypes import (
    FP8,
    FP8_DS_MLA,
    MODEL,
    NVFP4_DS_MLA,
    PER_TOKEN_HEAD,
    QUANTISED,
    TURBOQUANT,
)
from kvcalc.errors import NotApplicableError

AMPERE, ADA, HOPPER, BLACKWELL, BLACKWELL_RTX = (8, 0), (8, 9), (9, 0), (10, 0), (12, 0)
_FP8_E4M3 = FP8[:2]
_LATENT_WIDTHS = (320, 512, 576)
_FA_WIDTH_STEP, _FA_WIDEST, _FA4_WIDEST = 8, 256, 512
_FEW_HEADS = 16
"""Query heads of a rank up to which Blackwell's sparse kernels are tried in another order."""
_FA4_HEADS, _FA4_MOST_HEADS, _FA4_MOST_HEADS_SHARED = (8, 16, 32, 64, 128), 128, 64
"""Query heads that FlashAttention 4's sparse kernel reads, and the most of them, without and with dcp."""


class Need(NamedTuple):
    """A layer's requirements for its kernels. width: of a key, or of the latent. query_heads: on one rank.

    gathered_heads: of latents, query heads of all ranks that share tokens. asked: the user's backend.
    """

    width: int
    cache_dtype: str
    model_dtype: str
    block_size: int | None
    mla: bool = False
    sparse: bool = False
    sinks: bool = False
    images_whole: bool = False
    crosses: bool = False
    dcp: bool = False
    query_heads: int = 0
    kv_heads: int = 1
    no_position_width: int = 0
    windowed: bool = False
    gathered_heads: int = 0
    asked: str | None = None


class Backend(NamedTuple):
    """A family of kernels.

    block_sizes: of its kernels; exact: whether multiples of them are excluded; splits: whether a larger block may be
    read as several of them.
    majors: of the compute capabilities that it runs on; empty: all from `since` on.
    cache_dtypes: formats that it reads. widths: of heads or latents; empty: all.
    """

    name: str
    block_sizes: tuple[int, ...] = (16,)
    exact: bool = False
    splits: bool = True
    mla: bool = False
    sparse: bool = False
    since: tuple[int, int] = (0, 0)
    majors: tuple[int, ...] = ()
    cache_dtypes: tuple[str, ...] = MODEL
    model_dtypes: tuple[str, ...] = ("float16", "bfloat16")
    widths: tuple[int, ...] = ()
    reads_sinks: bool = False
    reads_images_whole: bool = False
    crosses: bool = False
    reads_windows: bool = True
    dcp: bool = False

    @property
    def smallest(self) -> int:
        """Smallest block of its kernels."""
        return min(self.block_sizes)

    def accepts_block(self, block_size: int) -> bool:
        """Whether its kernels can read blocks of this size, split if necessary."""
        if not self.splits:
            return block_size in self.block_sizes
        return any(block_size % size == 0 for size in self.block_sizes)

    def preferred_block(self, default: int) -> int:
        """`default` if the kernels can read it, else their smallest block."""
        return default if self.accepts_block(default) else self.smallest

    def largest_within(self, tokens: int) -> int:
        """Largest block of its kernels of at most `tokens`, or its smallest."""
        if not self.exact:
            return max(max(size, tokens // size * size) for size in self.block_sizes)
        return max((size for size in self.block_sizes if size <= tokens), default=self.smallest)

    @property
    def kernel_block(self) -> int | None:
        """Largest block of its kernels; larger ones are split into whole blocks of this size."""
        return max(self.block_sizes) if self.exact else None

    def refusals(self, need: Need, capability: tuple[int, int]) -> Iterator[str]:
        """Reasons why it cannot serve a layer; empty if it can."""
        if self.widths and need.width not in self.widths:
            yield "head_size not supported"
        if need.model_dtype not in self.model_dtypes:
            yield "dtype not supported"
        if need.cache_dtype not in self.cache_dtypes:
            yield "kv_cache_dtype not supported"
        if need.block_size is not None and not self.accepts_block(need.block_size):
            yield "block_size not supported"
        if need.images_whole and not self.reads_images_whole:
            yield "partial multimodal token full attention not supported"
        if need.mla != self.mla:
            yield f"{'' if need.mla else 'non-'}MLA not supported"
        if need.sinks and not self.reads_sinks:
            yield "attention sinks not supported"
        if need.sparse != self.sparse:
            yield f"{'' if need.sparse else 'non-'}sparse not supported"
        if (self.majors and capability[0] not in self.majors) or capability < self.since:
            yield "compute capability not supported"
        if need.crosses and not self.crosses:
            yield "attention type encoder_decoder not supported"
        if need.windowed and not self.reads_windows:
            yield "sliding window not supported"
        if need.dcp and not self.dcp:
            yield "DCP not supported"
        yield from _SPECIAL.get(self.name, _nothing)(need, capability)


def _nothing(_: Need, __: tuple[int, int]) -> Iterator[str]:
    yield from ()


def _flash_attn(need: Need, capability: tuple[int, int]) -> Iterator[str]:
    widest = _FA4_WIDEST if capability[0] in (HOPPER[0], BLACKWELL[0]) else _FA_WIDEST
    if need.width % _FA_WIDTH_STEP or need.width > widest:
        yield "head_size not supported"
    if need.sinks and capability < HOPPER:
        yield "sink not supported on compute capability < 9.0"
    version = _flash_attn_version(need, capability)
    quantised = need.cache_dtype not in MODEL
    on_hopper = capability[0] == HOPPER[0] and (version == 3 or need.width == _FA4_WIDEST)  # noqa: PLR2004
    if quantised and not (on_hopper or (version == 4 and capability[0] == BLACKWELL[0])):  # noqa: PLR2004
        yield "FP8 KV cache requires FA3 on SM90, FA4 with head_size=512 on SM90, or FA4 on SM100"
    if need.images_whole and quantised and capability == HOPPER:
        yield "SM90 FP8 KV with mm_prefix requires Triton"
    if need.images_whole and version != 4:  # noqa: PLR2004
        yield "mm_prefix (PrefixLM bidirectional attention) requires FlashAttention v4"


def _flash_attn_version(need: Need, capability: tuple[int, int]) -> int:
    """3 on Hopper (4 for wide heads), 4 on Blackwell (2 for heads wider than its kernels), else 2."""
    if capability[0] == HOPPER[0]:
        return 4 if need.width > _FA_WIDEST else 3
    if capability[0] != BLACKWELL[0]:
        return 2
    asks_more = need.cache_dtype not in MODEL or need.images_whole or need.sinks or need.dcp
    return 4 if need.width <= 128 or (need.width == _FA_WIDEST and not asks_more) else 2  # noqa: PLR2004


def _flashinfer(need: Need, capability: tuple[int, int]) -> Iterator[str]:
    if capability > (12, 1):
        yield "compute capability not supported"
    if need.sinks and capability[0] not in (HOPPER[0], BLACKWELL[0], BLACKWELL_RTX[0]):
        yield "attention sinks not supported"
    if not need.cache_dtype.startswith("nvfp4"):
        return
    if capability[0] in (AMPERE[0], HOPPER[0], BLACKWELL_RTX[0]):
        if need.cache_dtype != "nvfp4":
            yield "kv_cache_dtype not supported"
        if need.width == 64:  # noqa: PLR2004
            yield "fa2 prefill misreads an NVFP4 KV cache at head_size 64"
        if need.sinks:
            yield "the sink prefill wrapper cannot read an NVFP4 KV cache"


def _triton(need: Need, _: tuple[int, int]) -> Iterator[str]:
    if need.width < 32:  # noqa: PLR2004
        yield "head_size not supported"


def _flashmla(_: Need, capability: tuple[int, int]) -> Iterator[str]:
    if capability[0] != HOPPER[0]:
        yield "FlashMLA Dense is only supported on Hopper devices."


def _flash_attn_mla_sparse_fa4(need: Need, _: tuple[int, int]) -> Iterator[str]:
    most = _FA4_MOST_HEADS_SHARED if need.dcp else _FA4_MOST_HEADS
    if need.gathered_heads not in _FA4_HEADS or need.gathered_heads > most:
        yield f"FA4 sparse MLA requires {_FA4_HEADS} gathered query heads up to {most}, got {need.gathered_heads}"


def _flashmla_sparse(need: Need, capability: tuple[int, int]) -> Iterator[str]:
    if need.cache_dtype == NVFP4_DS_MLA and capability[0] != BLACKWELL[0]:
        yield "FLASHMLA_SPARSE only supports the nvfp4_ds_mla kv-cache dtype on SM100 (Blackwell)"


def _flashinfer_mla(need: Need, _: tuple[int, int]) -> Iterator[str]:
    if need.no_position_width not in (64, 128, 192):
        yield f"FlashInfer MLA kernel requires qk_nope_head_dim in [64, 128, 192], but got {need.no_position_width}"


def _flashinfer_mla_sparse(need: Need, _: tuple[int, int]) -> Iterator[str]:
    if need.no_position_width not in (128, 192):
        yield (
            f"FlashInfer MLA Sparse kernel requires qk_nope_head_dim in [128, 192], but got {need.no_position_width}"
        )


_SPECIAL = {
    "FLASH_ATTN": _flash_attn,
    "FLASHINFER": _flashinfer,
    "TRITON_ATTN": _triton,
    "FLASHMLA": _flashmla,
    "FLASH_ATTN_MLA_SPARSE_FA4": _flash_attn_mla_sparse_fa4,
    "FLASHMLA_SPARSE": _flashmla_sparse,
    "FLASHINFER_MLA": _flashinfer_mla,
    "FLASHINFER_MLA_SPARSE": _flashinfer_mla_sparse,
}
_ALL_MODEL_DTYPES = ("float16", "bfloat16", "float32")
_BF16_LATENT = ("auto", "bfloat16")
_DENSE = Backend(
    "kernels of dense latents",
    exact=True,
    mla=True,
    cache_dtypes=(*MODEL, *_FP8_E4M3),
    widths=_LATENT_WIDTHS,
    dcp=True,
)
_COMPOSED = Backend(  # what sees images whole is Triton's, the rest another's
    "two kernels as one",
    cache_dtypes=(*MODEL, *FP8),
    widths=(256, 512),
    reads_sinks=True,
    reads_images_whole=True,
)
_TABLE = (
    Backend(
        "FLASH_ATTN",
        since=AMPERE,
        cache_dtypes=(*MODEL, *_FP8_E4M3),
        reads_sinks=True,
        reads_images_whole=True,
        crosses=True,
        dcp=True,
    ),
    Backend(
        "FLASHINFER",
        (16, 32, 64),
        exact=True,
        since=AMPERE,
        cache_dtypes=(*MODEL, *FP8, "nvfp4", "nvfp4_4over6"),
        widths=(64, 128, 256, 512),
        reads_sinks=True,
        dcp=True,
    ),
    Backend(
        "TRITON_ATTN",
        cache_dtypes=(*MODEL, *FP8, *PER_TOKEN_HEAD),
        model_dtypes=_ALL_MODEL_DTYPES,
        reads_sinks=True,
        reads_images_whole=True,
        crosses=True,
    ),
    _COMPOSED._replace(name="TRITON_FLASH_ATTN", majors=(9,), cache_dtypes=(*MODEL, *_FP8_E4M3)),
    _COMPOSED._replace(name="TRITON_FLASHINFER", block_sizes=(64,), exact=True, majors=(10,)),
    Backend("FLEX_ATTENTION", model_dtypes=_ALL_MODEL_DTYPES, reads_images_whole=True),
    Backend("TURBOQUANT", (16, 32, 64, 128), exact=True, cache_dtypes=TURBOQUANT, reads_windows=False),
    Backend("FLASH_ATTN_MLA", mla=True, majors=(9,), widths=_LATENT_WIDTHS, dcp=True),
    _DENSE._replace(name="FLASHMLA", block_sizes=(64,), majors=(9, 10)),
    _DENSE._replace(name="FLASHINFER_MLA", block_sizes=(32, 64), majors=(10,)),
    _DENSE._replace(name="CUTLASS_MLA", block_sizes=(128,), majors=(10,)),
    Backend("TRITON_MLA", mla=True, cache_dtypes=(*MODEL, *_FP8_E4M3), dcp=True),
    Backend("FLASH_ATTN_MLA_SPARSE", (64,), mla=True, sparse=True, majors=(9,)),
    Backend(
        "FLASH_ATTN_MLA_SPARSE_FA4",
        (64,),
        mla=True,
        sparse=True,
        majors=(10,),
        cache_dtypes=_BF16_LATENT,
        model_dtypes=("bfloat16",),
        widths=(576,),
        dcp=True,
    ),
    Backend(
        "FLASHMLA_SPARSE",
        (64,),
        mla=True,
        sparse=True,
        majors=(9, 10),
        cache_dtypes=(*_BF16_LATENT, FP8_DS_MLA, "fp8", NVFP4_DS_MLA),
        model_dtypes=("bfloat16",),
        widths=(576, 512),
        dcp=True,
    ),
    Backend(
        "FLASHINFER_MLA_SPARSE_SM90",
        (64,),
        mla=True,
        sparse=True,
        majors=(9,),
        cache_dtypes=(*_BF16_LATENT, *_FP8_E4M3),
        model_dtypes=("bfloat16",),
        widths=(512, 576),
    ),
    Backend(
        "FLASHINFER_MLA_SPARSE",
        (32,),
        mla=True,
        sparse=True,
        majors=(10,),
        cache_dtypes=(*MODEL, *_FP8_E4M3),
        widths=(512, 576),
        dcp=True,
    ),
    Backend(
        "FLASHINFER_MLA_SPARSE_SM120",
        (64,),
        mla=True,
        sparse=True,
        majors=(12,),
        cache_dtypes=("auto", *_FP8_E4M3, FP8_DS_MLA),
        model_dtypes=("bfloat16",),
        widths=(512, 576),
    ),
)
BACKENDS = {backend.name: backend for backend in _TABLE}
_SPARSE = {
    9: ("FLASH_ATTN_MLA_SPARSE", "FLASHMLA_SPARSE", "FLASHINFER_MLA_SPARSE_SM90"),
    10: ("FLASHMLA_SPARSE", "FLASHINFER_MLA_SPARSE"),
    12: ("FLASHINFER_MLA_SPARSE_SM120",),
}
_DENSE_LATENT = {
    10: ("FLASHINFER_MLA", "CUTLASS_MLA", "FLASH_ATTN_MLA", "FLASHMLA", "TRITON_MLA"),
    12: ("TRITON_MLA",),
}
_HOPPER_LATENT = ("FLASH_ATTN_MLA", "FLASHMLA", "FLASHINFER_MLA", "TRITON_MLA")
_PLAIN = ("FLASH_ATTN", "FLASHINFER", "TRITON_ATTN", "FLEX_ATTENTION", "TURBOQUANT")
_FOR_IMAGES = {9: ("TRITON_FLASH_ATTN",), 10: ("TRITON_FLASHINFER",)}
"""The first backend to try for models with bidirectional attention over images."""
_LARGE_PAGES = (16, 32, 64, 128, 256, 512, 1024)
"""Blocks of FlashInfer's TensorRT-LLM kernels, which read grouped heads on Blackwell."""
_FA4_PAGE = 128
"""Block of FlashAttention 4's kernel for heads of 256 on Blackwell."""
_FA4_FP8_PAGE = 64
"""Block of FlashAttention 4's kernel for fp8 heads of 512 on Hopper."""

INDEXER = Backend("DEEPSEEK_V32_INDEXER", (64,), exact=True)
"""Kernels of DeepSeek-V3.2's indexer."""
CONV_WINDOW = Backend("INKLING_SCONV_SWA", (1,))
"""A stand-in for kernels of Inkling's convolutions, which read blocks of any size."""
_POOLED_PAGES = (32, 64)
QSA = Backend("QSA", (16,))
"""Kernels of Qwen4 Exp's sparse layers, and of their pooled index."""
KPOOL_TAIL = Backend("KPOOL_TAIL", (1,))
"""Kernels of index keys pending pooling."""
_STEP5_CAPABILITIES = ((9, 0), (10, 0), (10, 3))
_STEP5_SPARSE = Backend("STEP5_DSA", (16,), widths=(192,))
"""Kernels of Step 5's full layers, and FlashAttention in their layout for those that slide."""
MINIMAX_SPARSE = Backend("MINIMAX_M3_SPARSE", (128,), exact=True, widths=(128,))
"""Kernels of MiniMax-M3's sparse layers, and of their indexer."""


def step5_sparse(width: int, capability: tuple[int, int]) -> Backend:
    """Kernels of Step 5. Raises NotApplicableError for heads and GPUs that they do not support."""
    if capability not in _STEP5_CAPABILITIES:
        raise NotApplicableError(
            f"Step5 DSA requires SM90, SM100 or SM103; got {capability[0]}.{capability[1]}",
            help="choose a Hopper GPU, B200 or B300 as gpu",
        )
    if width not in _STEP5_SPARSE.widths:
        raise NotApplicableError(
            f"STEP5_DSA reads heads of {_STEP5_SPARSE.widths[0]} elements, not of {width}",
            help="use --engine ideal",
        )
    return _STEP5_SPARSE


def pooled_indexer(pool: int, capability: tuple[int, int]) -> Backend:
    """Kernels of GLM-5 Next's indexer, whose pages hold 32 or 64 pooled keys, on compute capability 12 64."""
    states = _POOLED_PAGES[1:] if capability[0] == BLACKWELL_RTX[0] else _POOLED_PAGES
    return Backend("GLM5_NEXT_INDEXER", tuple(pool * number for number in states), exact=True)


def choose(need: Need, capability: tuple[int, int]) -> Backend:
    """Backend of a layer. Raises NotApplicableError with what each backend refuses."""
    reasons = {}
    for name in (need.asked,) if need.asked else _priorities(need, capability):
        refused = list(BACKENDS[name].refusals(need, capability))
        if not refused:
            return _checked(_with_pages(BACKENDS[name], need, capability), need, capability)
        reasons[name] = refused
    listed = ", ".join(f"{name}: [{', '.join(refused)}]" for name, refused in reasons.items())
    raise NotApplicableError(
        f"No valid attention backend found for compute capability {capability[0]}.{capability[1]} with head_size="
        f"{need.width}, kv_cache_dtype={need.cache_dtype}, use_mla={need.mla}, use_sparse={need.sparse}, "
        f"has_sink={need.sinks}. Reasons: {{{listed}}}",
        help="choose another kv_cache_dtype, block_size or gpu",
    )


def _priorities(need: Need, capability: tuple[int, int]) -> tuple[str, ...]:
    """Names of backends, in order of priority."""
    major = capability[0]
    if need.mla:
        sparse = _SPARSE.get(major, _SPARSE[HOPPER[0]])
        if major == BLACKWELL[0] and need.cache_dtype in QUANTISED:
            sparse = sparse[::-1]
        elif major == BLACKWELL[0] and need.query_heads <= _FEW_HEADS:  # FlashMLA pads them
            sparse = ("FLASH_ATTN_MLA_SPARSE_FA4", *sparse[::-1])
        return (*_DENSE_LATENT.get(major, _HOPPER_LATENT), *sparse)
    composed = _FOR_IMAGES.get(major, ()) if need.images_whole else ()
    first, second, *rest = _PLAIN
    return (*composed, *((second, first, *rest) if major == BLACKWELL[0] else _PLAIN))


def _with_pages(backend: Backend, need: Need, capability: tuple[int, int]) -> Backend:
    """`backend` with the block sizes of its kernels for this layer only."""
    if backend.name == "FLASHINFER" and capability[0] == BLACKWELL[0] and need.query_heads > need.kv_heads:
        return backend._replace(block_sizes=_LARGE_PAGES)
    if backend.name not in ("FLASH_ATTN", "TRITON_FLASH_ATTN"):
        return backend
    version = _flash_attn_version(need, capability)
    if capability[0] == BLACKWELL[0] and need.width == _FA_WIDEST and version == 4:  # noqa: PLR2004
        return backend._replace(block_sizes=(_FA4_PAGE,), exact=True)
    if capability[0] == HOPPER[0] and need.width == _FA4_WIDEST and need.cache_dtype in _FP8_E4M3:
        return backend._replace(block_sizes=(_FA4_FP8_PAGE,), exact=True)
    return backend


def _checked(backend: Backend, need: Need, capability: tuple[int, int]) -> Backend:
    """`backend`, unless its kernels refuse what the table accepts: Triton's fp8, FlashMLA's shared tokens in bf16."""
    if backend.name == "FLASHMLA_SPARSE" and need.dcp and need.cache_dtype in MODEL:
        raise NotApplicableError(
            "DCP for FlashMLA sparse requires an fp8_ds_mla kv-cache; the bf16 sparse path is not supported under DCP.",
            help="set kv_cache_dtype to fp8, or dcp=1",
        )
    if backend.name.startswith("TRITON") and need.cache_dtype.startswith("fp8") and capability < ADA:
        kernels = "Triton MLA" if need.mla else "Triton attention"
        raise NotApplicableError(
            f"FP8 KV cache is not supported by the {kernels} backend on compute capability {capability[0]}."
            f"{capability[1]}; native FP8 (fp8e4nv) requires SM89+",
            help=f"set kv_cache_dtype to {'bfloat16' if capability >= AMPERE else 'float16'}",
        )
    return backend


def canonical(backend: Backend, cache_dtype: str) -> str:
    """Form in which a sparse backend stores a cache of this format: FlashMLA's own rows instead of fp8."""
    if backend.name == "FLASHMLA_SPARSE" and cache_dtype in QUANTISED and cache_dtype != NVFP4_DS_MLA:
        return FP8_DS_MLA
    if backend.name == "FLASHINFER_MLA_SPARSE_SM120" and cache_dtype in ("auto", *_FP8_E4M3):
        return FP8_DS_MLA
    return cache_dtype


def smallest_common(backends: tuple[Backend, ...]) -> int:
    """Least common multiple of the smallest blocks of all backends."""
    return lcm(*(backend.smallest for backend in backends))
