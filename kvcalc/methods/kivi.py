"""KIVI: keys quantised channel by channel, values token by token, and the newest tokens as they are."""

from __future__ import annotations

from kvcalc.dtypes import FP16, Dtype
from kvcalc.errors import InvalidValueError
from kvcalc.methods._quantised import quantised
from kvcalc.methods._traits import KEPT, QUANTISED, Traits
from kvcalc.model import Model, PromptCut
from kvcalc.slots.layers import AllButLast, EveryNth, Pending, Settled
from kvcalc.slots.methods import Newest, within
from kvcalc.slots.rule import SlotRule
from kvcalc.tensors import CacheTensor, Dim
from kvcalc.units import positive_int

TRAITS = Traits(
    QUANTISED,
    "2 or 4 bits, with a residual of the newest tokens",
    "Liu et al. 2024, arXiv 2402.02750; jy-yuan/KIVI",
    step_copy=KEPT,
)
_BITS_OF_BYTE = 8
_BYTES_OF_WORD = 4
_BITS = (2, 4)
_SCALE_AND_MINIMUM = 2


def apply(
    model: Model,
    bits: int = 2,
    group_size: int = 32,
    residual_length: int = 128,
    k_bits: int | None = None,
    v_bits: int | None = None,
) -> Model:
    """Bytes of K per head: floor(t / R) * R * (d * bits / 8 + 4 * d / g), and 2 d for each of the t mod R newest.

    Of V: max(0, t - R) * (d * bits / 8 + 4 * d / g), and 2 d for each of the min(t, R) newest. With g = group_size and
    R = residual_length; a group has one fp16 scale and one fp16 minimum, over g tokens of a channel for K and g
    channels of a token for V. In prefill the layer at hand holds the whole prompt unquantised.

    bits: of K and V, or k_bits and v_bits apart; 2 or 4. group_size, residual_length: as in the authors' example.
    Raises InvalidValueError for other bits, a residual that is no multiple of the group, a head that is none, or where
    codes do not fill int32 words.
    """
    positive_int(group_size, "group_size")
    positive_int(residual_length, "residual_length")
    if residual_length % group_size:
        raise InvalidValueError(
            f"residual_length ({residual_length:,}) is not a multiple of group_size ({group_size:,})",
            field="residual_length",
            help=f"write residual_length={group_size * 4}",
        )
    formats = {
        name: _codes(bits if own is None else own, field)
        for name, own, field in (("k", k_bits, "k_bits"), ("v", v_bits, "v_bits"))
    }

    def parts(tensor: CacheTensor) -> tuple[CacheTensor, ...]:
        return _parts(tensor, formats[tensor.name[0]], group_size, residual_length)

    cut = model.prompt_cut or PromptCut(layer_by_layer=True)
    return quantised(model, "KIVI", parts, every_token=True, prompt_cut=cut)


def _codes(bits: int, field: str) -> Dtype:
    if bits not in _BITS:
        raise InvalidValueError(f"{field} must be 2 or 4, not {bits}", field=field, help="write bits=2")
    return Dtype(f"int{bits}", _BITS_OF_BYTE // bits, 1, "packed into int32")


def _parts(tensor: CacheTensor, codes: Dtype, group_size: int, residual_length: int) -> tuple[CacheTensor, ...]:
    """Codes, scales with minimums, and what is not quantised yet, of one tensor."""
    heads, width = tensor.dims
    if width.size % group_size:
        raise InvalidValueError(
            f"{width.name} ({width.size:,}) is not a multiple of group_size ({group_size:,})",
            field="group_size",
            help="write group_size=32",
        )
    in_word = codes.block_elements * _BYTES_OF_WORD
    for name, number in (("residual_length", residual_length), (width.name, width.size)):
        if number % in_word:
            raise InvalidValueError(
                f"{name} ({number:,}) is not a multiple of {in_word}, the codes of an int32 word",
                field=name,
                help=f"KIVI packs whole words: use {-(-number // in_word) * in_word}, or more bits",
            )
    kept = tensor.slot_rule
    settled: SlotRule
    waiting: SlotRule
    grouped: SlotRule
    dims: tuple[Dim, ...]
    pair = Dim("scale_and_minimum", _SCALE_AND_MINIMUM)
    if tensor.name.startswith("k"):  # by channel: residual_length tokens make so many groups of every channel at once
        settled, waiting = Settled(residual_length), Pending(residual_length)
        groups = Dim("groups_of_tokens", residual_length // group_size)
        dims, grouped = (heads, width, groups, pair), EveryNth(residual_length)
    else:
        settled, waiting = AllButLast(residual_length), Newest(residual_length)
        dims, grouped = (heads, Dim("groups_of_channels", width.size // group_size), pair), settled
    name = tensor.name
    return (
        tensor._replace(name=f"{name}_codes", slot_rule=within(settled, kept), dtype=codes, quantizable=False),
        CacheTensor(f"{name}_scales", dims, within(grouped, kept), FP16),
        tensor._replace(name=f"{name}_residual", slot_rule=within(waiting, kept), quantizable=False),
    )
