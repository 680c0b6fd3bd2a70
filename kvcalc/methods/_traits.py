"""What users ask of a method before they read its paper."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

ARCHITECTURE, SELECTION, MERGED, QUANTISED = "architecture", "selection", "merged", "quantised"
KEPT, WHOLE = "kept", "whole"
PROMPT_END = "tokens of the prompt; without it, every cached token is prompt"
QUERY_HEADS = "false stores each query head, as the authors' code does"
LAYER_BY_LAYER = "In prefill the current layer holds the full prompt; earlier layers only what they kept."


class Traits(NamedTuple):
    """What a method is, and what it asks for: all that `kvcalc methods` prints of it, but for the defaults.

    kind: architecture (another model), selection (tokens are dropped), merged (the model learned which of its tokens
    share a slot, or lose theirs) or quantised (fewer bits for each).
    title: one line. source: the paper. formula: how much stays, a line with its unit.
    parameters: the meaning of each parameter of `apply`. remarks: what else a user should know, a paragraph each:
    symbols of the formula, state, where the defaults come from, what prefill takes, what is refused.
    flash_attention: works without attention weights.
    retraining: needs a model trained for it. per_head_paging: keeps other tokens, or more of them, in one head than in
    another, which a block table for the whole layer cannot free.
    step_copy: what the authors' code writes anew in each step, of one layer at a time: nothing, what the layer keeps
    (KEPT: by torch.cat or a gather), or all that it would without the method (WHOLE: dequantised).
    caveat: where that code stores more than the paper counts.
    parse: reads a shorter form of the arguments, such as that of gqa:16; None where there is none.
    """

    kind: str
    title: str
    source: str
    formula: str
    parameters: Mapping[str, str] = MappingProxyType({})
    remarks: tuple[str, ...] = ()
    flash_attention: bool = True
    retraining: bool = False
    per_head_paging: bool = False
    step_copy: str = ""
    caveat: str = ""
    parse: Callable[[str], Mapping[str, int]] | None = None
