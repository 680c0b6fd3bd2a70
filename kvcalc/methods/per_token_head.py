"""One scale for each token and head: fp8, int8 or int4 keys and values as in vLLM's per-token-head caches."""

from __future__ import annotations

from functools import partial

from kvcalc.cache.dtypes import FP8, Dtype, dtype_named
from kvcalc.cache.packing import int_codes
from kvcalc.cache.tensor import CacheTensor
from kvcalc.errors import InvalidValueError, UnknownNameError
from kvcalc.methods._quantised import heads_and_width, quantised
from kvcalc.methods._traits import QUANTISED, Traits
from kvcalc.model import Model
from kvcalc.units import shown

TRAITS = Traits(
    QUANTISED,
    "fp8, int8 or int4, with a scale per token and head",
    source="vLLM, --kv-cache-dtype fp8_per_token_head, int8_per_token_head, int4_per_token_head",
    formula=(
        "Bytes per token and head: d * bits / 8 + s for K and the same for V; 2 d + 8 in eight bits, d + 8 in four."
    ),
    parameters={
        "kv_cache_dtype": "fp8, int8 or int4, or vLLM's own name ending in _per_token_head",
        "scale_dtype": "format of the scales that K and V have for every token and head",
    },
    remarks=(
        (
            "d is the head's width and s the bytes of a scale. Windows and what other methods keep are quantised, "
            "too, since each token is quantised when written."
        ),
    ),
)
_SUFFIX = "_per_token_head"
_FORMATS = {"fp8": FP8, "int8": int_codes(8), "int4": int_codes(4)}


def apply(model: Model, kv_cache_dtype: str = "fp8", scale_dtype: str = "fp32") -> Model:
    """`model` with K and V in eight or four bits, and a scale per token and head.

    Raises InvalidValueError for another format, and for int4 if a head's width is odd.
    """
    name = str(kv_cache_dtype).lower().removesuffix(_SUFFIX)
    if name not in _FORMATS:
        raise UnknownNameError.among("per-token-head format", str(kv_cache_dtype), _FORMATS)
    scales = dtype_named(scale_dtype)
    if not scales.is_computed_in:
        raise InvalidValueError(
            f"scale_dtype must be fp32, bf16 or fp16, not {shown(scale_dtype)}",
            field="scale_dtype",
            help="write scale_dtype=fp32",
        )
    parts = partial(_parts, codes=_FORMATS[name], scales=scales)
    return quantised(model, f"{name} per token and head", parts)


def _parts(tensor: CacheTensor, codes: Dtype, scales: Dtype) -> tuple[CacheTensor, ...]:
    heads, width = heads_and_width(tensor)
    if width.size % codes.block_elements:
        raise InvalidValueError(
            f"{width.name} ({width.size:,}) is odd, but two codes of int4 share a byte",
            field="kv_cache_dtype",
            help="write kv_cache_dtype=int8",
        )
    return (
        tensor._replace(name=f"{tensor.name}_codes", dtype=codes),
        CacheTensor(f"{tensor.name}_scales", (heads,), tensor.slot_rule, scales, quantizable=False),
    )
