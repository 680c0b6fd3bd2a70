"""Settings of SGLang's scheduler for one model: prefill chunks, requests, drafts, states of a request.

    requests at a time   min(max_running_requests / dp, tokens / 2, states / states of a request), where without
                         max_running_requests tokens / context * 512 stands in its place, between 2,048 and 4,096
    states of a request  3 and those that track it: 2 with an extra buffer, 1 if nothing overlaps with scheduling;
                         1 in all without the radix cache
    tokens of a window   window + interval * drafted tokens + page, and what a step of decoding may take

Source: SGLang, mem_cache/kv_cache_configurator.py (resolve_max_num_reqs, _calculate_mamba_ratio),
mem_cache/allocation_sizing.py, model_executor/pool_configurator.py (compute_swa_request_cap).
"""

from __future__ import annotations

from typing import NamedTuple

from kvcalc.errors import NotApplicableError

EVICTION_INTERVAL = 128
"""Steps after which tokens that left the window are freed (SGLANG_SWA_EVICTION_INTERVAL)."""
_REQUESTS_OF_A_CONTEXT = 512
_FEWEST_REQUESTS, _MOST_REQUESTS = 2048, 4096


class Drafts(NamedTuple):
    """Draft tokens: `steps` in sequence with `topk` branches, of which `tokens` are verified at once."""

    steps: int
    topk: int
    tokens: int

    def step_tokens(self, page: int, *, overlaps: bool) -> int:
        """Tokens that a request may take while it decodes: of two steps if they overlap, else of one, in pages."""
        if overlaps:
            drafted = self.steps * self.topk
            if page > 1 and self.topk > 1:  # the last page of what is committed is copied for each branch
                drafted = -(-(page - 1 + self.steps) // page) * page * self.topk
            return 2 * max(drafted, self.tokens)
        branch = self.steps + page if page > 1 and self.topk > 1 else self.steps
        return max(_in_pages(branch, page) * self.topk, _in_pages(self.tokens, page))


def _in_pages(tokens: int, page: int) -> int:
    return -(-tokens // page) * page


class Schedule(NamedTuple):
    """The resolved settings.

    page: tokens of a page. overlaps: whether a batch is prepared while another runs. states: slots of the Mamba pool
    that a running request may hold. chunk_tokens: of a prefill step, 0 for whole prompts. requests: as set, of one
    rank. context_tokens: of the longest request. dp: ranks that share attention's requests.
    keeps_prefixes: whether the radix cache is on.
    """

    page: int
    overlaps: bool
    states: int
    chunk_tokens: int
    requests: int | None
    context_tokens: int
    drafts: Drafts | None = None
    dp: int = 1
    keeps_prefixes: bool = True

    def requests_at_a_time(self, tokens: int, states: int = 0) -> int:
        """Concurrent requests with this many tokens, and states if there are any.

        Raises NotApplicableError if states allow none.
        """
        by_context = int(tokens / self.context_tokens * _REQUESTS_OF_A_CONTEXT)
        wanted = self.requests or min(max(by_context, _FEWEST_REQUESTS), _MOST_REQUESTS)
        found = min(wanted, tokens // 2)
        return found if not states else min(found, self.requests_of_states(states))

    def requests_of_states(self, states: int) -> int:
        """Concurrent requests with this many states. Raises NotApplicableError if there are none."""
        if states < self.states:
            raise NotApplicableError(
                "Hybrid (mamba/linear-attention) state cache is too small to serve any requests. "
                f"max_mamba_cache_size={states}, mamba_ratio={self.states}, resulting max_num_reqs=0",
                help="lower max_running_requests, raise mem_fraction_static, or use GPUs with more memory",
            )
        return states // self.states

    def window_tokens(self, window: int) -> int:
        """Tokens of a window that a request may hold: freed page by page, in intervals, and those being decoded."""
        if self.drafts is None:
            return window + EVICTION_INTERVAL + 2 * self.page
        ahead = self.drafts.step_tokens(self.page, overlaps=self.overlaps)
        return window + EVICTION_INTERVAL * self.drafts.tokens + self.page + ahead
