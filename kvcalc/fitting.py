"""What an engine's own planner makes of the memory that is left for the cache: its blocks, tokens and requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kvcalc.engines import ENGINES, Engine
from kvcalc.errors import InvalidValueError, NotApplicableError
from kvcalc.hardware import gpu_named
from kvcalc.model import Model
from kvcalc.parallel import Parallel
from kvcalc.units import both_units, shown

if TYPE_CHECKING:
    from kvcalc.report.fit import FitReport
    from kvcalc.report.pool import PoolReport

    Fitted = FitReport | PoolReport
    """Reports of engines that plan in blocks, and of those that plan in pools."""


def fit(  # noqa: PLR0913  # what is asked, and of whom
    model: Model,
    *,
    engine: str = "vllm",
    available_bytes: int | Sequence[int] | None = None,
    weights_bytes: int | None = None,
    other_bytes: int = 0,
    parallel: Parallel | None = None,
    engine_settings: Mapping[str, Any] | None = None,
) -> Fitted:
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
    report: Fitted = with_settings.module.fit(
        model,
        with_settings.settings,
        tp=ranks.tp,
        pp=ranks.pp,
        dcp=ranks.dcp,
        available_bytes=_of_stages(_memory(with_settings, available_bytes, weights_bytes, other_bytes), ranks.pp),
    )
    settings = tuple(with_settings.settings_by_name().items())
    return report._replace(engine_settings=settings, parallel=str(ranks) if parallel else "")


def _with_planner() -> list[str]:
    return [name for name in ENGINES.names() if hasattr(ENGINES.module(name), "fit")]


def _memory(
    engine: Engine, available_bytes: int | Sequence[int] | None, weights_bytes: int | None, other_bytes: int
) -> int | Sequence[int]:
    """What there is for the cache: as it is given, as a setting fixes it, or as weights and the rest leave it."""
    field = getattr(engine.module, "FIXED_MEMORY", "")
    fixed: int | None = getattr(engine.settings, field) if field else None
    if fixed is not None and available_bytes is not None:
        raise InvalidValueError(
            f"{field} and available_bytes both say what there is for the cache",
            field="available_bytes",
            help="give one of them",
        )
    given = fixed if available_bytes is None else available_bytes
    if given is not None:
        return given
    if weights_bytes is None:
        raise InvalidValueError(
            "nothing says what there is for the cache",
            field="available_bytes",
            help=f"give available_bytes{', ' if field else ' or '}weights_bytes"
            + (f", or the engine setting {field}" if field else ""),
        )
    return _left_by(engine, weights_bytes, other_bytes)


def _left_by(engine: Engine, weights_bytes: int, other_bytes: int) -> int:
    """What weights and the rest leave of the share of a GPU's memory that the engine takes."""
    gpu = gpu_named(engine.settings.gpu)
    used = weights_bytes + other_bytes
    left: int = engine.module.left_for_cache(engine.settings, gpu.memory_bytes, used)
    if left <= 0:
        raise NotApplicableError(
            f"weights ({both_units(weights_bytes)}) and the rest ({both_units(other_bytes)}) leave nothing of the "
            f"{both_units(left + used)} that {engine.name} takes of {gpu.name}",
            help=f"raise {engine.module.MEMORY_SHARE}, or use more GPUs",
        )
    return left


def _of_stages(available: int | Sequence[int], pp: int) -> tuple[int, ...]:
    """Bytes of a rank of each pipeline stage."""
    each = tuple(available) if isinstance(available, Sequence) else (available,) * pp
    if len(each) != pp or any(type(number) is not int or number < 0 for number in each):
        raise InvalidValueError(
            f"available_bytes must be a number of bytes, or one for each of {pp} pipeline stages, not "
            f"{shown(available)}",
            field="available_bytes",
            help="for instance available_bytes=40 * 2**30",
        )
    return each
