"""Refusals shared by several engines."""

from __future__ import annotations

from kvcalc.cache.dtypes import Dtype
from kvcalc.errors import NotApplicableError
from kvcalc.model import Model


def check_unchanged(model: Model, engine: str) -> None:
    """Raises NotApplicableError for a method that selects what to keep, which the engine does not support."""
    for group in model.groups:
        if not group.is_as_built:
            raise NotApplicableError(
                f"{engine} does not support the method: with it, {group.name} layers of {model.name} keep other "
                "tensors than their own",
                help="remove --method, or use --engine ideal",
            )


def check_blocks(name: str, width: int, dtype: Dtype, engine: str) -> None:
    """Raises NotApplicableError if blocks of a format do not divide a row."""
    if width % dtype.block_elements:
        raise NotApplicableError(
            f"{engine} stores {dtype} in blocks of {dtype.block_elements}, which do not divide the {width} elements of "
            f"{name}",
            help="use a 16-bit or fp8 cache",
        )
