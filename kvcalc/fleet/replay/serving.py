"""What is served, by which engine, from a pool of which size: all of a replay but its trace."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, NamedTuple

from kvcalc.cache.dtypes import Dtype
from kvcalc.errors import InvalidValueError
from kvcalc.fleet.decode import step_floor
from kvcalc.fleet.on_gpus import OnGpus
from kvcalc.model import Model
from kvcalc.parallel import Parallel
from kvcalc.units import milliseconds

FLOOR = "floor"
"""A step as fast as the bandwidth of the GPU allows."""
_BLOCKS = ("num_gpu_blocks", "num_gpu_blocks_override")
"""Settings of a scheduler, or of its engine, that state the size of the pool."""


class Serving(NamedTuple):
    """A model in an engine, of its version.

    available_bytes: for the cache on a rank; None: a setting says blocks. step_seconds: how long a step takes; None:
    steps are the clock. notes: what the answer has to say of these.
    """

    model: Model
    engine: str
    engine_settings: Mapping[str, object]
    scheduler: Mapping[str, object]
    kv_dtype: str | Dtype
    parallel: Parallel | None = None
    available_bytes: int | None = None
    step_seconds: Fraction | None = None
    notes: tuple[str, ...] = ()

    @property
    def every_setting(self) -> tuple[Mapping[str, object], ...]:
        """Settings of the scheduler and of its engine."""
        return self.scheduler, self.engine_settings

    @property
    def settings(self) -> dict[str, Any]:
        """Arguments of `replay`, the model aside."""
        return {name: value for name, value in self._asdict().items() if name != "model"}


def pooled(asked: Serving, on: OnGpus | None = None) -> Serving:
    """The same with a pool of known size: what the weights leave of a GPU, `available_bytes`, or a setting's blocks.

    on: the model on that GPU; its engine is used.
    Raises InvalidValueError if the size is unknown, or nothing is left for the pool.
    """
    if on is not None:
        settings = {name: value for name, value in on.asked.engine.settings_by_name().items() if value is not None}
        return asked._replace(engine_settings=settings, available_bytes=_left(on, asked.parallel or Parallel()))
    if asked.available_bytes is None and not any(name in each for name in _BLOCKS for each in asked.every_setting):
        raise InvalidValueError(
            "pool size unknown", help="pass --blocks, or --gpu to size the pool from the memory that the weights leave"
        )
    return asked


def _left(on: OnGpus, ranks: Parallel) -> int:
    """Memory of a GPU left for the cache after weights and the rest."""
    left = on.memory(ranks).cache_bytes
    if left <= 0:
        raise InvalidValueError(
            f"weights and reserve leave no memory of {on.gpu.name} for the cache",
            help="raise --tp, or correct --weights",
        )
    return left


def at_floor(asked: Serving, on: OnGpus | None) -> Serving:
    """The same with steps as fast as the bandwidth of the GPU allows.

    Raises InvalidValueError without a GPU, or if its bandwidth is unknown, and what `decode_step` raises.
    """
    if on is None:
        raise InvalidValueError("no GPU whose bandwidth sets a floor", help="pass --gpu, or milliseconds: --step-ms 25")
    seconds = step_floor(on, asked.parallel or Parallel())
    note = (
        f"steps take {milliseconds(seconds)}, a floor: what one token reads of the weights at the bandwidth of "
        f"{on.gpu.name}; prefill, more sequences and their cache take longer"
    )
    return asked._replace(step_seconds=seconds, notes=(*asked.notes, note))
