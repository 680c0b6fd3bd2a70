"""KIVI: keys quantised per channel, values per token, and the newest tokens unquantised."""

from __future__ import annotations

from kvcalc.cache.dtypes import FP16, Dtype
from kvcalc.cache.packing import SCALE_AND_OFFSET, int_codes, scales_of, with_residual
from kvcalc.cache.slots.layers import all_but_last, every_nth, pending, settled
from kvcalc.cache.slots.methods import newest, within
from kvcalc.cache.tensor import CacheTensor, Dim
from kvcalc.errors import InvalidValueError
from kvcalc.methods._quantised import heads_and_width, one_of_bits, quantised, whole_groups
from kvcalc.methods._selection import kind_of
from kvcalc.methods._traits import KEPT, QUANTISED, Traits
from kvcalc.model import Model, PromptCut
from kvcalc.units import positive_int

TRAITS = Traits(
    QUANTISED,
    "2 or 4 bits, with a residual of the newest tokens",
    source="Liu et al. 2024, arXiv 2402.02750; jy-yuan/KIVI",
    formula=(
        "Bytes of K per head: floor(t / R) * R * (d * bits / 8 + 4 * d / g), and 2 d for each of the t mod R newest."
    ),
    parameters={
        "bits": "2 or 4, of K and V",
        "group_size": "g, tokens of a channel (K) or channels of a token (V) with a common scale and minimum",
        "residual_length": "R, newest unquantised tokens; a multiple of group_size",
        "k_bits": "bits of K, if different",
        "v_bits": "bits of V, if different",
    },
    remarks=(
        (
            "Of V: max(0, t - R) * (d * bits / 8 + 4 * d / g), and 2 d for each of the min(t, R) newest. With g = "
            "group_size and R = residual_length; a group has one fp16 scale and one fp16 minimum, over g tokens of a "
            "channel for K and g channels of a token for V."
        ),
        "Defaults are those of the authors' example.",
        "In prefill the current layer holds the full prompt unquantised.",
    ),
    step_copy=KEPT,
)
_BYTES_OF_WORD = 4
_BITS = (2, 4)


def apply(
    model: Model,
    bits: int = 2,
    group_size: int = 32,
    residual_length: int = 128,
    k_bits: int | None = None,
    v_bits: int | None = None,
) -> Model:
    """`model` with K quantised per channel and V per token, except for a residual.

    Raises InvalidValueError for other bits, a residual or head that is not a multiple of the group, or codes that do
    not fill int32 words.
    """
    positive_int(group_size, "group_size")
    positive_int(residual_length, "residual_length")
    if residual_length % group_size:
        raise InvalidValueError(
            f"residual_length ({residual_length:,}) is not a multiple of group_size ({group_size:,})",
            field="residual_length",
            help=f"write residual_length={group_size * 4}",
        )
    fields = {"k": ("bits", bits) if k_bits is None else ("k_bits", k_bits)}
    fields["v"] = ("bits", bits) if v_bits is None else ("v_bits", v_bits)
    formats = {kind: int_codes(one_of_bits(asked, field, _BITS)) for kind, (field, asked) in fields.items()}

    def parts(tensor: CacheTensor) -> tuple[CacheTensor, ...]:
        return _parts(tensor, formats[kind_of(tensor)], group_size, residual_length)

    cut = model.prompt_cut or PromptCut(layer_by_layer=True)
    return quantised(model, "KIVI", parts, every_token=True, prompt_cut=cut)


def _parts(tensor: CacheTensor, codes: Dtype, group_size: int, residual_length: int) -> tuple[CacheTensor, ...]:
    """Codes, scales with minimums, and the residual of one tensor."""
    heads, width = heads_and_width(tensor)
    whole_groups("KIVI", tensor, group_size)
    in_word = codes.block_elements * _BYTES_OF_WORD
    for name, number in (("residual_length", residual_length), (width.name, width.size)):
        if number % in_word:
            raise InvalidValueError(
                f"{name} ({number:,}) is not a multiple of {in_word}, the codes of an int32 word",
                field=name,
                help=f"KIVI packs whole words: use {-(-number // in_word) * in_word}, or more bits",
            )
    kept = tensor.slot_rule
    if kind_of(tensor) == "k":  # by channel: residual_length tokens form these groups of every channel at once
        done, waiting = within(settled(residual_length), kept), within(pending(residual_length), kept)
        groups = Dim("groups_of_tokens", residual_length // group_size)
        by_channel = (heads, width, groups, SCALE_AND_OFFSET)
        scales = CacheTensor(f"{tensor.name}_scales", by_channel, within(every_nth(residual_length), kept), FP16)
    else:
        done, waiting = within(all_but_last(residual_length), kept), within(newest(residual_length), kept)
        scales = scales_of(tensor, group_size, done, FP16)
    packed = tensor._replace(name=f"{tensor.name}_codes", slot_rule=done, dtype=codes, quantizable=False)
    return with_residual((packed, scales), tensor, waiting)
