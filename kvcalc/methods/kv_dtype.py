"""Separate formats for keys and values."""

from __future__ import annotations

from kvcalc.cache.dtypes import dtype_named
from kvcalc.errors import InvalidValueError
from kvcalc.methods._quantised import quantised
from kvcalc.methods._selection import kind_of
from kvcalc.methods._traits import QUANTISED, Traits
from kvcalc.model import Model

TRAITS = Traits(
    QUANTISED,
    "separate formats for K and V",
    source="llama.cpp, --cache-type-k and --cache-type-v",
    formula="Bytes per slot by its format: block_bytes per block_elements.",
    parameters={
        "k_dtype": "any format of --dtype, such as q8_0; default: the cache's",
        "v_dtype": "the same for V",
    },
    remarks=(
        "Windows and what other methods keep have that format, too, since each token is converted when written.",
        "Models that keep keys and values together, such as MLA, are refused.",
    ),
)


def apply(model: Model, k_dtype: str | None = None, v_dtype: str | None = None) -> Model:
    """`model` with K and V in separate formats.

    Raises NotApplicableError if no layer keeps separate keys and values, as in MLA.
    """
    formats = {name: dtype_named(text) for name, text in (("k", k_dtype), ("v", v_dtype)) if text is not None}
    if not formats:
        raise InvalidValueError(
            "kv-dtype needs a format for keys or values",
            field="k_dtype",
            help="write kv-dtype:k_dtype=q8_0,v_dtype=q4_0",
        )
    words = " and ".join(f"{name.upper()} in {dtype}" for name, dtype in formats.items())
    return quantised(model, words, lambda tensor: (tensor._replace(dtype=formats.get(kind_of(tensor))),))
