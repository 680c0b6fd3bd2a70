"""What an engine's own planner makes of the memory that is left for the cache: its blocks, tokens and requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from typing import TYPE_CHECKING, Any

from kvcalc.engines import ENGINES, Engine
from kvcalc.errors import InvalidValueError, NotApplicableError
from kvcalc.hardware import gpu_named
from kvcalc.model import Model
from kvcalc.parallel import Parallel
from kvcalc.units import both_units, shown

if TYPE_CHECKING:
    from kvcalc.report.fit import FitReport


def fit(  # noqa: PLR0913  # what is asked, and of whom
    model: Model,
    *,
    engine: str = "vllm",
    available_bytes: int | Sequence[int] | None = None,
    weights_bytes: int | None = None,
    other_bytes: int = 0,
    parallel: Parallel | None = None,
    engine_settings: Mapping[str, Any] | None = None,
) -> FitReport:
    """How many blocks, tokens and requests fit, as the engine itself would report it.

    available_bytes: left for the cache on each rank, or on a rank of each pipeline stage.
    weights_bytes, other_bytes: where that is not given: what one rank's weights take, and everything else (activations,
    CUDA graphs); the cache has the rest of the share of the GPU's memory that the engine takes.
    Raises NotApplicableError for what the engine refuses, in its words; InvalidValueError, UnknownNameError.
    """
    if not isinstance(model, Model):
        raise InvalidValueError(f"fit takes a Model, not {shown(model)}", help="load it first: kvcalc.load('r1')")
    with_settings = Engine.of(engine, engine_settings)
    if not hasattr(with_settings.module, "fit"):
        raise NotApplicableError(
            f"the engine {engine} has no planner of its own", help=f"use one of {', '.join(_with_planner())}"
        )
    ranks = parallel or Parallel()
    available = available_bytes
    if available is None or with_settings.settings.kv_cache_memory_bytes is not None:
        if available_bytes is not None:
            raise InvalidValueError(
                "kv_cache_memory_bytes and available_bytes both say what there is for the cache",
                field="available_bytes",
                help="give one of them",
            )
        available = _available_bytes(with_settings.settings, weights_bytes, other_bytes)
    report: FitReport = with_settings.module.fit(
        model,
        with_settings.settings,
        tp=ranks.tp,
        pp=ranks.pp,
        dcp=ranks.dcp,
        available_bytes=_of_stages(available, ranks.pp),
    )
    settings = tuple(with_settings.settings_by_name().items())
    return report._replace(engine_settings=settings, parallel=str(ranks) if parallel else "")


def _with_planner() -> list[str]:
    return [name for name in ENGINES.names() if hasattr(ENGINES.module(name), "fit")]


def _available_bytes(settings: Any, weights_bytes: int | None, other_bytes: int) -> int:
    """kv_cache_memory_bytes; or ceil(memory * gpu_memory_utilization) - weights - the rest, of one GPU.

    The product is the engine's own, of a whole number and a float (vLLM 0.33.0, gpu_worker.py, request_memory).
    """
    if settings.kv_cache_memory_bytes is not None:
        return int(settings.kv_cache_memory_bytes)
    if weights_bytes is None:
        raise InvalidValueError(
            "nothing says what there is for the cache",
            field="available_bytes",
            help="give available_bytes, weights_bytes, or the engine setting kv_cache_memory_bytes",
        )
    gpu = gpu_named(settings.gpu)
    requested: int = ceil(gpu.memory_bytes * settings.gpu_memory_utilization)
    available: int = requested - weights_bytes - other_bytes
    if available <= 0:
        raise NotApplicableError(
            f"weights ({both_units(weights_bytes)}) and the rest ({both_units(other_bytes)}) leave nothing of the "
            f"{both_units(requested)} that vLLM takes of {gpu.name}",
            help="raise gpu_memory_utilization, or use more GPUs",
        )
    return available


def _of_stages(available: int | Sequence[int], pp: int) -> tuple[int, ...]:
    """Bytes of a rank of each pipeline stage."""
    each = (available,) * pp if isinstance(available, int) else tuple(available)
    if len(each) != pp or any(type(number) is not int or number < 0 for number in each):
        raise InvalidValueError(
            f"available_bytes must be a number of bytes, or one for each of {pp} pipeline stages, not "
            f"{shown(available)}",
            field="available_bytes",
            help="for instance available_bytes=40 * 2**30",
        )
    return each
