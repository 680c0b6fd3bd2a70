"""Base of all kinds: their facts are the fields of a frozen dataclass, checked on creation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from kvcalc.cache.dtypes import Dtype, dtype_named
from kvcalc.cache.tensor import CacheTensor, Rounding
from kvcalc.errors import InvalidValueError, UnknownNameError
from kvcalc.units import MAX_COUNT, positive_int, shown

MAX_RANKS = 2**14
"""Most plausible ranks; one copy of a model has been served by a few hundred."""
_LOOKED_AT = 1024
"""Degrees up to which a help line looks for one that works."""


@dataclass(frozen=True, kw_only=True)
class Facts(ABC):
    """Facts of a part of a layer. Raises InvalidValueError for a fact that is not a whole number of at least 1.

    MAY_BE_ZERO: fields that may be 0. FLAGS: fields that are true or false.
    SPLIT: fields that tensor parallelism splits evenly over its ranks. SPLIT_OR_COPIED: also split, but with more ranks
    than their number each rank holds one copy. All others are whole on every rank.
    ROUNDED: those of SPLIT_OR_COPIED that some engines round if ranks do not divide them.
    HAS_KV_CHANNELS: whether its split dimension also has channels of the layer's KV heads.
    """

    MAY_BE_ZERO: ClassVar[tuple[str, ...]] = ()
    FLAGS: ClassVar[tuple[str, ...]] = ()
    SPLIT: ClassVar[tuple[str, ...]] = ()
    SPLIT_OR_COPIED: ClassVar[tuple[str, ...]] = ()
    ROUNDED: ClassVar[tuple[str, ...]] = ()
    HAS_KV_CHANNELS: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for name, value in self.__dict__.items():
            if (type(value) is int and 0 < value <= MAX_COUNT) or value is None:
                continue
            if name.endswith("_dtype"):
                self._check_dtype(name, value)
            elif name in self.FLAGS:
                self._check_flag(name, value)
            elif value != 0 or isinstance(value, bool) or name not in self.MAY_BE_ZERO:
                positive_int(value, name)

    def dtype_of(self, field: str) -> Dtype | None:
        """Format in the field, or None if it is not given."""
        name = getattr(self, field)
        return None if name is None else dtype_named(name)

    def shard(self, tp: int, rounding: Rounding = "even") -> Self:
        """Facts of one of `tp` tensor-parallel ranks, uneven ones rounded as in an engine.

        Raises InvalidValueError if a fact can be neither split evenly nor copied nor rounded.
        """
        for name, value in self.shared_facts.items():
            if not self._divides(name, value, tp, rounding):
                relation = "neither a multiple nor a divisor" if name in self.SPLIT_OR_COPIED else "not a multiple"
                raise InvalidValueError(
                    f"{name} ({value:,}) is {relation} of tp ({tp:,})",
                    field=name,
                    help=degree_near("tp", tp, lambda ranks: self.can_shard(ranks, rounding)),
                )
        whole = self.shared_facts
        split = {name: max(1, -(-value // tp) if rounding == "ceil" else value // tp) for name, value in whole.items()}
        if all(self._divides(name, value, tp) for name, value in whole.items()):
            shard: Self = replace(self, **split)
            return shard
        # a rank's query heads may read only part of its KV heads, so it need not pass the checks of a whole layer
        rounded = object.__new__(type(self))
        rounded.__dict__.update(self.__dict__ | split)
        return rounded

    def can_shard(self, tp: int, rounding: Rounding = "even") -> bool:
        """Whether `tp` ranks can divide it, with uneven facts rounded if necessary."""
        return all(self._divides(name, value, tp, rounding) for name, value in self.shared_facts.items())

    def copies(self, tp: int) -> bool:
        """Whether it has fewer heads or groups than ranks, so that several ranks hold the same one."""
        return any(self.shared_facts[name] < tp for name in self.SPLIT_OR_COPIED)

    @property
    def shared_facts(self) -> dict[str, int]:
        """What tensor parallelism splits, or copies where it cannot be split further."""
        names = (*self.SPLIT, *self.SPLIT_OR_COPIED)
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    def _divides(self, name: str, value: int, tp: int, rounding: Rounding = "even") -> bool:
        evenly = value % tp == 0 or (name in self.SPLIT_OR_COPIED and tp % value == 0)
        return evenly or (rounding != "even" and name in self.ROUNDED)

    def _check_dtype(self, name: str, value: object) -> None:
        try:
            dtype_named(str(value))
        except UnknownNameError as error:
            raise InvalidValueError(f"{name}: {error.what}", field=name, help=error.help) from None

    def _check_flag(self, name: str, value: object) -> None:
        if not isinstance(value, bool):
            raise InvalidValueError(
                f"{name} must be true or false, not {shown(value)}", field=name, help=f"write {name}: true"
            )

    @property
    @abstractmethod
    def label(self) -> str:
        """Short usual name, such as GQA-8."""

    @abstractmethod
    def tensors(self) -> tuple[CacheTensor, ...]:
        """What one layer caches for one sequence."""


def degree_near(name: str, asked: int, works: Callable[[int], bool]) -> str:
    """Help for a degree of parallelism that does not work: the nearest working ones below and above, if any."""
    below = next((n for n in range(asked, 0, -1) if works(n)), None)
    above = next((n for n in range(asked + 1, _LOOKED_AT + 1) if works(n)), None)
    return f"{name} {' or '.join(str(n) for n in (below, above) if n)} would work"
