"""Pools of SGLang for DeepSeek-V4.1: how many tokens fit the memory that is left, on a rank of each pipeline stage.

    tokens of the window   requests * those of a request's window + prefill chunks in flight + 256, and for four
                           prefixes of each request window + 256 more, in pages of 256; or swa_full_tokens_ratio
    bytes of a token       for each source of rate r (page / entries of a page + 68) / r
    max_total_num_tokens   floor((available - windows - states) / bytes of a token / 256) * 256, less the pages that
                           make room for the spare ones

Only layers that are sources have entries and an index; all have a window. A source of rate r has r spare pages of
256 / r entries, and its index, in pages of 64 keys, covers one page of tokens more and has a spare page. States are a
ring for each request that may run and for one more, and what fills the last group. With drafts a token counts
(layers + 1) / layers times. Quotients and the ratio are floats, as there.
Source: SGLang, model_executor/pool_configurator.py (DSV4PoolConfigurator), mem_cache/deepseek_v4_memory_pool.py.
"""

from __future__ import annotations

from typing import NamedTuple

from kvcalc.attention.compressed import CompressedAttention
from kvcalc.cache.dtypes import BF16
from kvcalc.engines.sglang.compressed import PAGE, open_group_rows, tensors_of
from kvcalc.engines.sglang.compressed_pools import DEFAULT_RATIO, check_compressed, spare_rows
from kvcalc.engines.sglang.pools import check_sliding_pool, request_cap
from kvcalc.engines.sglang.schedule import Schedule
from kvcalc.engines.sglang.settings import SglangSettings
from kvcalc.engines.sglang.stage import SLIDING
from kvcalc.errors import NotApplicableError
from kvcalc.model import DRAFTS, Model
from kvcalc.report.pool import Pool

_INDEX_PAGE = 64
_PREFIXES_OF_A_REQUEST = 4
"""Prefixes whose last window is kept (swa_prefix_tails)."""


