"""How many tokens a block holds: what all kernels can read, and in hybrids enough to match a state's size.

Source: vLLM, platforms/interface.py (update_block_size_for_backend), layers/attention/attention.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
from math import lcm

from kvcalc.engines.vllm.backends import Backend, smallest_common
from kvcalc.engines.vllm.dtypes import MODEL, TURBOQUANT, kv_bytes
from kvcalc.engines.vllm.layers import ATTENTION, Cache
from kvcalc.engines.vllm.run import DEFAULT_BLOCK_SIZE, Run
from kvcalc.engines.vllm.specs import CIRCULAR, MLA, SLIDING, STATE, Spec, ceil_div
from kvcalc.errors import NotApplicableError


class Blocks:
    """Block sizes of a run.

    size: tokens of a block of attention. state_bytes: size that states are padded to. skipped_bytes: size that
    unquantised windows are padded to.
    """

    def __init__(self, caches: Sequence[Cache], run: Run) -> None:
        self.run = run
        self.backends = _backends(caches)
        self.size = self._preferred()
        self.state_bytes: int | None = None
        self.skipped_bytes: int | None = None
        chosen = self.size
        if run.is_hybrid:
            self._align_states(caches)
        skips = run.cpu is None and (run.skipped_layers or run.skips_windows)  # a CPU aligns blocks to states alone
        if skips and any(cache.name == ATTENTION for cache in caches):
            self._align_skipped(caches)
        self._check(chosen)

    def specs(self, caches: Iterable[Cache]) -> list[Spec]:
        """The spec of each cache with its block size."""
        return [self._sized(cache) for cache in caches]

    def _preferred(self) -> int:
        """The user's, or one that all backends can read: the default, else the smallest."""
        if self.run.block_size is not None:
            on_gpu = () if self.run.cpu else self.backends  # a CPU's kernels see the blocks of groups only
            rejecting = [b.name for b in on_gpu if not b.accepts_block(self.run.block_size)]
            if rejecting:
                raise NotApplicableError(
                    f"block_size {self.run.block_size} is not supported by attention backend(s): "
                    f"{', '.join(rejecting)}",
                    help=f"use a multiple of {smallest_common(self.backends)}, or remove block_size",
                )
            return self.run.block_size
        if not self.backends:
            return DEFAULT_BLOCK_SIZE
        if len(self.backends) == 1 and not self.backends[0].name.startswith("FLASH_ATTN"):
            return self.backends[0].preferred_block(DEFAULT_BLOCK_SIZE)
        if len(self.backends) == 1:
            return max(DEFAULT_BLOCK_SIZE, self.backends[0].smallest)
        if all(backend.accepts_block(DEFAULT_BLOCK_SIZE) for backend in self.backends):
            return DEFAULT_BLOCK_SIZE
        candidates = sorted({lcm(*sizes) for sizes in product(*(b.block_sizes for b in self.backends))})
        return next(size for size in candidates if all(b.accepts_block(size) for b in self.backends))

    def _align_states(self, caches: Sequence[Cache]) -> None:
        """Blocks whose attention page is no smaller than a state's, which is padded to it."""
        states = [cache for cache in caches if cache.spec.kind == STATE]
        largest = max(cache.spec.page_bytes for cache in states)
        if not largest:
            return
        others = [cache for cache in caches if cache.spec.kind not in (STATE, CIRCULAR)]
        attention = next((cache for cache in others if cache.name == ATTENTION), others[0])
        token_bytes = self._attention_token_bytes(attention)
        if not token_bytes:  # an indexer alone, whose keys are pooled; no model that is known has one with states
            raise NotApplicableError(
                f"a token of {attention.name} takes less than a byte, and vLLM aligns its block with a state",
                help="use a model with attention, or with only states",
            )
        release = self.run.release
        step = max(self.backends[0].smallest, self.size) if release.aligns_to_block_size else DEFAULT_BLOCK_SIZE
        if attention.spec.kind == MLA:
            step = max(step, release.latent_hybrid_step)
        if self.run.limits.keeps_states and all(cache.checkpoint_tokens for cache in states):
            step = lcm(step, *(cache.checkpoint_tokens for cache in states))
        needed = step * ceil_div(largest, step * token_bytes)
        common = smallest_common(self.backends)
        self.size = max(self.size, common * ceil_div(needed, common))
        padded = self.size * token_bytes
        self.state_bytes = None if padded == largest else padded

    def _attention_token_bytes(self, attention: Cache) -> int:
        """Page of one token of attention; if there are quantised and unquantised layers, one that holds either."""
        if self.run.cache_dtype not in TURBOQUANT or not self.run.skipped_layers:
            return attention.spec.page_bytes
        return lcm(*(self._token_bytes(attention, dtype) for dtype in (self.run.cache_dtype, "auto")))

    def _token_bytes(self, attention: Cache, cache_dtype: str) -> int:
        """Page of one token in that format; a latent is counted as key and value, as vLLM counts it here."""
        numbers = [part for part in attention.spec.shape if isinstance(part, int)]
        heads, key, value = numbers if attention.spec.kind != MLA else (1, numbers[0], numbers[0])
        return heads * kv_bytes(cache_dtype, self.run.model_dtype, key, value)

    def _align_skipped(self, caches: Sequence[Cache]) -> None:
        """Blocks whose quantised page is no smaller than the smallest page of a layer that is not quantised."""
        attention = next(cache for cache in caches if cache.name == ATTENTION)
        first = self.backends[0]
        # the first layer's backend packs the format, or counts a byte for each element where it does not know it
        known = self.run.cache_dtype if self.run.cache_dtype in first.cache_dtypes else "fp8"
        primary, other = (self._token_bytes(attention, dtype) for dtype in (known, "auto"))
        if primary == other or self.run.cache_dtype in MODEL:
            return
        required = max(other * first.smallest, self.state_bytes or 0)
        step = max(first.smallest, self.size)
        self.size = max(self.size, step * ceil_div(required, step * primary))
        self.skipped_bytes = self.size * primary
        if self.state_bytes is not None:
            self.state_bytes = self.skipped_bytes

    def _check(self, chosen: int) -> None:
        """Raises NotApplicableError if the alignment gives a size that a backend rejects."""
        rejecting = [b.name for b in self.backends if self.size != chosen and not b.accepts_block(self.size)]
        if rejecting:
            raise NotApplicableError(
                f"Aligned KV cache block size {self.size} is not supported by attention backend(s): "
                f"{', '.join(rejecting)}",
                help="choose another block_size",
            )

    def _sized(self, cache: Cache) -> Spec:
        spec = cache.spec
        if spec.kind == STATE:
            block = self.size if self.run.limits.keeps_states else self.run.limits.max_model_len
            return spec._replace(block_size=block, padded_bytes=self.state_bytes)
        if spec.kind != SLIDING or cache.backend is None or cache.own_block is not None:
            return spec._replace(block_size=cache.own_block or self.size)
        budget = self.skipped_bytes or spec.unpadded_bytes * self.size
        block = cache.backend.largest_within(budget // spec.unpadded_bytes)
        return spec._replace(block_size=block, padded_bytes=self.skipped_bytes)


def _backends(caches: Sequence[Cache]) -> tuple[Backend, ...]:
    """Backends of attention, each once, in the order of their first layers."""
    return tuple(dict.fromkeys(cache.backend for cache in caches if cache.backend is not None))
