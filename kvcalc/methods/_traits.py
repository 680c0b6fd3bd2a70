"""What users ask of a method before they read its paper."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

ARCHITECTURE, SELECTION, MERGED, QUANTISED = "architecture", "selection", "merged", "quantised"
KEPT, WHOLE = "kept", "whole"


class Traits(NamedTuple):
    """What a method is, and what it asks for.

    kind: architecture (another model), selection (tokens are dropped), merged (the model learned which of its tokens
    share a slot, or lose theirs) or quantised (fewer bits for each).
    title: one line. source: the paper. flash_attention: works where no attention weights are at hand.
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
    flash_attention: bool = True
    retraining: bool = False
    per_head_paging: bool = False
    step_copy: str = ""
    caveat: str = ""
    parse: Callable[[str], dict[str, int]] | None = None
