"""Cross-layer attention: neighbouring layers share the keys and values of the first of them."""

from __future__ import annotations

from dataclasses import replace

from kvcalc.attention.none import NoCache
from kvcalc.methods._rebuild import only_attention
from kvcalc.methods._traits import ARCHITECTURE, Traits
from kvcalc.model import LayerGroup, Model
from kvcalc.units import positive_int

TRAITS = Traits(
    ARCHITECTURE,
    "neighbouring layers share keys and values",
    source="Brandon et al. 2024, arXiv 2405.12981",
    formula="Layers that cache: ceil(num_layers / sharing_factor), the first of each sharing_factor neighbours.",
    parameters={
        "sharing_factor": "layers that share: CLA2 is 2, as the paper recommends, CLA3 is 3",
    },
    remarks=(
        "Layers changed by an earlier method keep its result.",
        "Models whose layers differ are refused: neighbours then cannot share.",
    ),
    retraining=True,
    caveat="a pipeline stage that begins inside a sharing group needs a copy",
)


def apply(model: Model, sharing_factor: int = 2) -> Model:
    """`model` with keys and values only in the first of each sharing_factor neighbouring layers.

    Raises NotApplicableError if layers differ, since neighbours then cannot share, or have parts other than attention,
    which the paper does not cover.
    """
    positive_int(sharing_factor, "sharing_factor")
    only_attention(model, "CLA", "shares one kind of cache among all layers")
    (group,) = model.groups
    first = tuple(layer for layer in group.layers if layer % sharing_factor == 0)
    rest = tuple(layer for layer in group.layers if layer % sharing_factor)
    groups = [replace(group, layers=first)]
    if rest:
        groups.append(LayerGroup.of("shared", rest, NoCache(reads_cache=True)))
    return replace(model, name=f"{model.name} with CLA{sharing_factor}", groups=tuple(groups))
