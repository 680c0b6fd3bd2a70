"""The physical layout of the cache: whether layers or blocks are outermost.

L layers, B blocks, H heads, N states, C content, the outermost first. One layout is chosen for the whole model, of
those that all its kernels can read.
Source: vLLM, v1/attention/backends/utils.py (resolve_kv_cache_layout), v1/kv_cache_layout.py.
"""

from __future__ import annotations

from collections.abc import Iterable

from kvcalc.engines.vllm.backends import BLACKWELL, Backend
from kvcalc.errors import NotApplicableError

_ANY = ("LBNHC", "LBHNC", "BLNHC", "BLHNC", "BHLNC", "LHBNC")
"""All layouts, for kernels that read any, in order of preference."""
_OF_BACKEND = {
    "DEEPSEEK_V4_INDEXER": ("BLHNC", "BLNHC"),
    "DEEPSEEK_V41_INDEXER": ("BLHNC", "BLNHC"),
    "KPOOL_TAIL": ("BLHNC",),
    "QSA": ("BLNHC", "BLHNC"),
    "STEP5_DSA": ("BLNHC",),
    "FLEX_ATTENTION": ("LBNHC",),
    "TURBOQUANT": ("LBNHC",),
}
_OF_BACKEND_ON_BLACKWELL = dict.fromkeys(("FLASHINFER", "TRITON_FLASHINFER"), ("LBHNC", "BLHNC"))


def layout_of(backends: Iterable[Backend], capability: tuple[int, int]) -> str:
    """Layout that all backends can read. Raises NotApplicableError if there is none."""
    known = _OF_BACKEND | (_OF_BACKEND_ON_BLACKWELL if capability[0] == BLACKWELL[0] else {})
    wanted = {backend.name: known[backend.name] for backend in backends if backend.name in known}
    candidates = [name for name in next(iter(wanted.values()), _ANY) if all(name in own for own in wanted.values())]
    if not candidates:
        each = "; ".join(f"{name}: {', '.join(own)}" for name, own in wanted.items())
        raise NotApplicableError(
            f"No KV cache layout satisfies every supported set ({each})", help="choose another kv_cache_dtype or gpu"
        )
    return candidates[0]


def is_block_outermost(layout: str) -> bool:
    """Whether the pages of all layers are side by side in a block."""
    return layout.startswith("B")
