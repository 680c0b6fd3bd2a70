"""SGLang 0.5.23: token pools of one page size, a Mamba pool for states, and how many tokens of them fit.

A size is what requests take of the pools, in whole pages; the pools themselves, each with its spare page, are
`kvcalc.fit`'s. Established from its source, and by 22 sizes that users saw in logs of 8 start-ups; it was not run.
Of KV heads each tensor-parallel rank holds max(1, num_kv_heads // tp) (get_num_kv_heads); latents and index keys every
rank holds whole. Attention data parallelism (`--tp 8 --dp 8 --enable-dp-attention`) is tp=1, dp=8 here. The
layers of EAGLE drafts that the model itself has are counted where they are asked for (`--mtp`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kvcalc.dtypes import BF16, Dtype
from kvcalc.engines import Allocation
from kvcalc.engines._checks import check_unchanged
from kvcalc.engines._sglang_compressed import PAGE as COMPRESSED_PAGE
from kvcalc.engines._sglang_compressed import is_compressed
from kvcalc.engines._sglang_compressed_pools import CompressedStage, log_line, requests_of
from kvcalc.engines._sglang_pools import STATES, Sizes, Stage, pools_of, sizes_of, with_tokens
from kvcalc.engines._sglang_resolution import (
    cache_dtype,
    has_own_windows,
    layout_of,
    page_of,
    request_states,
    rows_of,
)
from kvcalc.engines._sglang_settings import FP4, STORED, Settings
from kvcalc.engines._sglang_tensors import is_sliding, rows_without_use
from kvcalc.engines._stages import stage_models
from kvcalc.errors import InvalidValueError, NotApplicableError
from kvcalc.hardware import gpu_named
from kvcalc.model import Model
from kvcalc.parallel import Sharing, rounded_heads
from kvcalc.report.pool import Pool, PoolReport
from kvcalc.units import GIB

VERSION = "0.5.23"
_TORCH_DTYPES = {"fp32": "torch.float32", "bf16": "torch.bfloat16", "fp16": "torch.float16"}
_TORCH_STORED = {"fp8_e5m2": "torch.float8_e5m2", "fp8_e4m3": "torch.float8_e4m3fn", "mxfp8": "torch.float8_e4m3fn"}
_DRAFTS = "mtp"
"""Group of the layers that draft."""
SHARING = Sharing(
    kv_heads="floor",
    extra_layers="last",
    caveat="so are SGLang's pools laid out, but most of its model classes refuse to load then",
)
"""max(1, num_kv_heads // tp) (get_num_kv_heads), and layers left over in the last stages (get_pp_indices)."""


def allocate(model: Model, settings: Settings, kv_dtype: Dtype) -> Allocation:
    """Whole pages that a request takes of the pools, and its states. Raises NotApplicableError for what has no pool."""
    check_unchanged(model, "SGLang")
    _check_drafts(model)
    rows = rows_of(model, settings, kv_dtype)
    return tuple(rows.of(model, group) for group in model.groups)


def notes(model: Model, settings: Settings) -> tuple[str, ...]:
    """What SGLang does with this model that nobody would expect."""
    found = [f"pages that SGLang {VERSION} gives a request; kvcalc.fit knows the pools that they come from"]
    slides = any(map(is_sliding, model.groups))
    if slides and not has_own_windows(model, settings):
        found.append(f"SGLang has no sliding pool for {model.model_type or model.name}: every layer keeps every token")
    if idle := rows_without_use(model):
        found.append(f"SGLang has rows for every layer, also for the {idle} that cache nothing")
    if settings.kv_cache_dtype in FP4:
        found.append(
            "a second layout of the scales and a workspace, which some of its FP4 kernels need, are not counted"
        )
    return tuple(found)


MEMORY_SHARE = "mem_fraction_static"


def left_for_cache(settings: Settings, memory_bytes: int, used_bytes: int) -> int:
    """Of a GPU whose memory is free before the weights are loaded: memory * mem_fraction_static less what is in use.

    Raises InvalidValueError without that fraction: SGLang's own depends on CUDA graphs that kvcalc does not know.
    """
    if settings.mem_fraction_static is None:
        raise InvalidValueError(
            "mem_fraction_static is not given, and what SGLang makes of it depends on the graphs that it captures",
            field=MEMORY_SHARE,
            help="give it, for instance mem_fraction_static=0.85: the log of a start-up prints it among server_args",
        )
    return memory_bytes - int(memory_bytes * (1 - settings.mem_fraction_static)) - used_bytes


def fit(model: Model, settings: Settings, *, tp: int, pp: int, dcp: int, available_bytes: Sequence[int]) -> PoolReport:
    """Pools that fit available_bytes of a rank of each stage; the stage with fewest tokens decides for all.

    Raises NotApplicableError where SGLang refuses to start, in its words.
    """
    if dcp > 1:
        raise NotApplicableError(
            f"kvcalc does not know how SGLang {VERSION} lays pools out for decode context parallelism (dcp {dcp})",
            help="leave dcp out",
        )
    if settings.kv_cache_dtype in FP4:
        raise NotApplicableError(
            f"kvcalc does not know which scales and which workspace SGLang keeps for {settings.kv_cache_dtype}",
            help="ask kvcalc.size, which counts codes and one layout of scales",
        )
    if is_compressed(model):
        return _fit_compressed(model, settings, stage_models(model, tp, pp, SHARING), available_bytes)
    settings = replace(settings, context_length=settings.context_length or model.max_model_len)
    page = page_of(model, settings)
    (whole,) = stage_models(model, tp, 1, SHARING)
    stages = [_stage(part, whole, settings) for part in stage_models(model, tp, pp, SHARING)]
    sizes = [
        sizes_of(stage, settings, page, available) for stage, available in zip(stages, available_bytes, strict=True)
    ]
    fitting = min(size.tokens for size in sizes)
    tokens = _limited(fitting, settings, page)
    if tokens != fitting or len(stages) > 1:
        sizes = [with_tokens(size, tokens, stage, settings, page) for size, stage in zip(sizes, stages, strict=True)]
    pools = tuple(pools_of(stage, size, page) for stage, size in zip(stages, sizes, strict=True))
    return _report(model, settings, available_bytes)._replace(
        tokens=sizes[0].tokens,
        stages=pools,
        log_lines=tuple(_log_line(pool, model, settings) for pool in pools[0]),
        max_requests=_max_requests(sizes[0], settings),
        notes=(*model.notes, *rounded_heads(model, tp, SHARING)),
    )


def _fit_compressed(
    model: Model, settings: Settings, stages: Sequence[Model], available_bytes: Sequence[int]
) -> PoolReport:
    """Pools of DeepSeek-V4 that fit available_bytes of a rank of each stage."""
    _check_drafts(model)
    report = _report(model, settings, available_bytes)
    compressed = [CompressedStage.of(stage, layout_of(settings)) for stage in stages]
    fitting = [stage.tokens_in(settings, each) for stage, each in zip(compressed, available_bytes, strict=True)]
    tokens = _limited(min(fitting), settings, COMPRESSED_PAGE)
    return report._replace(
        tokens=tokens,
        stages=tuple(stage.pools(settings, tokens) for stage in compressed),
        log_lines=(log_line(settings, tokens),),
        max_requests=requests_of(settings),
    )


def _check_drafts(model: Model) -> None:
    """Raises NotApplicableError for drafts of DeepSeek-V4: windows and rings of states grow with what is drafted."""
    if is_compressed(model) and any(group.name == _DRAFTS for group in model.groups):
        raise NotApplicableError(
            f"kvcalc does not know how SGLang {VERSION} sizes windows and states of DeepSeek-V4 that drafts",
            help="leave --mtp (mtp) out",
        )


def _limited(fitting: int, settings: Settings, page: int) -> int:
    """Tokens that fit, or that are asked for, in whole pages. Raises NotApplicableError where there is none."""
    tokens = min(fitting, settings.max_total_tokens or fitting) // page * page
    if tokens <= 0:
        raise NotApplicableError(
            "Not enough memory. Please try to increase --mem-fraction-static.",
            help="give more memory, or share the model among more GPUs",
        )
    return tokens


def _report(model: Model, settings: Settings, available_bytes: Sequence[int]) -> PoolReport:
    """A report before the pools are known."""
    return PoolReport(
        model=model.name,
        engine="sglang",
        version=VERSION,
        gpu=gpu_named(settings.gpu).name,
        available_bytes=tuple(available_bytes),
        resolved=(
            ("page_size", page_of(model, settings)),
            ("kv_cache_dtype", cache_dtype(model, settings, BF16)),
        ),
        notes=model.notes,
    )


def _stage(part: Model, model: Model, settings: Settings) -> Stage:
    rows = rows_of(model, settings, BF16)
    check_unchanged(part, "SGLang")
    allocation = tuple(rows.of(model, group) for group in part.groups)
    return Stage.of(part, allocation, BF16, own_windows=rows.own_windows)


def _max_requests(sizes: Sizes, settings: Settings) -> int | None:
    """Requests that the Mamba pool has states for."""
    return sizes.states // request_states(settings) if sizes.states else settings.max_running_requests


def _log_line(pool: Pool, model: Model, settings: Settings) -> str:
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
