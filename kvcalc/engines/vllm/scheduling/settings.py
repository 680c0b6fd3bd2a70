"""Settings of vLLM's scheduler, as `vllm serve` and vLLM's own config name them, and the rules that they make.

Source: vLLM, config/scheduler.py, config/cache.py, config/speculative.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from kvcalc.engines.base.settings import count_from, one_of, setting
from kvcalc.errors import InvalidValueError, NotApplicableError, UnknownNameError
from kvcalc.units import shown

if TYPE_CHECKING:
    from kvcalc.engines.vllm.scheduling.sequence import Sequence as Running

REPLAYED = "0.32.0"
"""The version whose scheduler was measured."""
FCFS, PRIORITY = "fcfs", "priority"
NGRAM, EAGLE = "ngram", "eagle"
_ALIGN, _NONE = "align", "none"
_ACCEPTED_BY_REQUEST, _ACCEPTED_BY_OUTPUT = 7, 13


@dataclass(frozen=True)
class SchedulerSettings:
    """Settings of the scheduler. None: as in the engine's settings, or vLLM's default."""

    num_gpu_blocks: int | None = setting(None, "blocks of the pool, including the one that is never given out")
    block_size: int | None = setting(None, "tokens of a block, independent of the kernels")
    max_model_len: int | None = setting(None, "longest request")
    max_num_batched_tokens: int | None = setting(None, "tokens of a step")
    max_num_seqs: int | None = setting(None, "concurrent requests")
    enable_prefix_caching: bool | None = setting(None, "whether prefixes are kept")
    enable_chunked_prefill: bool = setting(True, "whether a prompt may be read in several steps")
    policy: str = setting(FCFS, "fcfs or priority")
    watermark: float = setting(0.0, "share of the blocks that an admission leaves free")
    scheduler_reserve_full_isl: bool = setting(True, "whether a request is admitted only if all of it fits")
    long_prefill_token_threshold: int = setting(0, "most tokens of a prompt in a step; 0: no limit")
    async_scheduling: bool | None = setting(None, "whether two batches are in flight")
    prefix_cache_retention_interval: int | None = setting(
        0, "tokens between windows and states that are kept; 0: only where a prompt can be resumed, None: all"
    )
    max_in_flight_tokens: int | None = setting(None, "tokens of all batches in flight")
    num_speculative_tokens: int = setting(0, "draft tokens")
    spec_method: str | None = setting(None, "ngram or eagle")
    num_lookahead_tokens: int | None = setting(None, "slots after the draft tokens; default: by spec_method")
    eagle_block_drop: bool | None = setting(
        None, "whether drafts recompute the last block of a hit; default: by spec_method"
    )
    draft_acceptance: float | None = setting(
        None, "share of accepted draft tokens; default: 0 to all in turn, as in the measurements"
    )
    mamba_cache_mode: str | None = setting(None, "none or align, which follows from enable_prefix_caching")
    block_size_edited: bool = setting(False, "whether block_size is other than the engine's own; block_size says it")

    def __post_init__(self) -> None:
        for name in ("num_gpu_blocks", "block_size", "max_model_len", "max_num_batched_tokens", "max_num_seqs"):
            count_from(getattr(self, name), name, 1)
        for name in (
            *("long_prefill_token_threshold", "prefix_cache_retention_interval", "num_speculative_tokens"),
            *("num_lookahead_tokens", "max_in_flight_tokens"),
        ):
            count_from(getattr(self, name), name, 0)
        for name in _FLAGS:
            value = getattr(self, name)
            if value is not None and not isinstance(value, bool):
                raise InvalidValueError(
                    f"{name} must be true or false, not {shown(value)}", field=name, help=f"write {name}=true"
                )
        one_of(self.policy, "policy", (FCFS, PRIORITY))
        for name in ("watermark", "draft_acceptance"):
            _portion(getattr(self, name), name)
        self._check_replayed()

    def _check_replayed(self) -> None:
        """Raises NotApplicableError for settings that kvcalc does not replay."""
        if self.spec_method not in (None, NGRAM, EAGLE):
            raise NotApplicableError(
                f"drafts by {shown(self.spec_method)} are not replayed", help=f"use spec_method {NGRAM} or {EAGLE}"
            )
        if self.mamba_cache_mode not in (None, _NONE, _ALIGN):
            raise NotApplicableError(
                f"mamba_cache_mode {shown(self.mamba_cache_mode)} is not replayed", help=f"use {_NONE} or {_ALIGN}"
            )
        if self.num_speculative_tokens and self.async_scheduling:
            raise NotApplicableError(
                "drafts with two batches in flight are not replayed: they were not measured",
                help="set async_scheduling=false, or remove num_speculative_tokens",
            )

    @classmethod
    def of(cls, given: Mapping[str, object] | None) -> SchedulerSettings:
        """Settings by name. Raises UnknownNameError for one that is unknown or not replayed."""
        if given is not None and not isinstance(given, Mapping):
            raise InvalidValueError(
                f"scheduler must be a mapping of names to values, not {shown(given)}",
                field="scheduler",
                help='for example {"max_num_seqs": 128}',
            )
        known = [field.name for field in fields(cls)]
        for name in given or {}:
            if name not in known:
                raise UnknownNameError.among("setting of vLLM's scheduler", str(name), known)
        return cls(**dict(given or {}))  # type: ignore[arg-type]  # __post_init__ checks each value

    @property
    def drops_last(self) -> bool:
        """Whether drafts recompute the last block of a hit."""
        return self.spec_method == EAGLE if self.eagle_block_drop is None else self.eagle_block_drop

    @property
    def lookahead_tokens(self) -> int:
        """Slots after the draft tokens."""
        if self.num_lookahead_tokens is not None:
            return self.num_lookahead_tokens
        return self.num_speculative_tokens if self.spec_method == EAGLE else 0


_FLAGS = (
    *("enable_prefix_caching", "enable_chunked_prefill", "scheduler_reserve_full_isl", "async_scheduling"),
    *("eagle_block_drop", "block_size_edited"),
)


def _portion(value: object, name: str) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise InvalidValueError(f"{name} must be 0 to 1, not {shown(value)}", field=name, help=f"write {name}=0.05")


@dataclass(frozen=True)
class Rules:
    """The scheduler's rules, all resolved. batches: in flight. step_tokens: hits are multiples of this.

    partial_hits: whether a hit may end inside a block of states.
    """

    max_model_len: int
    max_num_batched_tokens: int
    max_num_seqs: int
    batches: int
    step_tokens: int
    partial_hits: bool
    settings: SchedulerSettings

    @property
    def by_priority(self) -> bool:
        """Whether requests have priorities."""
        return self.settings.policy == PRIORITY

    @property
    def lookahead_tokens(self) -> int:
        """Slots after the draft tokens."""
        return self.settings.lookahead_tokens

    @property
    def num_speculative_tokens(self) -> int:
        """Draft tokens."""
        return self.settings.num_speculative_tokens

    @property
    def enable_chunked_prefill(self) -> bool:
        """Whether a prompt may be read in several steps."""
        return self.settings.enable_chunked_prefill

    @property
    def scheduler_reserve_full_isl(self) -> bool:
        """Whether a request is admitted only if all of it fits."""
        return self.settings.scheduler_reserve_full_isl

    @property
    def long_prefill_token_threshold(self) -> int:
        """Most tokens of a prompt in a step."""
        return self.settings.long_prefill_token_threshold

    @property
    def by_name(self) -> dict[str, object]:
        """Resolved settings, by name."""
        return vars(self.settings) | {
            "max_model_len": self.max_model_len,
            "max_num_batched_tokens": self.max_num_batched_tokens,
            "max_num_seqs": self.max_num_seqs,
            "async_scheduling": self.batches > 1,
        }

    def accepted(self, request: Running, drafts: int) -> int:
        """Number of accepted drafts."""
        if not drafts:
            return 0
        share = self.settings.draft_acceptance
        if share is None:
            number = request.id if isinstance(request.id, int) else request.number
            return (number * _ACCEPTED_BY_REQUEST + request.outputs * _ACCEPTED_BY_OUTPUT) % (drafts + 1)
        before = request.outputs * drafts
        return min(drafts, int((before + drafts) * share) - int(before * share))
