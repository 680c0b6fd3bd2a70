"""SGLang's pools in the memory left, on a rank of each pipeline stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import ceil

from kvcalc.cache.dtypes import BF16
from kvcalc.engines.base.checks import check_unchanged
from kvcalc.engines.base.footprint import Footprint
from kvcalc.engines.base.pools import STATES, PoolPlan
from kvcalc.engines.base.stages import stage_models
from kvcalc.engines.sglang.compressed import pools_entries
from kvcalc.engines.sglang.compressed_pools import CompressedStage
from kvcalc.engines.sglang.drafting import all_rows, format_of_draft, is_exact
from kvcalc.engines.sglang.pooled_pools import PooledStage
from kvcalc.engines.sglang.pools import DRAFTS, pools_of, sizes_of, with_tokens
from kvcalc.engines.sglang.resolution import cache_dtype, names_context, schedule_of
from kvcalc.engines.sglang.schedule import Schedule
from kvcalc.engines.sglang.settings import STORED, SglangSettings
from kvcalc.engines.sglang.stage import DRAFT, TAILS, Stage, stages_of
from kvcalc.engines.sglang.tensors import keeps_states_alone
from kvcalc.errors import NotApplicableError
from kvcalc.hardware import gpu_named
from kvcalc.model import Model
from kvcalc.parallel import Parallel, Sharing, rounded_heads
from kvcalc.report.pool import Pool, PoolReport
from kvcalc.units import GIB

_RATIO_DIGITS = 10_000
_TORCH_DTYPES = {"fp32": "torch.float32", "bf16": "torch.bfloat16", "fp16": "torch.float16"}
_TORCH_STORED = {"fp8_e5m2": "torch.float8_e5m2", "fp8_e4m3": "torch.float8_e4m3fn", "mxfp8": "torch.float8_e4m3fn"}


class SglangPlan(PoolPlan):
    """Pools of pages for all layers, for sliding ones, and for states; the stage with fewest tokens decides."""

    def __init__(self, model: Model, settings: SglangSettings, ranks: Parallel, sharing: Sharing) -> None:
        self._model, self._settings = model, settings
        self._ranks, self._sharing = ranks, sharing
        self._schedule = schedule_of(model, settings, dp=ranks.dp, pp=ranks.pp)
        (whole,) = stage_models(model, ranks.tp, 1, sharing)
        rows = all_rows(model, settings, BF16, self._schedule)
        parts = stage_models(model, ranks.tp, ranks.pp, sharing)
        for part in parts:
            check_unchanged(part, settings.TITLE)
        stored = [tuple((group, rows.of(whole, group)) for group in part.groups) for part in parts]
        self._stages = stages_of(model, stored, own_windows=rows.own_windows, exact_drafts=is_exact(model, settings))
        self._rounded = rounded_heads(model, ranks.tp, sharing)
        held = tuple(
            Footprint.of_tensors(part, tuple(tensors for _, tensors in own), BF16)
            for part, own in zip(parts, stored, strict=True)
        )
        super().__init__(held, self._schedule.page)
        self.keeps_prefixes = self._schedule.keeps_prefixes
        if any(stage.slot_bytes(STATES) for stage in self._stages):
            self.request_states, self.session_states = self._schedule.states, int(self._schedule.keeps_prefixes)

    def with_states(self, states: int) -> SglangPlan:
        """The same with max_mamba_cache_size states on a rank."""
        asked = replace(self._settings, max_mamba_cache_size=states * self._schedule.dp, mamba_full_memory_ratio=None)
        return SglangPlan(self._model, asked, self._ranks, self._sharing)

    def states_setting(self, states: int, cache_bytes: int) -> tuple[str, float] | None:
        """mamba_full_memory_ratio that gives this many states in cache_bytes on a rank; None if drafts have a part."""
        if self._schedule.drafts is not None:
            return None
        stage = max(self._stages, key=lambda stage: stage.largest_state_bytes)
        taken = (states + 1) * stage.largest_state_bytes
        ratio = ceil(_RATIO_DIGITS * taken / (cache_bytes - taken)) / _RATIO_DIGITS if taken < cache_bytes else None
        return None if ratio is None else ("mamba_full_memory_ratio", ratio)

    def fit(self, available_bytes: Sequence[int], longest: int | None = None) -> PoolReport:
        """Pools in this much memory on a rank of each stage. Raises NotApplicableError as SGLang refuses them."""
        del longest
        model, settings, schedule, stages = self._model, self._settings, self._schedule, self._stages
        sizes = [sizes_of(stage, settings, schedule, each) for stage, each in zip(stages, available_bytes, strict=True)]
        fitting = min(size.tokens for size in sizes)
        tokens = _limited(fitting, settings, self.page)
        if tokens != fitting or len(stages) > 1:
            sizes = [
                with_tokens(size, tokens, stage, settings, schedule) for size, stage in zip(sizes, stages, strict=True)
            ]
        requests = schedule.requests_at_a_time(sizes[0].tokens, min(size.states for size in sizes))
        pools = tuple(pools_of(stage, size, self.page, requests) for stage, size in zip(stages, sizes, strict=True))
        return _report(model, settings, schedule, available_bytes)._replace(
            tokens=sizes[0].tokens,
            stages=pools,
            log_lines=tuple(_log_line(pool, model, settings) for pool in pools[0] if pool.name != TAILS),
            max_requests=requests,
            notes=(*model.notes, *_of_context(model, settings, schedule), *_of_drafts(model, stages), *self._rounded),
        )


class CompressedPlan(PoolPlan):
    """Pools of DeepSeek-V4 and V4.1."""

    def __init__(self, model: Model, settings: SglangSettings, ranks: Parallel, sharing: Sharing) -> None:
        self._model, self._settings = model, settings
        self._schedule = schedule_of(model, settings, dp=ranks.dp, pp=ranks.pp)
        parts = stage_models(model, ranks.tp, ranks.pp, sharing)
        kind = PooledStage if pools_entries(model) else CompressedStage
        self._stages = [kind.of(part, self._schedule) for part in parts]
        super().__init__(tuple(settings.footprint(part, BF16) for part in parts), self._schedule.page)

    def fit(self, available_bytes: Sequence[int], longest: int | None = None) -> PoolReport:
        """Pools in this much memory on a rank of each stage. Raises NotApplicableError as SGLang refuses them."""
        del longest
        settings, schedule, stages = self._settings, self._schedule, self._stages
        report = _report(self._model, settings, schedule, available_bytes)
        fitting = [
            stage.tokens_in(settings, schedule, each) for stage, each in zip(stages, available_bytes, strict=True)
        ]
        tokens = _limited(min(fitting), settings, self.page)
        return report._replace(
            tokens=tokens,
            stages=tuple(stage.pools(settings, schedule, tokens) for stage in stages),
            log_lines=(stages[0].log_line(settings, schedule, tokens),),
            max_requests=schedule.requests_at_a_time(tokens),
        )


def _limited(fitting: int, settings: SglangSettings, page: int) -> int:
    """Tokens that fit, or as set, in whole pages. Raises NotApplicableError if there are none."""
    tokens = min(fitting, settings.max_total_tokens or fitting) // page * page
    if tokens <= 0:
        raise NotApplicableError(
            "Not enough memory. Please try to increase --mem-fraction-static.",
            help="use more memory, or more GPUs",
        )
    return tokens


def _report(model: Model, settings: SglangSettings, schedule: Schedule, available_bytes: Sequence[int]) -> PoolReport:
    """A report before the pools are known."""
    return PoolReport(
        model=model.name,
        engine=settings.name,
        version=settings.release_words,
        gpu=gpu_named(settings.gpu).name,
        available_bytes=tuple(available_bytes),
        resolved=(
            ("page_size", schedule.page),
            ("kv_cache_dtype", cache_dtype(model, settings, BF16)),
        ),
        notes=model.notes,
    )


def _of_context(model: Model, settings: SglangSettings, schedule: Schedule) -> tuple[str, ...]:
    """A remark where nothing says how long requests may be."""
    if settings.context_length is not None or names_context(model):
        return ()
    shared = ", which all requests share" if keeps_states_alone(model) else ""
    return (
        f"the config of {model.name} has no maximum context, so SGLang uses {schedule.context_tokens:,} tokens"
        f"{shared}: set context_length",
    )


def _of_drafts(model: Model, stages: Sequence[Stage]) -> tuple[str, ...]:
    """A remark if another checkpoint that drafts takes more memory than is set aside for it."""
    missing = max(stage.slot_bytes(DRAFT) - sum(stage.charged.values()) for stage in stages)
    if model.drafter is None or missing <= 0:
        return ()
    return (
        f"a token of {model.drafter.name}, which drafts, takes {missing:,} bytes more than SGLang sets aside for it: "
        "lower mem_fraction_static",
    )


def _log_line(pool: Pool, model: Model, settings: SglangSettings) -> str:
    """The pool's line: K and V apart, or the one tensor of a latent; of states, convolutions apart."""
    if pool.name == STATES:
        conv_bytes = pool.bytes_of(*(name for name, _ in pool.slot_bytes if name.startswith("conv_state")))
        return (
            f"Mamba Cache is allocated. max_mamba_cache_size: {pool.slots}, conv_state size: "
            f"{conv_bytes / GIB:.2f}GB, ssm_state size: {(pool.bytes - conv_bytes) / GIB:.2f}GB"
        )
    drafter = model.drafter if pool.name == DRAFTS else None
    name = cache_dtype(model, settings, BF16) if drafter is None else format_of_draft(drafter, settings, BF16)
    head = f"KV Cache is allocated. dtype: {_TORCH_STORED.get(name) or _TORCH_DTYPES[STORED.get(name, BF16).name]}, "
    tokens = f"#tokens: {pool.slots}, "
    if pool.bytes_of("v"):
        v_bytes = pool.bytes_of("v", "index_v")
        sizes = f"K size: {(pool.bytes - v_bytes) / GIB:.2f} GB, V size: {v_bytes / GIB:.2f} GB"
    else:
        sizes = f"KV size: {pool.bytes / GIB:.2f} GB"
    return f"{head}{tokens}{sizes}"