class PooledStage(NamedTuple):
    """What one rank stores.

    layers: that have a window. sources: how many there are of each rate. bytes_of: of one layer's page of the window
    (0), and of a source's page of entries, page of index keys and rings, by rate and tensor. window: tokens that a
    query sees. draft_layers: those that draft, which have a window.
    """

    layers: int
    sources: dict[int, int]
    bytes_of: dict[int, dict[str, int]]
    window: int
    draft_layers: int

    @classmethod
    def of(cls, model: Model, schedule: Schedule) -> PooledStage:
        """Stage of a rank's model. Raises NotApplicableError for layers of other kinds."""
        sources: dict[int, int] = {}
        bytes_of: dict[int, dict[str, int]] = {0: {}}
        layers = window = draft_layers = 0
        for group in model.groups:
            for part in group.parts:
                check_compressed(model, group, part)
                assert isinstance(part, CompressedAttention)
                if group.name == DRAFTS:
                    draft_layers += len(group.layers)
                    continue
                layers += len(group.layers)
                window = max(window, part.sliding_window)
                rate = part.compress_rate or 0
                if rate:
                    sources[rate] = sources.get(rate, 0) + len(group.layers)
                for tensor in tensors_of(group, part, schedule):
                    held = bytes_of.setdefault(0 if tensor.name == "kv" else rate, {})
                    held[tensor.name] = tensor.bytes_per_slot(BF16)
        return cls(layers, dict(sorted(sources.items())), bytes_of, window, draft_layers)

    def tokens_in(self, settings: SglangSettings, schedule: Schedule, available_bytes: int) -> int:
        """max_total_num_tokens in this much memory, or 0.

        Raises NotApplicableError for a stage with only windows, for which SGLang would divide by zero.
        """
        drafted = (self.layers + 1) / self.layers if schedule.drafts else 1
        window_token = self.bytes_of[0]["kv"] / PAGE * self.layers * drafted
        cap = self._cap(settings, schedule)
        token_bytes = sum(self._entry_bytes(rate) / rate * number for rate, number in self.sources.items()) * drafted
        if cap is None:
            token_bytes += _ratio(settings) * window_token
        if not token_bytes:
            raise NotApplicableError(
                "a pipeline stage has only windows, which do not grow with the tokens, and SGLang divides its memory "
                "by the bytes per token",
                help="use fewer stages (pp), or set swa_full_tokens_ratio",
            )
        states = self._states(schedule, schedule.requests or 1)
        left = max(available_bytes - sum(pool.bytes for pool in states) - (cap or 0) * window_token, 0)
        tokens = int(left / token_bytes) // PAGE * PAGE
        while tokens > 0 and tokens * token_bytes + self._padding_bytes(tokens) > left:
            tokens -= PAGE
        return tokens

    def pools(self, settings: SglangSettings, schedule: Schedule, tokens: int) -> tuple[Pool, ...]:
        """The allocated pools for this many tokens. Raises NotApplicableError if no request fits."""
        window_pages = self._window_tokens(settings, schedule, tokens) // PAGE
        check_sliding_pool(window_pages * PAGE, self.window, PAGE)
        page, kv_bytes = f"page of {PAGE}", self.bytes_of[0]["kv"]
        found = [Pool(SLIDING, self.layers, page, window_pages, (("kv", kv_bytes * self.layers),), 1)]
        for rate, number in self.sources.items():
            entries = (("compressed_kv", self.bytes_of[rate]["compressed_kv"] * number),)
            found.append(Pool(f"pooled 1/{rate}", number, page, tokens // PAGE, entries, rate))
            slots = tokens // rate // _INDEX_PAGE
            index = (("index_k", self._key_bytes(rate) * _INDEX_PAGE * number),)
            spare = _index_pages(tokens, rate) - slots
            found.append(Pool(f"index 1/{rate}", number, f"page of {_INDEX_PAGE} keys", slots, index, spare))
        found += self._states(schedule, schedule.requests_at_a_time(tokens))
        if drafts := self.draft_layers:
            found.append(Pool("drafts", drafts, page, window_pages, (("kv", kv_bytes * drafts),), 1))
        return tuple(found)

    def log_line(self, settings: SglangSettings, schedule: Schedule, tokens: int) -> str:
        """SGLang's log line with the sizes of its pools, including DeepSeek-V4's."""
        window = self._window_tokens(settings, schedule, tokens)
        return (
            f"DSV4 pool sizes: full={tokens}, swa={window}, c4={tokens // 4}, c128={tokens // 128}, "
            "c4_state=0, c128_state=0"
        )

    def _cap(self, settings: SglangSettings, schedule: Schedule) -> int | None:
        """Tokens of the window in the worst case; None if they are a share of all."""
        if settings.swa_full_tokens_ratio is not None or not (schedule.requests and schedule.chunk_tokens):
            return None
        prefixes = _PREFIXES_OF_A_REQUEST * schedule.requests if schedule.keeps_prefixes else 0
        needed = request_cap(self.window, schedule, schedule.requests) + prefixes * (self.window + PAGE)
        return -(-needed // PAGE) * PAGE

    def _window_tokens(self, settings: SglangSettings, schedule: Schedule, tokens: int) -> int:
        cap = self._cap(settings, schedule)
        return int(tokens * _ratio(settings)) // PAGE * PAGE if cap is None else cap

    def _key_bytes(self, rate: int) -> int:
        """Bytes of an index key."""
        return self.bytes_of[rate]["index_k"] // (PAGE // rate)

    def _entry_bytes(self, rate: int) -> float:
        """Bytes of an entry, its share of the page's padding included, and of its index key."""
        return self.bytes_of[rate]["compressed_kv"] / (PAGE // rate) + self._key_bytes(rate)

    def _padding_bytes(self, tokens: int) -> float:
        """Spare pages of all sources."""
        found = 0.0
        for rate, number in self.sources.items():
            entries = rate * self.bytes_of[rate]["compressed_kv"]
            keys = _index_pages(tokens, rate) * _INDEX_PAGE - tokens // rate
            found += (entries + keys * self._key_bytes(rate)) * number
        return found

    def _states(self, schedule: Schedule, requests: int) -> list[Pool]:
        """Rings of open groups."""
        found = []
        for rate, number in self.sources.items():
            if rate > 1:
                ring = open_group_rows(schedule.drafts)
                rows, row_bytes = (requests + 1) * ring, self.bytes_of[rate]["states"] // ring * number
                held = (("states", row_bytes),)
                found.append(Pool(f"open groups 1/{rate}", number, "row", rows, held, spare_rows(rows, ring, rate)))
        return found


def _index_pages(tokens: int, rate: int) -> int:
    """Pages of a source's index."""
    return -(-((tokens + PAGE) // rate + _INDEX_PAGE) // _INDEX_PAGE)


def _ratio(settings: SglangSettings) -> float:
    return DEFAULT_RATIO if settings.swa_full_tokens_ratio is None else settings.swa_full_tokens_ratio
