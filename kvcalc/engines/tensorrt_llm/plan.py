"""TensorRT-LLM's pools in the memory left, on a rank of each pipeline stage.

One window: floor(min(available / bytes of a token, max_tokens) / tokens_per_block) blocks, by the stage with fewest.
Several share the memory as `windows` says. host_cache_size is shared alike, regardless of max_tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

from kvcalc.cache.dtypes import BF16
from kvcalc.engines.base.pools import PoolPlan
from kvcalc.engines.base.stages import stage_models
from kvcalc.engines.tensorrt_llm.settings import TensorrtLlmSettings
from kvcalc.engines.tensorrt_llm.tensors import by_window, dtype_of, tensors_of, window_of
from kvcalc.engines.tensorrt_llm.windows import Held, Windows, shared_blocks, shrunk
from kvcalc.errors import NotApplicableError
from kvcalc.hardware import gpu_named
from kvcalc.model import Model
from kvcalc.parallel import Parallel, Sharing, rounded_heads
from kvcalc.report.pool import Pool, PoolReport
from kvcalc.units import GIB


class TensorrtLlmPlan(PoolPlan):
    """A pool of blocks for each attention window."""

    def __init__(self, model: Model, settings: TensorrtLlmSettings, ranks: Parallel, sharing: Sharing) -> None:
        self._model = model
        self._settings = settings
        parts = stage_models(model, ranks.tp, ranks.pp, sharing)
        self._shares = settings.has_several_windows(settings.max_seq_len or model.max_model_len)
        self._windows = [_windows_of(part, settings) for part in parts]
        self._rounded = rounded_heads(model, ranks.tp, sharing)
        super().__init__(tuple(settings.footprint(part, BF16) for part in parts), settings.tokens_per_block)

    def fit(self, available_bytes: Sequence[int], longest: int | None = None) -> PoolReport:
        """Pools that fit available_bytes of a rank of each stage. Raises NotApplicableError if there is no block."""
        del longest
        settings = self._settings
        each_stage = list(zip(self._windows, available_bytes, strict=True))
        stages = [shrunk(own, settings, memory) if self._shares else own for own, memory in each_stage]
        fewest = _fewest([self._blocks(own, memory) for own, memory in zip(stages, available_bytes, strict=True)])
        if not fewest or min(fewest.values()) <= 0:
            raise NotApplicableError(
                "not even one block of the cache fits in the memory left for it",
                help="raise free_gpu_memory_fraction or max_tokens, or use more GPUs",
            )
        pools = _pools_of(stages, fewest, settings)
        host = _fewest([self._blocks(own, settings.host_cache_size or 0, on_host=True) for own in stages])
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
            notes=(*self._model.notes, *self._rounded, *_ends(each_stage, stages)),
            host=_pools_of(stages, host, settings) if settings.host_cache_size else (),
        )

    def _blocks(self, windows: Windows, memory_bytes: int, *, on_host: bool = False) -> dict[int, int]:
        """Blocks of each window in this much memory of a GPU, or of its host."""
        settings, block = self._settings, self._settings.tokens_per_block
        if self._shares:
            return shared_blocks(windows, settings, memory_bytes)
        most = memory_bytes if on_host or settings.max_tokens is None else settings.max_tokens // block
        return {window: min(memory_bytes // (block * held.token_bytes), most) for window, held in windows.items()}


def _windows_of(stage: Model, settings: TensorrtLlmSettings) -> Windows:
    """What layers hold per token, by window; full attention under its longest request, or 0."""
    dtype = dtype_of(settings, BF16)
    full = settings.max_seq_len or stage.max_model_len or 0
    found: Windows = {}
    for group in by_window(stage, settings).groups:
        tensors = tuple(tensors_of(stage, group, settings, dtype))
        if tensors:
            held = tuple((tensor.name, len(group.layers) * tensor.bytes_per_slot(dtype)) for tensor in tensors)
            own = Held(len(group.layers), held)
            window = window_of(stage, group, settings) or full
            found[window] = found[window].with_layers_of(own) if window in found else own
    return found


def _ends(each_stage: Sequence[tuple[Windows, int]], stages: Sequence[Windows]) -> tuple[str, ...]:
    """Note on windows that were cut since not one request fits."""
    for (own, _), shrunken in zip(each_stage, stages, strict=True):
        if own is not shrunken:
            windows, left = (", ".join(f"{window:,}" for window in sorted(held)) for held in (own, shrunken))
            return (f"memory does not hold one request of windows {windows}, which end at {left} tokens",)
    return ()


def _fewest(blocks: Sequence[dict[int, int]]) -> dict[int, int]:
    """Blocks of each window, of the stage with fewest."""
    return {window: min(held[window] for held in blocks if window in held) for held in blocks for window in held}


def _pools_of(
    stages: Sequence[Windows], blocks: dict[int, int], settings: TensorrtLlmSettings
) -> tuple[tuple[Pool, ...], ...]:
    """Pools of this many blocks of each window, on a rank of each stage."""
    return tuple(tuple(_pool(window, held, blocks, settings) for window, held in own.items()) for own in stages)


def _pool(window: int, held: Held, blocks: dict[int, int], settings: TensorrtLlmSettings) -> Pool:
    block = settings.tokens_per_block
    tensors = tuple((name, block * size) for name, size in held.tensors)
    return Pool(f"window {window:,}" if window else "full", held.layers, f"block of {block}", blocks[window], tensors)


def _log_line(pool: Pool, settings: TensorrtLlmSettings) -> str:
    tokens = pool.slots * settings.tokens_per_block
    return f"[MemUsageChange] Allocated {pool.bytes / GIB:.2f} GiB for max tokens in paged KV cache ({tokens})."
