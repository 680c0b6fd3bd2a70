"""The quantised cache of transformers with the HQQ backend: 1 to 8 bits in groups."""

from __future__ import annotations

from dataclasses import replace

from kvcalc.cache.dtypes import Dtype
from kvcalc.cache.packing import int_codes
from kvcalc.cache.tensor import CacheTensor
from kvcalc.errors import InvalidValueError
from kvcalc.methods._quantised import one_of_bits
from kvcalc.methods._traits import PROMPT_END, QUANTISED, WHOLE, Traits
from kvcalc.methods._transformers_cache import GroupedCache
from kvcalc.model import Model

TRAITS = Traits(
    QUANTISED,
    "1 to 8 bits in groups: QuantizedCache of transformers, HQQ",
    source="transformers 5.2, QuantizedCache(backend='hqq'); hqq 0.2.8",
    formula="Bytes of t quantised tokens, n = h d / g groups each: n t g nbits / 8 for the codes, and 2 e n t.",
    parameters={
        "nbits": "1, 2, 3, 4 or 8",
        "axis_key": "1 groups neighbouring elements, 0 elements strided by the number of groups",
        "axis_value": "the same for V",
        "q_group_size": "elements per group",
        "residual_length": "tokens quantised together",
        "prompt_tokens": PROMPT_END,
    },
    remarks=(
        (
            "h heads of width d, e bytes of an element of the model's dtype, g = q_group_size. 3-bit codes are packed "
            "in tens into int32: ceil(n t / 10) rows of 4 g bytes on axis 1, ceil(g / 10) words of 4 bytes per group "
            "on axis 0."
        ),
        (
            "The whole prompt is quantised; of later tokens the last (t - prompt_tokens) mod residual_length stay "
            "unquantised. In prefill the current layer holds the unquantised prompt."
        ),
        (
            "On axis 0 a group, on axis 1 the groups of one sequence's prompt must fill whole words, except for 3 "
            "bits. Models with windows or states are refused, as in transformers."
        ),
    ),
    caveat="scale and zero use the model's dtype, 3 bits take 3.2, and each step dequantises a whole layer",
    step_copy=WHOLE,
)
_BITS = (1, 2, 3, 4, 8)
_THREE = 3
_THREE_BITS = Dtype("int3", 10, 4, "ten in an int32")
_STRIDED, _NEIGHBOURS = 0, 1


def apply(  # parameters of transformers
    model: Model,
    *,
    nbits: int = 4,
    axis_key: int = 0,
    axis_value: int = 0,
    q_group_size: int = 64,
    residual_length: int = 128,
    prompt_tokens: int | None = None,
) -> Model:
    """`model` with K and V in the groups of HQQ's cache.

    Raises InvalidValueError for other bits or axes, for groups that do not divide, and if hqq cannot pack: on axis 0 a
    group, on axis 1 the groups of one sequence's prompt must fill whole words, except for 3 bits. NotApplicableError
    for a model with windows or states, which transformers refuses.
    """
    bits = one_of_bits(nbits, "nbits", _BITS)
    codes = _THREE_BITS if bits == _THREE else int_codes(bits)
    axes = {"k": axis_key, "v": axis_value}
    cache = _Hqq("hqq", codes, q_group_size, residual_length, prompt_tokens, axes, (_STRIDED, _NEIGHBOURS), _NEIGHBOURS)
    changed = cache.applied_to(model)
    if bits != _THREE or _NEIGHBOURS not in axes.values():
        return changed
    note = "hqq 0.2.8 packs 3 bits on axis 1 but fails to unpack them: the first decoded token raises an error"
    return replace(changed, notes=(*changed.notes, note))


class _Hqq(GroupedCache):
    def check(self, tensor: CacheTensor, *, rows: bool) -> None:
        """Words hold codes of as many rows as fit; except for 3 bits none is padded."""
        in_word = self.codes.block_elements
        if self.codes == _THREE_BITS:
            return
        if rows:
            self.check_lengths(tensor.elements_per_slot // self.q_group_size, in_word, "groups")
        elif self.q_group_size % in_word:
            raise InvalidValueError(
                f"hqq packs {in_word} codes of a group into a byte, but q_group_size ({self.q_group_size:,}) is not a "
                "multiple of that",
                field="q_group_size",
                help=f"write q_group_size={-(-self.q_group_size // in_word) * in_word}",
            )
