"""TurboQuant: vectors are rotated and each coordinate rounded to a table, with the norm stored separately."""

from __future__ import annotations

from functools import partial

from kvcalc.cache.dtypes import FP32, Dtype
from kvcalc.cache.packing import int_codes
from kvcalc.cache.slots.layers import all_but_last, once
from kvcalc.cache.slots.methods import within
from kvcalc.cache.tensor import CacheTensor
from kvcalc.methods._quantised import heads_and_width, one_of_bits, quantised
from kvcalc.methods._traits import QUANTISED, Traits
from kvcalc.model import Model
from kvcalc.units import positive_int

TRAITS = Traits(
    QUANTISED,
    "1 to 4 bits per coordinate of rotated vectors, and their norms",
    source="Zandieh et al. 2025, arXiv 2504.19874; PyPI turboquant 0.2.0, which is not the authors'",
    formula="Bytes per token and head: d * bits / 8 + 4, for codes and an fp32 norm, of K and of V.",
    parameters={
        "bits": "1 to 4, per coordinate",
        "residual_len": "newest tokens not quantised by the package",
        "package": "true for the layout of the PyPI package, which takes more than no method",
    },
    remarks=(
        "These are the bytes of the paper's algorithm; its d by d rotation is shared by all, and not counted.",
        (
            "package: all t tokens dequantised in the model's dtype and, once there are more than residual_len, the "
            "newest residual_len a second time, and a byte per code of the others with an fp32 norm. Its residual is "
            "a view, which keeps the memory of the whole prompt until the next token."
        ),
    ),
    caveat="the package turboquant 0.2.0 keeps a full copy in the model's dtype in addition to the codes: package=true",
)
_BITS = (1, 2, 3, 4)


def apply(model: Model, bits: int = 3, residual_len: int = 128, package: bool = False) -> Model:
    """`model` with the codes and norms of TurboQuant's rotated vectors.

    Raises InvalidValueError for other bits.
    """
    codes = int_codes(one_of_bits(bits, "bits", _BITS))
    positive_int(residual_len, "residual_len")
    if not package:
        return quantised(model, "TurboQuant", partial(_packed, codes=codes), every_token=True)
    parts = partial(_in_the_package, residual_len=residual_len)
    return quantised(model, "TurboQuant, the package", parts, every_token=True)


def _packed(tensor: CacheTensor, codes: Dtype) -> tuple[CacheTensor, ...]:
    heads, _ = heads_and_width(tensor)
    return (
        tensor._replace(name=f"{tensor.name}_codes", dtype=codes),
        CacheTensor(f"{tensor.name}_norms", (heads,), tensor.slot_rule, FP32, quantizable=False),
    )


def _in_the_package(tensor: CacheTensor, residual_len: int) -> tuple[CacheTensor, ...]:
    heads, _ = heads_and_width(tensor)
    name, older = tensor.name, within(all_but_last(residual_len), tensor.slot_rule)
    newest = once(residual_len, from_token=residual_len + 1, words=f"newest {residual_len:,} again")
    return (
        tensor._replace(quantizable=False),
        tensor._replace(name=f"{name}_codes", slot_rule=older, dtype=int_codes(8)),
        CacheTensor(f"{name}_norms", (heads,), older, FP32, quantizable=False),
        tensor._replace(name=f"{name}_residual", slot_rule=within(newest, tensor.slot_rule), quantizable=False),
    )
