"""L2 norm: keeps the prompt's keys with the smallest norm, which receive the most attention."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import ceil

from kvcalc.cache.slots.engines import whole_until_next
from kvcalc.cache.slots.layers import EVERY_TOKEN
from kvcalc.cache.slots.methods import share_of_prompt
from kvcalc.errors import InvalidValueError
from kvcalc.methods._selection import Share, cut_to, ratio_cut, ratio_of, selected
from kvcalc.methods._traits import KEPT, SELECTION, Traits
from kvcalc.model import Model, PromptCut
from kvcalc.units import positive_int

TRAITS = Traits(
    SELECTION,
    "the prompt's keys with the smallest norm",
    source="Devoto et al. 2024, arXiv 2406.11430; alessiodevoto/l2compress",
    formula="Tokens kept per head: ceil(keep_ratio * n) of a prompt of n tokens; all tokens of prompts shorter than "
    "prune_after.",
    parameters={
        "keep_ratio": "above 0, at most 1",
        "prune_after": "shortest prompt that is cut",
        "skip_layers": "layers that keep all tokens, written 0+1",
        "compression_ratio": "share to drop of a prompt of any length instead, as in kvpress",
        "prompt_tokens": (
            "tokens of the prompt; with it the product is rounded like the authors' floats; without it, every cached "
            "token is prompt and the ratio is exact"
        ),
    },
    remarks=(
        "Defaults are those of the authors' function; their README has 0.9, 1048 and layers 0 and 1.",
        (
            "In prefill all layers hold the full prompt; in kvpress the current layer does, and earlier layers only "
            "what they kept."
        ),
    ),
    per_head_paging=True,
    caveat="the authors' code keeps a view of the whole storage until the next token",
    step_copy=KEPT,
)


def apply(  # parameters of the authors' code or of kvpress
    model: Model,
    keep_ratio: float | Fraction = 1.0,
    prune_after: int = 2048,
    skip_layers: Sequence[int] = (),
    compression_ratio: float | Fraction | None = None,
    prompt_tokens: int | None = None,
) -> Model:
    """`model` with the keys of the smallest norm in each head's prompt.

    Raises InvalidValueError for an invalid ratio, or a layer that the model does not have.
    """
    ratio = ratio_of(keep_ratio, "keep_ratio")
    positive_int(prune_after, "prune_after")
    for layer in skip_layers:
        if layer not in range(model.num_layers):
            raise InvalidValueError(
                f"skip_layers names layer {layer}, but {model.name} has layers 0 to {model.num_layers - 1}",
                field="skip_layers",
                help="write skip_layers=0+1",
            )
    cut = (
        Share(ratio_cut(compression_ratio, prompt_tokens))
        if compression_ratio is not None
        else _share(ratio, prune_after, prompt_tokens)
    )
    return selected(
        model,
        "L2 norm",
        lambda layer, _: (Share(EVERY_TOKEN) if layer in skip_layers else cut,),
        prompt_cut=PromptCut(layer_by_layer=compression_ratio is not None, prompt_tokens=prompt_tokens),
    )


def _share(ratio: Fraction, prune_after: int, prompt_tokens: int | None) -> Share:
    """What the authors' code keeps: slices of the sorted cache, whose memory stays until the next token moves them."""
    if prompt_tokens is None:
        rule = share_of_prompt(ratio.numerator, ratio.denominator, prune_after)
    elif positive_int(prompt_tokens, "prompt_tokens") < prune_after:
        return Share(EVERY_TOKEN)
    else:
        rule = cut_to(ceil(float(ratio) * prompt_tokens), prompt_tokens)
    return Share(rule, storage=whole_until_next(rule, prompt_tokens))
