"""Pools of SGLang: how many tokens and states fit the memory that is left, on a rank of each pipeline stage.

    max_total_num_tokens = floor(available / bytes of a token in all layers / page_size) * page_size
    with sliding pools     floor(available / (full + ratio * sliding) / page_size) * page_size, of which the sliding
                           pool has ratio, floored to pages again; or, with the radix cache off and max_running_requests
                           given, the worst case of so many requests, and the full pool the rest
    with states            the Mamba pool first: floor((available * r / (1 + r) - slot) / slot) slots and a spare one

Each token pool has one page more, to which padded writes go. Products with the two ratios are in floats, as there.
Source: SGLang, model_executor/pool_configurator.py, mem_cache/kv_cache_configurator.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from kvcalc.attention.gqa import GroupedQueryAttention
from kvcalc.cache.dtypes import Dtype
from kvcalc.cache.tensor import CacheTensor
from kvcalc.engines.sglang.compressed import EVICTION_INTERVAL
from kvcalc.engines.sglang.settings import SglangSettings
from kvcalc.engines.sglang.tensors import is_sliding, window_of
from kvcalc.errors import NotApplicableError
from kvcalc.model import LayerGroup, Model
from kvcalc.report.pool import Pool

FULL, SLIDING, STATES = "full", "sliding", "states"
_DEFAULT_RATIO = 0.8
"""swa_full_tokens_ratio where none is given."""
_CHUNKS_IN_FLIGHT = 2
"""Prefill chunks with the overlap schedule, the default."""


class Stage(NamedTuple):
    """What one rank stores. bytes_of: of one slot of each pool, all layers, by tensor. layers: how many share each."""

    bytes_of: dict[str, dict[str, int]]
    layers: dict[str, int]
    window: int

    @classmethod
    def of(
        cls, model: Model, allocation: tuple[tuple[CacheTensor, ...], ...], kv_dtype: Dtype, *, own_windows: bool
    ) -> Stage:
        """Stage of a rank's model and its tensors."""
        bytes_of: dict[str, dict[str, int]] = {}
        layers: dict[str, int] = {}
        for group, tensors in zip(model.groups, allocation, strict=True):
            for pool, own in _by_pool(group, tensors, own_windows=own_windows):
                held = bytes_of.setdefault(pool, {})
                layers[pool] = layers.get(pool, 0) + len(group.layers)
                for tensor in own:
                    held[tensor.name] = held.get(tensor.name, 0) + len(group.layers) * tensor.bytes_per_slot(kv_dtype)
        attending = [part for group in model.groups for part in group.parts if isinstance(part, GroupedQueryAttention)]
        windows = [window_of(part) or 0 for part in attending]
        return cls(bytes_of, layers, max(windows, default=0))

    def slot_bytes(self, pool: str) -> int:
        """Bytes of one slot of a pool, or none."""
        return sum(self.bytes_of.get(pool, {}).values())


class Sizes(NamedTuple):
    """Slots of each pool."""

    full: int
    sliding: int = 0
    states: int = 0

    @property
    def tokens(self) -> int:
        """max_total_num_tokens: those of the full pool, or of the sliding one where no layer is full."""
        return self.full or self.sliding


def _by_pool(
    group: LayerGroup, tensors: Iterable[CacheTensor], *, own_windows: bool
) -> list[tuple[str, list[CacheTensor]]]:
    """Pools that a group's tensors lie in."""
    tokens = SLIDING if own_windows and is_sliding(group) else FULL
    split: dict[str, list[CacheTensor]] = {tokens: [], STATES: []}
    for tensor in tensors:
        split[tokens if tensor.slot_rule.constant is None else STATES].append(tensor)
    return [(pool, own) for pool, own in split.items() if own]


