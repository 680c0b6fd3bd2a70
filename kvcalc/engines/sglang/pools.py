"""Pools of SGLang: how many tokens fit in the memory left, on a rank of each pipeline stage.

    max_total_num_tokens = floor(available / bytes of a token in all layers / page_size) * page_size
    with sliding pools     floor(available / (full + ratio * sliding) / page_size) * page_size, of which the sliding
                           pool has ratio, floored to pages again; or, with the radix cache off and max_running_requests
                           given, the worst case of this many requests, and the full pool the rest
    with states            the Mamba pool first (`states`)

Each token pool has one more page, for padded writes. Draft layers have their own pools, of the same number of tokens.
Products with the ratio are floats, as in SGLang.
Source: SGLang, model_executor/pool_configurator.py, mem_cache/kv_cache_configurator.py.
"""

from __future__ import annotations

from typing import NamedTuple

from kvcalc.engines.base.pools import STATES
from kvcalc.engines.sglang.schedule import Schedule
from kvcalc.engines.sglang.settings import SglangSettings
from kvcalc.engines.sglang.stage import DRAFT, DRAFT_SLIDING, DRAFT_STATES, FULL, SLIDING, TAILS, Stage
from kvcalc.engines.sglang.states import states_of
from kvcalc.engines.sglang.tensors import TAIL_SCORE
from kvcalc.errors import NotApplicableError
from kvcalc.report.pool import Pool

_DEFAULT_RATIO, _INKLING_RATIO = 0.8, 0.1
"""swa_full_tokens_ratio if none is given."""
DRAFTS = "drafts"
"""Name of the pool of layers that draft."""
_CHUNKS_IN_FLIGHT = 2
"""Prefill chunks with the overlap schedule."""


class Sizes(NamedTuple):
    """Slots of each pool."""

    full: int
    sliding: int = 0
    states: int = 0

    @property
    def tokens(self) -> int:
        """max_total_num_tokens: of the full pool, or of the sliding one if no layer is full."""
        return self.full or self.sliding


def sizes_of(stage: Stage, settings: SglangSettings, schedule: Schedule, available_bytes: int) -> Sizes:
    """Slots that fit in available_bytes. Raises NotApplicableError if there is not enough, as SGLang does."""
    states, left = states_of(stage, settings, schedule, available_bytes)
    full, sliding, page = stage.token_bytes(FULL), stage.token_bytes(SLIDING), schedule.page
    if not (full or sliding):
        return Sizes(settings.max_total_tokens or schedule.context_tokens, 0, states)
    if not (full and sliding):
        tokens = max(0, left) // (full or sliding) // page * page
        return Sizes(tokens, 0, states) if full else Sizes(0, tokens, states)
    cap = _request_cap(stage, schedule)
    if cap is None:
        cell = full + _ratio(stage, settings) * sliding
        return with_tokens(Sizes(0, 1, states), int(max(0, left) // cell), stage, settings, schedule)
    tokens = max(0, left - cap * sliding) // full // page * page
    if not tokens:
        raise NotApplicableError(
            f"SWA pool cap ({cap} tokens) leaves no room for the full KV pool within the available {left} bytes",
            help="lower max_running_requests, or raise mem_fraction_static",
        )
    return Sizes(tokens, cap, states)


def with_tokens(sizes: Sizes, tokens: int, stage: Stage, settings: SglangSettings, schedule: Schedule) -> Sizes:
    """The same with fewer tokens: those of the stage with fewest, or max_total_tokens."""
    page = schedule.page
    tokens = tokens // page * page
    if not (stage.token_bytes(FULL) and sizes.sliding):
        return Sizes(0 if sizes.sliding else tokens, tokens if sizes.sliding else 0, sizes.states)
    cap = _request_cap(stage, schedule)
    if cap is not None:
        return Sizes(tokens, min(cap, tokens), sizes.states)
    sliding = int(tokens * _ratio(stage, settings)) // page * page
    if tokens:
        check_sliding_pool(sliding, stage.window, page)
    return Sizes(tokens, sliding, sizes.states)


def check_sliding_pool(tokens: int, window: int, page: int) -> None:
    """Raises NotApplicableError for a pool of sliding layers that fits no request, as SGLang does."""
    if window + page >= tokens:
        raise NotApplicableError(
            f"SWA pool ({tokens} tokens) cannot hold even one request: the prefill admission floor is "
            f"sliding_window_size ({window}) + page_size ({page})",
            help="raise swa_full_tokens_ratio or mem_fraction_static",
        )


def _ratio(stage: Stage, settings: SglangSettings) -> float:
    default = _INKLING_RATIO if stage.is_inkling else _DEFAULT_RATIO
    return default if settings.swa_full_tokens_ratio is None else settings.swa_full_tokens_ratio


def _request_cap(stage: Stage, schedule: Schedule) -> int | None:
    """Tokens of the sliding pool in the worst case; None if it is a share of the full pool."""
    if schedule.keeps_prefixes or not (schedule.chunk_tokens and schedule.requests):
        return None
    return -(-request_cap(stage.window, schedule, schedule.requests) // schedule.page) * schedule.page


def request_cap(window: int, schedule: Schedule, requests: int) -> int:
    """Most tokens of a window that this many requests, and prefill chunks in flight, hold."""
    chunks = (_CHUNKS_IN_FLIGHT if schedule.overlaps else 1) * schedule.chunk_tokens
    return requests * schedule.window_tokens(window) + chunks + schedule.page


def pools_of(stage: Stage, sizes: Sizes, page: int, requests: int) -> tuple[Pool, ...]:
    """The allocated pools, including spare page and spare state."""
    of_request = "states of a request"
    slots = {
        FULL: (sizes.full, page, "token", FULL),
        SLIDING: (sizes.sliding, page, "token", SLIDING),
        STATES: (sizes.states, 1, of_request, STATES),
        DRAFT_STATES: (requests, 1, f"{of_request}'s draft", STATES),
        TAILS: (requests, _spare_tails(stage), "request", TAILS),
        DRAFT: (sizes.tokens, page, "token", DRAFTS),
        DRAFT_SLIDING: (sizes.sliding, page, "token", "drafts, sliding"),
    }
    return tuple(
        Pool(name, stage.layers[pool], words, number, tuple(stage.bytes_of[pool].items()), spare)
        for pool, (number, spare, words, name) in slots.items()
        if pool in stage.bytes_of
    )


def _spare_tails(stage: Stage) -> int:
    """Requests that have tails and never run: one, and of a latent's indexer one more."""
    return 2 if TAIL_SCORE in stage.bytes_of.get(TAILS, {}) else 1
