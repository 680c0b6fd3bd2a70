"""KVQuant: 2 to 4 bits by a table of non-uniform steps, with outliers stored separately."""

from __future__ import annotations

from fractions import Fraction
from functools import partial

from kvcalc.cache.dtypes import FP16, FP32, Dtype
from kvcalc.cache.packing import int_codes
from kvcalc.cache.slots.layers import once
from kvcalc.cache.slots.methods import all_but_first, first_tokens, packed, within
from kvcalc.cache.slots.rule import SlotRule
from kvcalc.cache.tensor import CacheTensor, Dim
from kvcalc.errors import InvalidValueError
from kvcalc.methods._quantised import heads_and_width, one_of_bits, quantised
from kvcalc.methods._traits import QUANTISED, Traits
from kvcalc.model import Model
from kvcalc.units import positive_int, shown

TRAITS = Traits(
    QUANTISED,
    "2 to 4 bits, non-uniform, with outliers stored separately",
    source="Hooper et al. 2024, arXiv 2401.18079; SqueezeAILab/KVQuant",
    formula=(
        "Bytes per element: bits / 8 + 4 (1 - sparsity_threshold), for an fp16 value and a 16-bit index per outlier."
    ),
    parameters={
        "bits": "2, 3 or 4, per code",
        "sparsity_threshold": "share of the elements that are not outliers; 1 for no outliers",
        "first_few_fp16": "first tokens that stay in fp16",
        "deployed": "true for the layout of the authors' LLaMA-7B code",
        "maxseqlen": "tokens that the deployment code allocates at once",
    },
    remarks=(
        "This follows the paper; outliers are rounded up once for a layer's K and once for its V.",
        (
            "deployed: per token, for all W = h d channels together, 2 (floor(W (1 - sparsity_threshold) / 2) + 1) "
            "outliers of K and of V, each an fp32 value and an int32 index (42 and 336 bytes at W = 4096), and the "
            "fp32 table of 2^bits values of V. Tables of K, which all sequences share, are not counted."
        ),
    ),
    caveat="the authors' deployment code keeps outliers in 8 bytes, not 4, and max_len slots: deployed=true",
)
_BITS = (2, 3, 4)
_CHANNELS_IN_WORDS = 32
_INT32 = Dtype("int32", 1, 4, "index of a channel")


def apply(  # parameters of the authors' code, except `deployed`
    model: Model,
    bits: int = 2,
    sparsity_threshold: float | Fraction = 0.99,
    first_few_fp16: int = 0,
    deployed: bool = False,
    maxseqlen: int | None = None,
) -> Model:
    """`model` with K and V in non-uniform steps, and separate outliers.

    Raises InvalidValueError for other bits, a share outside 0 to 1, maxseqlen without deployed, or, if deployed, a head
    whose width is not a multiple of 32.
    """
    codes = int_codes(one_of_bits(bits, "bits", _BITS))
    share = Fraction(str(sparsity_threshold)) if isinstance(sparsity_threshold, float) else sparsity_threshold
    if not 0 < share <= 1:
        raise InvalidValueError(
            f"sparsity_threshold must be above 0 and at most 1, not {shown(sparsity_threshold)}",
            field="sparsity_threshold",
            help="write sparsity_threshold=0.99",
        )
    if first_few_fp16:
        positive_int(first_few_fp16, "first_few_fp16")
    if maxseqlen is not None and not deployed:
        raise InvalidValueError(
            "maxseqlen is an allocation of the deployment code, which the paper does not count",
            field="maxseqlen",
            help="add deployed=true",
        )
    outliers = Fraction(1 - share)
    if not deployed:
        parts = partial(_as_the_paper_counts, codes=codes, outliers=outliers, first=first_few_fp16)
        return quantised(model, "KVQuant", parts, every_token=True)
    room = None if maxseqlen is None else positive_int(maxseqlen, "maxseqlen")
    parts = partial(_as_deployed, bits=bits, outliers=outliers, first=first_few_fp16, room=room)
    return quantised(model, "KVQuant, deployed", parts, every_token=True)


def _as_the_paper_counts(tensor: CacheTensor, codes: Dtype, outliers: Fraction, first: int) -> tuple[CacheTensor, ...]:
    rule = _after_the_first(tensor, first)
    kept = [tensor._replace(name=f"{tensor.name}_codes", slot_rule=rule, dtype=codes)]
    if outliers:
        of_each = packed(tensor.elements_per_slot * outliers.numerator, outliers.denominator, rule)
        value_and_index = Dim("value_and_index", 2)
        kept.append(CacheTensor(f"{tensor.name}_outliers", (value_and_index,), of_each, FP16, quantizable=False))
    return (*kept, *_first_tokens(tensor, first))


def _as_deployed(
    tensor: CacheTensor, bits: int, outliers: Fraction, first: int, room: int | None
) -> tuple[CacheTensor, ...]:
    heads, width = heads_and_width(tensor)
    if width.size % _CHANNELS_IN_WORDS:
        raise InvalidValueError(
            f"KVQuant's code packs {_CHANNELS_IN_WORDS} channels of a head at once, but {width.name} is {width.size:,}",
            field="deployed",
            help="remove deployed to count as in the paper",
        )
    rule = _after_the_first(tensor, first) if room is None else once(room, words=f"room for {room:,}")
    words = CacheTensor(
        f"{tensor.name}_codes",
        (heads, Dim("words", width.size // _CHANNELS_IN_WORDS * bits)),
        rule,
        _INT32,
        quantizable=False,
    )
    kept = [words]
    for_all_heads = packed(1, 1, rule)
    if outliers:
        number = Dim("outliers", 2 * (int(tensor.elements_per_slot * outliers / 2) + 1))
        kept += [
            CacheTensor(f"{tensor.name}_outliers", (number,), for_all_heads, FP32, quantizable=False),
            CacheTensor(f"{tensor.name}_outlier_indices", (number,), for_all_heads, _INT32, quantizable=False),
        ]
    if tensor.name.startswith("v"):
        table = (Dim("table", 2**bits),)
        kept.append(CacheTensor(f"{tensor.name}_table", table, for_all_heads, FP32, quantizable=False))
    return (*kept, *_first_tokens(tensor, first))


def _after_the_first(tensor: CacheTensor, first: int) -> SlotRule:
    """The kept tokens after the first ones."""
    return within(all_but_first(first), tensor.slot_rule) if first else tensor.slot_rule


def _first_tokens(tensor: CacheTensor, first: int) -> tuple[CacheTensor, ...]:
    if not first:
        return ()
    rule = within(first_tokens(first), tensor.slot_rule)
    return (tensor._replace(name=f"{tensor.name}_first", slot_rule=rule, dtype=FP16, quantizable=False),)
