"""What all kinds share: their facts are the fields of a frozen dataclass, checked as it is made."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from kvcalc.dtypes import Dtype, dtype_named
from kvcalc.errors import InvalidValueError, UnknownNameError
from kvcalc.tensors import CacheTensor
from kvcalc.units import MAX_COUNT, positive_int, shown


class Facts(ABC):
    """Facts of a part of a layer. Raises InvalidValueError for one that is not a whole number of at least 1.

    MAY_BE_ZERO: fields of which the model may have none. FLAGS: fields that are true or false.
    """

    MAY_BE_ZERO: ClassVar[tuple[str, ...]] = ()
    FLAGS: ClassVar[tuple[str, ...]] = ()

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
        """Format that the field names, or None where it is not given."""
        name = getattr(self, field)
        return None if name is None else dtype_named(name)

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
        """Short name in the field's words, such as GQA-8."""

    @abstractmethod
    def tensors(self) -> tuple[CacheTensor, ...]:
        """What one layer caches for one sequence."""
