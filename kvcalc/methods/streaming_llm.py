"""StreamingLLM: the first tokens, which act as attention sinks, and a window of the newest."""

from __future__ import annotations

from fractions import Fraction

from kvcalc.cache.slots.methods import sinks_and_last
from kvcalc.cache.slots.rule import SlotRule
from kvcalc.methods._selection import ratio_cut, selected
from kvcalc.methods._traits import KEPT, SELECTION, Traits
from kvcalc.model import Model, PromptCut
from kvcalc.units import positive_int

TRAITS = Traits(
    SELECTION,
    "the first tokens and a window of the newest",
    source="Xiao et al. 2023, arXiv 2309.17453; mit-han-lab/streaming-llm",
    formula="Tokens kept per layer: min(t, start_size + recent_size), the same for all heads. No state.",
    parameters={
        "start_size": "attention sinks, the first tokens",
        "recent_size": "the newest tokens",
        "compression_ratio": (
            "share of the prompt to drop instead, as in kvpress, which does not roll: every token after the prompt "
            "stays"
        ),
        "prompt_tokens": "tokens of the prompt, for compression_ratio",
    },
    remarks=("Defaults are those of the authors' class; their chat example has 4 + 2000, their evaluation 1 + 255.",),
    caveat="a prompt longer than the window, passed at once, is first cached completely",
    step_copy=KEPT,
)


def apply(
    model: Model,
    start_size: int = 4,
    recent_size: int = 512,
    compression_ratio: float | Fraction | None = None,
    prompt_tokens: int | None = None,
) -> Model:
    """`model` with only its first and newest tokens."""
    kept = positive_int(start_size, "start_size") + positive_int(recent_size, "recent_size")
    rule: SlotRule = sinks_and_last(kept, start_size)
    if compression_ratio is not None:
        rule = ratio_cut(compression_ratio, prompt_tokens)
    cut = PromptCut(layer_by_layer=True, prompt_tokens=prompt_tokens)
    return selected(model, "StreamingLLM", rule, prompt_cut=cut)
