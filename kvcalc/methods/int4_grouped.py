"""4-bit keys and values in groups of channels, each with a scale and a zero point."""

from __future__ import annotations

from functools import partial

from kvcalc.cache.dtypes import FP16
from kvcalc.cache.packing import grouped, int_codes
from kvcalc.cache.tensor import CacheTensor
from kvcalc.errors import InvalidValueError
from kvcalc.methods._quantised import quantised, whole_groups
from kvcalc.methods._traits import QUANTISED, Traits
from kvcalc.model import Model
from kvcalc.units import positive_int

TRAITS = Traits(
    QUANTISED,
    "4 bits in groups of channels, each with a scale and a zero",
    source="Sheng et al. 2023 (FlexGen), arXiv 2303.06865; FMInference/FlexLLMGen, compression.py",
    formula=("Bytes per element: 0.5 + 4 / group_size, for two codes per byte and one fp16 scale and zero per group."),
    parameters={
        "group_size": "neighbouring channels of a head with a common scale and zero",
    },
    remarks=(
        "Each token of each head is quantised when written, including windows and what other methods keep.",
        "FlexGen pads a head to whole groups; here a head that group_size does not divide is refused.",
    ),
)
_BITS = 4
_CODES_IN_BYTE = 2


def apply(model: Model, group_size: int = 64) -> Model:
    """`model` with its cache in groups of four bits.

    Raises InvalidValueError for a group that does not divide the head's width, or is odd.
    """
    if positive_int(group_size, "group_size") % _CODES_IN_BYTE:
        raise InvalidValueError(
            f"group_size ({group_size:,}) is odd, but two codes share a byte",
            field="group_size",
            help=f"write group_size={group_size + 1}",
        )
    return quantised(model, f"int4 in groups of {group_size:,}", partial(_parts, group_size=group_size))


def _parts(tensor: CacheTensor, group_size: int) -> tuple[CacheTensor, ...]:
    whole_groups("int4-grouped", tensor, group_size)
    return grouped(tensor, int_codes(_BITS), group_size, tensor.slot_rule, scale_dtype=FP16)