def sizes_of(stage: Stage, settings: SglangSettings, page: int, available_bytes: int) -> Sizes:
    """Slots that fit available_bytes. Raises NotApplicableError where there is not enough, as SGLang does."""
    states, left = _states(stage, settings, available_bytes)
    full, sliding = stage.slot_bytes(FULL), stage.slot_bytes(SLIDING)
    if not (full or sliding):
        longest = settings.max_total_tokens or settings.context_length
        if not longest:
            raise NotApplicableError(
                "no layer of this model caches tokens, so nothing says how many of them a request may have",
                help="set context_length",
            )
        return Sizes(longest, 0, states)
    if not (full and sliding):
        tokens = max(0, left) // (full or sliding) // page * page
        return Sizes(tokens, 0, states) if full else Sizes(0, tokens, states)
    cap = _request_cap(stage, settings, page)
    if cap is not None:
        return Sizes(max(0, left - cap * sliding) // full // page * page, cap, states)
    cell = full + _ratio(settings) * sliding
    return with_tokens(Sizes(0, 1, states), int(max(0, left) // cell), stage, settings, page)


def with_tokens(sizes: Sizes, tokens: int, stage: Stage, settings: SglangSettings, page: int) -> Sizes:
    """The same with fewer tokens: those of the stage that has fewest, or max_total_tokens."""
    tokens = tokens // page * page
    if not (stage.slot_bytes(FULL) and sizes.sliding):
        return Sizes(0 if sizes.sliding else tokens, tokens if sizes.sliding else 0, sizes.states)
    cap = _request_cap(stage, settings, page)
    if cap is not None:
        return Sizes(tokens, min(cap, tokens), sizes.states)
    sliding = int(tokens * _ratio(settings)) // page * page
    if tokens:
        check_sliding_pool(sliding, stage.window, page)
    return Sizes(tokens, sliding, sizes.states)


def check_sliding_pool(tokens: int, window: int, page: int) -> None:
    """Raises NotApplicableError for a pool of sliding layers that no request fits, as SGLang does."""
    if window + page >= tokens:
        raise NotApplicableError(
            f"SWA pool ({tokens} tokens) cannot hold even one request: the prefill admission floor is "
            f"sliding_window_size ({window}) + page_size ({page})",
            help="raise swa_full_tokens_ratio or mem_fraction_static",
        )


def _ratio(settings: SglangSettings) -> float:
    return _DEFAULT_RATIO if settings.swa_full_tokens_ratio is None else settings.swa_full_tokens_ratio


def pools_of(stage: Stage, sizes: Sizes, page: int) -> tuple[Pool, ...]:
    """The pools as they are allocated, spare page and spare state included."""
    slots = {FULL: (sizes.full, page, "token"), SLIDING: (sizes.sliding, page, "token"), STATES: (sizes.states, 1, "")}
    return tuple(
        Pool(
            pool,
            stage.layers[pool],
            words or "states of a request",
            number,
            tuple(stage.bytes_of[pool].items()),
            spare,
        )
        for pool, (number, spare, words) in slots.items()
        if pool in stage.bytes_of
    )


def _states(stage: Stage, settings: SglangSettings, available_bytes: int) -> tuple[int, int]:
    """Slots of the Mamba pool, and what it leaves of the memory."""
    slot = stage.slot_bytes(STATES)
    if not slot:
        return 0, available_bytes
    if settings.max_mamba_cache_size is not None:
        size = settings.max_mamba_cache_size
    elif settings.disable_radix_cache and settings.max_running_requests is not None:
        size = settings.max_running_requests
    else:
        ratio = settings.mamba_full_memory_ratio
        size = int((available_bytes * ratio / (1 + ratio) - slot) // slot)
    if size <= 0:
        raise NotApplicableError(
            "Not enough GPU memory for hybrid (mamba/linear-attention) state cache. "
            f"Computed max_mamba_cache_size={size}",
            help="lower max_running_requests, raise mem_fraction_static, or use GPUs with more memory",
        )
    return size, available_bytes - (size + 1) * slot


def _request_cap(stage: Stage, settings: SglangSettings, page: int) -> int | None:
    """Tokens of the sliding pool by its worst case; None where it is a share of the full pool."""
    if not settings.disable_radix_cache or settings.max_running_requests is None:
        return None
    if not settings.chunked_prefill_size:
        return None
    of_request = stage.window + EVICTION_INTERVAL + 2 * page
    needed = settings.max_running_requests * of_request + _CHUNKS_IN_FLIGHT * settings.chunked_prefill_size + page
    return -(-needed // page) * page
