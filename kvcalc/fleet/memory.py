"""What weights, a reserve and an engine's own share leave of a GPU's memory for the cache."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, NamedTuple

from kvcalc.engines import Engine
from kvcalc.errors import InvalidValueError
from kvcalc.hardware import Gpu
from kvcalc.units import shown


class Memory(NamedTuple):
    """Memory of one GPU, in bytes. share: how much of it the engine takes, in words.

    cache_bytes: what is left; 0 or less where weights and reserve leave nothing.
    """

    gpu_bytes: int
    share: str
    weights_bytes: int
    reserve_bytes: int
    cache_bytes: int

    @property
    def taken_bytes(self) -> int:
        """What the engine takes of the GPU: weights, reserve and cache together."""
        return self.weights_bytes + self.reserve_bytes + self.cache_bytes


def memory_of(
    engine: Engine, gpu: Gpu, weights_bytes: int, reserve_bytes: int, utilization: Fraction = Fraction(1)
) -> Memory:
    """Memory of a GPU that holds weights_bytes of the weights.

    An engine with a planner takes its own share (such as gpu_memory_utilization), or exactly what a setting gives the
    cache; any other floor(memory * utilization). Raises InvalidValueError where an engine's own share is not known.
    """
    settings, module, used = engine.settings, engine.module, weights_bytes + reserve_bytes
    fixed = fixed_bytes(engine)
    if fixed is not None:
        return Memory(gpu.memory_bytes, f"{module.FIXED_MEMORY} for the cache", weights_bytes, reserve_bytes, fixed)
    if has_share(engine):
        left: int = module.left_for_cache(settings, gpu.memory_bytes, used)
        share = f"{module.MEMORY_SHARE} {getattr(settings, module.MEMORY_SHARE):g}"
        return Memory(gpu.memory_bytes, share, weights_bytes, reserve_bytes, left)
    taken = gpu.memory_bytes * utilization.numerator // utilization.denominator
    return Memory(gpu.memory_bytes, f"utilization {float(utilization):g}", weights_bytes, reserve_bytes, taken - used)


def has_share(engine: Engine) -> bool:
    """Whether the engine has a setting for its share of a GPU's memory."""
    return hasattr(engine.module, "left_for_cache")


def fixed_bytes(engine: Engine) -> int | None:
    """The cache's bytes where a setting gives them."""
    field = getattr(engine.module, "FIXED_MEMORY", "")
    fixed: int | None = getattr(engine.settings, field) if field else None
    return fixed


def share_of(value: Any, field: str = "gpu_memory_utilization") -> Fraction:
    """A share above 0 and up to 1, as the decimal that was written: 0.9 is 9/10, since a float is never multiplied.

    Raises InvalidValueError for anything else.
    """
    try:
        share = value if isinstance(value, Fraction) else Fraction(value if isinstance(value, str) else repr(value))
    except (ValueError, ZeroDivisionError):
        raise InvalidValueError(
            f"{field} must be a number, not {shown(value)}", field=field, help="write a share such as 0.9"
        ) from None
    if not 0 < share <= 1:
        raise InvalidValueError(
            f"{field} must be above 0 and at most 1, not {shown(float(share))}",
            field=field,
            help="write a share such as 0.9, not a percentage",
        )
    return share
