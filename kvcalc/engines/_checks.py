"""Checks of settings and models that several engines make."""

from __future__ import annotations

from kvcalc.dtypes import Dtype
from kvcalc.errors import InvalidValueError, NotApplicableError
from kvcalc.model import Model
from kvcalc.units import shown


def flag(value: object, field: str) -> None:
    """Raises InvalidValueError where a setting is not true or false; 0 and 1 are taken for them."""
    if not isinstance(value, bool) and not (type(value) is int and value in (0, 1)):
        raise InvalidValueError(
            f"{field} must be true or false, not {shown(value)}", field=field, help=f"write {field}=1 or {field}=0"
        )


def share(value: object, field: str, example: float) -> None:
    """Raises InvalidValueError where a setting is no number above 0 and up to 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise InvalidValueError(
            f"{field} must be above 0 and at most 1, not {shown(value)}", field=field, help=f"write {field}={example}"
        )


def check_unchanged(model: Model, engine: str) -> None:
    """Raises NotApplicableError where a method chooses what is kept, which the engine has nothing for."""
    for group in model.groups:
        if not group.is_as_built:
            raise NotApplicableError(
                f"{engine} has no such method: {group.name} layers of {model.name} keep other tensors than their own",
                help="leave --method out, or take the ideal engine",
            )


def check_blocks(name: str, width: int, dtype: Dtype, engine: str) -> None:
    """Raises NotApplicableError where blocks of a format do not divide a row."""
    if width % dtype.block_elements:
        raise NotApplicableError(
            f"{engine} stores {dtype} in blocks of {dtype.block_elements}, which do not divide the {width} elements of "
            f"{name}",
            help="leave the cache in 16 bit or fp8",
        )
