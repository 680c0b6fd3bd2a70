"""Blocks, tokens and requests that an engine's own planner fits into the memory left for the cache."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from kvcalc.answers.changed import asked_before
from kvcalc.cache.dtypes import BF16, Dtype, dtype_named
from kvcalc.engines import ENGINES, Engine
from kvcalc.engines.base.plan import Planner
from kvcalc.errors import InvalidValueError, NotApplicableError
from kvcalc.hardware import gpu_named
from kvcalc.model import Model
from kvcalc.parallel import Parallel
from kvcalc.report.fit import FitReport
from kvcalc.units import both_units, plural, shown

if TYPE_CHECKING:
    from kvcalc.engines.base.plan import Fitted


def fit(  # noqa: PLR0913  # question and engine
    model: Model,
    *,
    engine: str | Engine = "vllm",
    available_bytes: int | Sequence[int] | None = None,
    weights_bytes: int | None = None,
    other_bytes: int = 0,
    kv_dtype: str | Dtype = BF16,
    parallel: Parallel | None = None,
    engine_settings: Mapping[str, object] | None = None,
) -> Fitted:
    """How many blocks, tokens and requests fit, as the engine itself would report.

    available_bytes: left for the cache on each rank, or on a rank of each pipeline stage. weights_bytes, other_bytes:
    if that is not given: weights of one rank, and everything else (activations, CUDA graphs); the cache gets the rest
    of the engine's share of the GPU's memory.
    kv_dtype: dtype of the model or the cache, if the engine only needs its size. Raises NotApplicableError with the
    engine's own message for what it refuses; InvalidValueError, UnknownNameError.
    """
    planner, ranks = _engine(model, engine, engine_settings), parallel or Parallel()
    if not isinstance(planner, Planner):
        raise _without_planner(planner)
    settled = planner if weights_bytes is None else planner.settled(model, ranks)
    available = _of_stages(_memory(settled, available_bytes, weights_bytes, other_bytes), ranks.pp)
    dtype = kv_dtype if isinstance(kv_dtype, Dtype) else dtype_named(kv_dtype)

    def ask(engine: Engine) -> Fitted:
        if not isinstance(engine, Planner):
            raise _without_planner(engine)
        return engine.plan(model, dtype, ranks).fit(available)

    report, since, before = asked_before(planner, ask, said)
    settings = tuple(planner.settings_by_name().items())
    notes = (*report.notes, *planner.version_notes, *planner.caveats(model), *in_words(since, before))
    return report._replace(engine_settings=settings, parallel=str(ranks) if parallel else "", notes=notes)


def said(report: Fitted) -> tuple[object, ...]:
    """The engine's plan for a given memory."""
    return (report.tokens, report.max_concurrency) if isinstance(report, FitReport) else (report.tokens,)


def in_words(since: str, before: Fitted | None) -> tuple[str, ...]:
    """A note on the plan before a change of the rules; none if it is equal."""
    if before is None:
        return ()
    requests = f"{before.max_concurrency:.2f}x, " if isinstance(before, FitReport) else ""
    return (f"before {since}: {requests}{plural(before.tokens, 'token')}",)


def _engine(model: object, engine: str | Engine, engine_settings: Mapping[str, object] | None) -> Engine:
    if not isinstance(model, Model):
        raise InvalidValueError(f"fit takes a Model, not {shown(model)}", help="load it first: kvcalc.load('r1')")
    return engine if isinstance(engine, Engine) else Engine.of(engine, engine_settings)


def _without_planner(engine: Engine) -> NotApplicableError:
    return NotApplicableError(
        f"the engine {engine.name} has no planner", help=f"use one of {', '.join(_with_planner())}"
    )


def _with_planner() -> list[str]:
    return [name for name in ENGINES.names() if isinstance(Engine.of(name), Planner)]


def _memory(
    planner: Planner, available_bytes: int | Sequence[int] | None, weights_bytes: int | None, other_bytes: int
) -> int | Sequence[int]:
    """Memory for the cache: as given, fixed by a setting, or what weights and the rest leave."""
    if planner.fixed_bytes is not None and available_bytes is not None:
        raise InvalidValueError(
            f"{planner.FIXED} and available_bytes both give the memory of the cache",
            field="available_bytes",
            help="pass only one of them",
        )
    given = planner.fixed_bytes if available_bytes is None else available_bytes
    if given is not None:
        return given
    if weights_bytes is None:
        raise InvalidValueError(
            "memory for the cache unknown",
            field="available_bytes",
            help=f"pass available_bytes{', ' if planner.FIXED else ' or '}weights_bytes"
            + (f", or the engine setting {planner.FIXED}" if planner.FIXED else ""),
        )
    return _left_by(planner, weights_bytes, other_bytes)


def _left_by(planner: Planner, weights_bytes: int, other_bytes: int) -> int:
    """The engine's share of a GPU's memory, minus weights and the rest."""
    gpu = gpu_named(planner.gpu)
    used = weights_bytes + other_bytes
    left = planner.left_for_cache(gpu.memory_bytes, used)
    if left <= 0:
        raise NotApplicableError(
            f"weights ({both_units(weights_bytes)}) and the rest ({both_units(other_bytes)}) leave nothing of the "
            f"{both_units(left + used)} that {planner.name} uses of {gpu.name}",
            help=f"raise {planner.SHARE}, or use more GPUs",
        )
    return left


def _of_stages(available: int | Sequence[int], pp: int) -> tuple[int, ...]:
    """Bytes of a rank of each pipeline stage."""
    each = tuple(available) if isinstance(available, Sequence) else (available,) * pp
    if len(each) != pp or any(type(number) is not int or number < 0 for number in each):
        raise InvalidValueError(
            f"available_bytes must be a number of bytes, or one per pipeline stage ({pp}), not {shown(available)}",
            field="available_bytes",
            help="for example available_bytes=40 * 2**30",
        )
    return each
