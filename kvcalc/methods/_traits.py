"""Key facts of a method, before reading its paper."""

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
    """The description of a method: everything `kvcalc methods` prints, except the defaults.

    kind: architecture (another model), selection (tokens are dropped), merged (the model learned which tokens share a
    slot or are dropped) or quantised (fewer bits for each).
    title: one line. source: the paper. formula: how much is kept, with its unit.
    parameters: the meaning of each parameter of `apply`. remarks: a paragraph each: symbols of the formula, state,
    source of the defaults, memory in prefill, what is refused.
    flash_attention: works without attention weights.
    retraining: needs a model trained for it. per_head_paging: keeps different tokens per head, which a block table for
    the whole layer cannot free.
    step_copy: what the authors' code rewrites in each step, one layer at a time: nothing, what the layer keeps (KEPT:
    by torch.cat or a gather), or everything as without the method (WHOLE: dequantised).
    caveat: if that code stores more than the paper counts.
    parse: reads a shorter form of the arguments, such as that of gqa:16; None if there is none.
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
