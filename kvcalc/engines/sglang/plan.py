"""What SGLang's pools hold of the memory that is left, on a rank of each pipeline stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kvcalc.cache.dtypes import BF16
from kvcalc.engines.base.checks import check_unchanged
from kvcalc.engines.base.footprint import Footprint
from kvcalc.engines.base.pools import PoolPlan
from kvcalc.engines.base.stages import stage_models
from kvcalc.engines.sglang.compressed import PAGE as COMPRESSED_PAGE
from kvcalc.engines.sglang.compressed import is_compressed
from kvcalc.engines.sglang.compressed_pools import CompressedStage, log_line, requests_of
from kvcalc.engines.sglang.pools import STATES, Sizes, Stage, pools_of, sizes_of, with_tokens
from kvcalc.engines.sglang.resolution import cache_dtype, layout_of, page_of, request_states, rows_of
from kvcalc.engines.sglang.settings import STORED, SglangSettings
from kvcalc.errors import NotApplicableError
from kvcalc.hardware import gpu_named
from kvcalc.model import DRAFTS, Model
from kvcalc.parallel import Parallel, Sharing, rounded_heads
from kvcalc.report.pool import Pool, PoolReport
from kvcalc.units import GIB

_TORCH_DTYPES = {"fp32": "torch.float32", "bf16": "torch.bfloat16", "fp16": "torch.float16"}
_TORCH_STORED = {"fp8_e5m2": "torch.float8_e5m2", "fp8_e4m3": "torch.float8_e4m3fn", "mxfp8": "torch.float8_e4m3fn"}


class SglangPlan(PoolPlan):
    """Pools of pages for all layers, for sliding ones, and for states; the stage with fewest tokens decides for all."""

    def __init__(self, model: Model, settings: SglangSettings, ranks: Parallel, sharing: Sharing) -> None:
        context_length = settings.context_length or model.max_model_len
        self._model = model
        self._settings = replace(settings, context_length=context_length)
        (whole,) = stage_models(model, ranks.tp, 1, sharing)
        rows = rows_of(whole, self._settings, BF16)
        parts = stage_models(model, ranks.tp, ranks.pp, sharing)
        for part in parts:
            check_unchanged(part, settings.TITLE)
        stored = [(part, tuple(rows.of(whole, group) for group in part.groups)) for part in parts]
        self._stages = [Stage.of(part, own, BF16, own_windows=rows.own_windows) for part, own in stored]
        self._rounded = rounded_heads(model, ranks.tp, sharing)
        held = tuple(Footprint.of_tensors(part, own, BF16) for part, own in stored)
        super().__init__(held, page_of(model, settings))

    def fit(self, available_bytes: Sequence[int], longest: int | None = None) -> PoolReport:
        """Pools that fit so much memory of a rank of each stage. Raises NotApplicableError as SGLang refuses them."""
        del longest
        model, settings, page, stages = self._model, self._settings, self.page, self._stages
        sizes = [sizes_of(stage, settings, page, each) for stage, each in zip(stages, available_bytes, strict=True)]
        fitting = min(size.tokens for size in sizes)
        tokens = _limited(fitting, settings, page)
        if tokens != fitting or len(stages) > 1:
            sizes = [
                with_tokens(size, tokens, stage, settings, page) for size, stage in zip(sizes, stages, strict=True)
            ]
        pools = tuple(pools_of(stage, size, page) for stage, size in zip(stages, sizes, strict=True))
        return _report(model, settings, available_bytes)._replace(
            tokens=sizes[0].tokens,
            stages=pools,
            log_lines=tuple(_log_line(pool, model, settings) for pool in pools[0]),
            max_requests=_max_requests(sizes[0], settings),
            notes=(*model.notes, *self._rounded),
        )


class CompressedPlan(PoolPlan):
    """Pools of DeepSeek-V4."""

    def __init__(self, model: Model, settings: SglangSettings, ranks: Parallel, sharing: Sharing) -> None:
        check_drafts(model, settings)
        self._model = model
        self._settings = settings
        parts = stage_models(model, ranks.tp, ranks.pp, sharing)
        self._stages = [CompressedStage.of(part, layout_of(settings)) for part in parts]
        super().__init__(tuple(settings.footprint(part, BF16) for part in parts), COMPRESSED_PAGE)

    def fit(self, available_bytes: Sequence[int], longest: int | None = None) -> PoolReport:
        """Pools that fit so much memory of a rank of each stage. Raises NotApplicableError as SGLang refuses them."""
        del longest
        settings, stages = self._settings, self._stages
        report = _report(self._model, settings, available_bytes)
        fitting = [stage.tokens_in(settings, each) for stage, each in zip(stages, available_bytes, strict=True)]
        tokens = _limited(min(fitting), settings, self.page)
        return report._replace(
            tokens=tokens,
            stages=tuple(stage.pools(settings, tokens) for stage in stages),
            log_lines=(log_line(settings, tokens),),
            max_requests=requests_of(settings),
        )


def check_drafts(model: Model, settings: SglangSettings) -> None:
    """Raises NotApplicableError for drafts of DeepSeek-V4: windows and rings of states grow with what is drafted."""
    if is_compressed(model) and any(group.name == DRAFTS for group in model.groups):
        raise NotApplicableError(
            f"kvcalc does not know how SGLang {settings.version} sizes windows and states of DeepSeek-V4 that drafts",
            help="leave --mtp (mtp) out",
        )


def _limited(fitting: int, settings: SglangSettings, page: int) -> int:
    """Tokens that fit, or that are asked for, in whole pages. Raises NotApplicableError where there is none."""
    tokens = min(fitting, settings.max_total_tokens or fitting) // page * page
    if tokens <= 0:
        raise NotApplicableError(
            "Not enough memory. Please try to increase --mem-fraction-static.",
            help="give more memory, or share the model among more GPUs",
        )
    return tokens


def _report(model: Model, settings: SglangSettings, available_bytes: Sequence[int]) -> PoolReport:
    """A report before the pools are known."""
    return PoolReport(
        model=model.name,
        engine=settings.name,
        version=settings.release_words,
        gpu=gpu_named(settings.gpu).name,
        available_bytes=tuple(available_bytes),
        resolved=(
            ("page_size", page_of(model, settings)),
            ("kv_cache_dtype", cache_dtype(model, settings, BF16)),
        ),
        notes=model.notes,
    )


def _max_requests(sizes: Sizes, settings: SglangSettings) -> int | None:
    """Requests that the Mamba pool has states for."""
    return sizes.states // request_states(settings) if sizes.states else settings.max_running_requests


def _log_line(pool: Pool, model: Model, settings: SglangSettings) -> str:
    """The pool's line: K and V apart, or the one tensor of a latent; of states, convolutions apart."""
    if pool.name == STATES:
        conv_bytes = pool.bytes_of(*(name for name, _ in pool.slot_bytes if name.startswith("conv_state")))
        return (
            f"Mamba Cache is allocated. max_mamba_cache_size: {pool.slots}, conv_state size: "
            f"{conv_bytes / GIB:.2f}GB, ssm_state size: {(pool.bytes - conv_bytes) / GIB:.2f}GB"
        )
    name = cache_dtype(model, settings, BF16)
    head = f"KV Cache is allocated. dtype: {_TORCH_STORED.get(name) or _TORCH_DTYPES[STORED.get(name, BF16).name]}, "
    tokens = f"#tokens: {pool.slots}, "
    if pool.bytes_of("v"):
        v_bytes = pool.bytes_of("v", "index_v")
        sizes = f"K size: {(pool.bytes - v_bytes) / GIB:.2f} GB, V size: {v_bytes / GIB:.2f} GB"
    else:
        sizes = f"KV size: {pool.bytes / GIB:.2f} GB"
    return f"{head}{tokens}{sizes}"
