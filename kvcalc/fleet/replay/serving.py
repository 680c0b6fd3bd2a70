"""What is served, by which engine and how, with what the cache has: all of a replay but its trace."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, NamedTuple

from kvcalc.cache.dtypes import Dtype
from kvcalc.model import Model
from kvcalc.parallel import Parallel


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
    def settings(self) -> dict[str, Any]:
        """Arguments of `replay`, the model aside."""
        return {name: value for name, value in self._asdict().items() if name != "model"}
