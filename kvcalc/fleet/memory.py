"""Memory of a GPU left for the cache by weights, a reserve and an engine's own share."""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

from kvcalc.engines import Engine
from kvcalc.engines.base.plan import planner_of
from kvcalc.errors import InvalidValueError
from kvcalc.hardware.gpu import Gpu
from kvcalc.units import shown

_LONGEST = 40
"""Limits on the digits and the exponent of a share."""
_MOST_SHOWN = 10**9
"""Shares above this are shown as written."""


class Memory(NamedTuple):
    """Memory of one GPU, in bytes. share: the engine's share, in words.

    cache_bytes: what is left; 0 or less if weights and reserve leave nothing.
    """

    gpu_bytes: int
    share: str
    weights_bytes: int
    reserve_bytes: int
    cache_bytes: int

    @property
    def taken_bytes(self) -> int:
        """Memory of the GPU that the engine takes: weights, reserve and cache."""
        return self.weights_bytes + self.reserve_bytes + self.cache_bytes


def memory_of(
    engine: Engine, gpu: Gpu, weights_bytes: int, reserve_bytes: int, utilization: Fraction = Fraction(1)
) -> Memory:
    """Memory of a GPU with weights_bytes of the weights.

    An engine with a planner takes its own share (such as gpu_memory_utilization), or exactly what a setting gives the
    cache; others take floor(memory * utilization). Raises InvalidValueError if an engine's own share is unknown.
    """
    used = weights_bytes + reserve_bytes
    planner = planner_of(engine)
    if planner is not None:
        if planner.fixed_bytes is not None:
            return Memory(
                gpu.memory_bytes, f"{planner.FIXED} for the cache", weights_bytes, reserve_bytes, planner.fixed_bytes
            )
        left = planner.left_for_cache(gpu.memory_bytes, used)
        return Memory(gpu.memory_bytes, planner.share_words, weights_bytes, reserve_bytes, left)
    taken = gpu.memory_bytes * utilization.numerator // utilization.denominator
    return Memory(gpu.memory_bytes, f"utilization {float(utilization):g}", weights_bytes, reserve_bytes, taken - used)


def share_of(value: object, field: str = "gpu_memory_utilization") -> Fraction:
    """A share above 0 and up to 1, as the decimal written: 0.9 is 9/10, since floats are never multiplied.

    Raises InvalidValueError for anything else.
    """
    try:
        share = Fraction(value) if isinstance(value, Fraction | int) else _decimal(str(value))
    except (ValueError, ZeroDivisionError):
        raise InvalidValueError(
            f"{field} must be a number, not {shown(value)}", field=field, help="write a share such as 0.9"
        ) from None
    if not 0 < share <= 1:
        raise InvalidValueError(
            f"{field} must be above 0 and at most 1, not {shown(float(share) if share < _MOST_SHOWN else value)}",
            field=field,
            help="write a share such as 0.9, not a percentage",
        )
    return share


def _decimal(text: str) -> Fraction:
    """An exact decimal of ordinary length. Raises ValueError for others, whose exponent might be unbounded."""
    mantissa, _, exponent = text.strip().lower().partition("e")
    if len(text) > _LONGEST or (exponent and abs(int(exponent)) > _LONGEST) or not mantissa:
        raise ValueError(text)
    return Fraction(text)
