"""The quantised cache of transformers with the quanto backend: 2 or 4 bits in groups."""

from __future__ import annotations

from kvcalc.cache.packing import int_codes
from kvcalc.cache.tensor import CacheTensor
from kvcalc.errors import InvalidValueError
from kvcalc.methods._quantised import one_of_bits
from kvcalc.methods._traits import PROMPT_END, QUANTISED, WHOLE, Traits
from kvcalc.methods._transformers_cache import GroupedCache
from kvcalc.model import Model

TRAITS = Traits(
    QUANTISED,
    "2 or 4 bits in groups: QuantizedCache of transformers, quanto",
    source="transformers 5.2, QuantizedCache(backend='quanto'); optimum-quanto 0.2.7",
    formula="Bytes of t quantised tokens, n = h d / g groups each: ceil(n t nbits / 8) g for the codes, and 2 e n t.",
    parameters={
        "nbits": "2 or 4",
        "axis_key": (
            "0 groups neighbouring elements, -1 the tokens of each channel, which quanto does only if heads times "
            "tokens is a multiple of the group"
        ),
        "axis_value": "the same for V",
        "q_group_size": "elements per group",
        "residual_length": "tokens quantised together",
        "prompt_tokens": PROMPT_END,
    },
    remarks=(
        (
            "h heads of width d, e bytes of an element of the model's dtype, g = q_group_size; on axis -1 codes take n "
            "t times ceil(g nbits / 8)."
        ),
        (
            "The whole prompt is quantised; of later tokens the last (t - prompt_tokens) mod residual_length stay "
            "unquantised. In prefill the current layer holds the unquantised prompt."
        ),
        (
            "Codes of the 8 / nbits groups that share a row are packed for all sequences together: rounded up here "
            "for each sequence, which is exact for one sequence, and for several if a prompt fills its rows."
        ),
        (
            "Groups run over heads and tokens, so g may be wider than a head. Models with windows or states are "
            "refused, as in transformers."
        ),
    ),
    caveat="scale and shift use the model's dtype, and each step dequantises a whole layer",
    step_copy=WHOLE,
)
_BITS = (2, 4)
_BY_ELEMENTS, _BY_TOKENS = 0, -1


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
    """`model` with K and V in the groups of quanto's cache.

    Raises InvalidValueError for other bits or axes, and for groups that do not divide; NotApplicableError for a model
    with windows or states, which transformers refuses.
    """
    codes = int_codes(one_of_bits(nbits, "nbits", _BITS))
    axes = {"k": axis_key, "v": axis_value}
    choices = (_BY_ELEMENTS, _BY_TOKENS)
    cache = _Quanto("quanto", codes, q_group_size, residual_length, prompt_tokens, axes, choices, _BY_ELEMENTS)
    return cache.applied_to(model)


class _Quanto(GroupedCache):
    def check(self, tensor: CacheTensor, *, rows: bool) -> None:
        """On axis -1 groups run over heads and tokens of a channel, and must end with them."""
        if rows:
            return
        if self.prompt_tokens is None:
            raise InvalidValueError(
                "axis -1 of quanto groups the tokens of a channel, and the prompt length is unknown",
                field="prompt_tokens",
                help="add prompt_tokens=8192",
            )
        heads = tensor.elements_per_slot // tensor.dims[-1].size
        self.check_lengths(heads, self.q_group_size, "tokens times heads of a channel")
