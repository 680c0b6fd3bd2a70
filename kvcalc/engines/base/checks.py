"""Refusals that several engines share."""

from __future__ import annotations

from kvcalc.cache.dtypes import Dtype
from kvcalc.errors import NotApplicableError
from kvcalc.model import Model


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
