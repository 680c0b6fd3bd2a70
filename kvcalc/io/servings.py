"""Engines and their pools, from Python: the questions of `kvcalc.traffic` and `replays`."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from os import PathLike, fspath
from typing import NamedTuple

from kvcalc.cache.dtypes import BF16, Dtype
from kvcalc.errors import InvalidValueError, located
from kvcalc.fleet.replay import engine_replayed
from kvcalc.fleet.replay.serving import FLOOR, Serving, at_floor, pooled
from kvcalc.fleet.weights import Weights
from kvcalc.hardware.gpu import Gpu
from kvcalc.io.arguments import Settings, bytes_of
from kvcalc.io.on_devices import devices_of, questions_on
from kvcalc.model import Model
from kvcalc.parallel import Parallel
from kvcalc.units import parse_tokens, shown


class PoolTerms(NamedTuple):
    """The engine, and what determines the size of its pool: blocks, bytes for the cache on a rank, or a GPU."""

    engine: str
    engine_settings: Settings
    scheduler: Settings
    dtype: str | Dtype | None
    layout: Parallel | None

    blocks: int | str | None
    available_bytes: int | str | None
    gpu: str | Gpu | None
    memory: int | str | None
    weights: int | str | PathLike[str] | Weights | None
    reserve: int | str | None
    utilization: float | Fraction | str | None


def servings_of(
    models: Sequence[Model], terms: PoolTerms, step_seconds: float | Fraction | str | None = None
) -> list[Serving]:
    """Each model as served. Raises InvalidValueError, naming the argument; and UnknownNameError."""
    version = located("engine", engine_replayed, terms.engine, terms.engine_settings)
    named = f"{version.name}@{version.version}" if version.version else version.name
    settings, stored = dict(terms.engine_settings or {}), terms.dtype or BF16
    scheduler = dict(terms.scheduler or {})
    if terms.blocks is not None:
        scheduler["num_gpu_blocks"] = located("blocks", parse_tokens, terms.blocks, "blocks")
    left = None if terms.available_bytes is None else bytes_of("available_bytes", terms.available_bytes)
    reserved = None if terms.reserve is None else bytes_of("reserve", terms.reserve)
    weights = fspath(terms.weights) if isinstance(terms.weights, PathLike) else terms.weights
    given = terms.gpu is not None or terms.memory is not None
    on = devices_of(terms.gpu, terms.memory, 1, stored, named, settings, terms.utilization) if given else []
    floor = step_seconds == FLOOR
    step = None if step_seconds is None or floor else _step(step_seconds)
    served = []
    for model in models:
        question = questions_on(on, model, weights, None, reserved)[0] if on else None
        asked = Serving(model, named, settings, scheduler, stored, terms.layout, left, step)
        asked = located("gpu" if question else "", pooled, asked, question)
        served.append(located("step_seconds", at_floor, asked, question) if floor else asked)
    return served


def _step(value: float | Fraction | str) -> Fraction:
    try:
        seconds = Fraction(str(value))
    except (ValueError, ZeroDivisionError):
        seconds = Fraction(0)
    if seconds <= 0:
        raise InvalidValueError(
            f"expected seconds above 0, not {shown(value)}",
            field="step_seconds",
            help=f"for example step_seconds=0.025, or {FLOOR!r} with gpu",
        )
    return seconds
