"""What TensorRT-LLM's pools hold of the memory that is left, on a rank of each pipeline stage.

One window: floor(min(available / bytes of a token, max_tokens) / tokens_per_block) blocks, by the stage that has
fewest. Several share the memory equally: floor(available / windows / bytes of a block) blocks of each, whatever
max_tokens says, where the scales of nvfp4 are not charged. host_cache_size is shared alike, whatever max_tokens says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kvcalc.cache.dtypes import BF16
from kvcalc.engines.base.pools import PoolPlan
from kvcalc.engines.base.stages import stage_models
from kvcalc.engines.tensorrt_llm.settings import TensorrtLlmSettings
from kvcalc.engines.tensorrt_llm.tensors import dtype_of, tensors_of, window_of
from kvcalc.errors import NotApplicableError
from kvcalc.hardware import gpu_named
from kvcalc.model import Model
from kvcalc.parallel import Parallel, Sharing, rounded_heads
from kvcalc.report.pool import Pool, PoolReport
from kvcalc.units import GIB

_NVFP4_ELEMENTS, _NVFP4_CODES = 9, 8
"""Bytes of a block of nvfp4, and those that are no scale."""


class TensorrtLlmPlan(PoolPlan):
    """A pool of blocks for each attention window."""

    def __init__(self, model: Model, settings: TensorrtLlmSettings, ranks: Parallel, sharing: Sharing) -> None:
        self._model = model
        self._settings = settings
        parts = stage_models(model, ranks.tp, ranks.pp, sharing)
        self._bytes_of = [_bytes_by_window(part, settings) for part in parts]
        self._rounded = rounded_heads(model, ranks.tp, sharing)
        super().__init__(tuple(settings.footprint(part, BF16) for part in parts), settings.tokens_per_block)

    def fit(self, available_bytes: Sequence[int], longest: int | None = None) -> PoolReport:
        """Pools that fit available_bytes of a rank of each stage. Raises NotApplicableError where there is no block."""
        del longest
        settings = self._settings
        each_stage = zip(self._bytes_of, available_bytes, strict=True)
        fewest = _fewest([_blocks(held, settings, available) for held, available in each_stage])
        if not fewest or min(fewest.values()) <= 0:
            raise NotApplicableError(
                "not one block of the cache fits the memory that is left for it",
                help="raise free_gpu_memory_fraction or max_tokens, or use more GPUs",
            )
        pools = self._pools_of(fewest)
        host = _fewest([_host_blocks(held, settings) for held in self._bytes_of])
        return PoolReport(
            model=self._model.name,
            engine=settings.name,
            version=settings.release_words,
            gpu=gpu_named(settings.gpu).name,
            available_bytes=tuple(available_bytes),
            tokens=settings.tokens_per_block * fewest[max(fewest)],
            stages=pools,
            log_lines=tuple(_log_line(pool, settings) for pool in pools[0]),
            resolved=(("tokens_per_block", settings.tokens_per_block),),
            notes=(*self._model.notes, *self._rounded),
            host=self._pools_of(host) if settings.host_cache_size else (),
        )

    def _pools_of(self, blocks: dict[int, int]) -> tuple[tuple[Pool, ...], ...]:
        """Pools of so many blocks of each window, on a rank of each stage."""
        return tuple(
            tuple(_pool(window, held, blocks, self._settings) for window, held in own.items()) for own in self._bytes_of
        )


def _bytes_by_window(stage: Model, settings: TensorrtLlmSettings) -> dict[int, dict[str, int]]:
    """Bytes of a token in all layers of a window, by tensor; full attention under its longest request, or 0."""
    dtype = dtype_of(settings, BF16)
    found: dict[int, dict[str, int]] = {}
    for group in stage.groups:
        window = window_of(stage, group, settings) or settings.max_seq_len or stage.max_model_len or 0
        for tensor in tensors_of(stage, group, settings, dtype):
            held = found.setdefault(window, {"layers": 0})
            held[tensor.name] = held.get(tensor.name, 0) + len(group.layers) * tensor.bytes_per_slot(dtype)
        if window in found:
            found[window]["layers"] += len(group.layers)
    return found


def _blocks(bytes_of: dict[int, dict[str, int]], settings: TensorrtLlmSettings, available_bytes: int) -> dict[int, int]:
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


def _host_blocks(bytes_of: dict[int, dict[str, int]], settings: TensorrtLlmSettings) -> dict[int, int]:
    """Blocks of each window in the memory of the host."""
    return _blocks(bytes_of, replace(settings, max_tokens=None), settings.host_cache_size or 0)


def _fewest(blocks: Sequence[dict[int, int]]) -> dict[int, int]:
    """Of each window the blocks of the stage that has fewest."""
    return {window: min(held[window] for held in blocks if window in held) for held in blocks for window in held}


def _token_bytes(held: dict[str, int]) -> int:
    return sum(bytes_ for name, bytes_ in held.items() if name != "layers")


def _pool(window: int, held: dict[str, int], blocks: dict[int, int], settings: TensorrtLlmSettings) -> Pool:
    block = settings.tokens_per_block
    tensors = tuple((name, block * bytes_) for name, bytes_ in held.items() if name != "layers")
    return Pool(
        f"window {window:,}" if window else "full", held["layers"], f"block of {block}", blocks[window], tensors
    )


def _log_line(pool: Pool, settings: TensorrtLlmSettings) -> str:
    tokens = pool.slots * settings.tokens_per_block
    return f"[MemUsageChange] Allocated {pool.bytes / GIB:.2f} GiB for max tokens in paged KV cache ({tokens})."
