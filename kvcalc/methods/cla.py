"""Cross-layer attention: neighbouring layers share the keys and values of the first of them."""

from __future__ import annotations

from dataclasses import replace

from kvcalc.attention._token_cache import TokenCache
from kvcalc.attention.none import NoCache
from kvcalc.errors import NotApplicableError
from kvcalc.methods._traits import ARCHITECTURE, Traits
from kvcalc.model import LayerGroup, Model
from kvcalc.units import positive_int

TRAITS = Traits(
    ARCHITECTURE,
    "neighbouring layers share keys and values",
    "Brandon et al. 2024, arXiv 2405.12981",
    retraining=True,
    caveat="a pipeline stage that begins inside of a sharing group needs a copy",
)


def apply(model: Model, sharing_factor: int = 2) -> Model:
    """Layers that cache: ceil(num_layers / sharing_factor), the first of each sharing_factor neighbours.

    sharing_factor: CLA2 is 2, as the paper recommends, CLA3 is 3.
    Raises NotApplicableError where layers differ, since neighbours then have nothing to share.
    """
    positive_int(sharing_factor, "sharing_factor")
    (group, *others) = model.groups
    if others or not any(isinstance(part, TokenCache) for part in group.parts):
        kinds = ", ".join(dict.fromkeys(group.label for group in model.groups))
        raise NotApplicableError(
            f"CLA shares one kind of cache among all layers, and {model.name} has {kinds}",
            help="use it on a model whose layers are alike",
        )
    first = tuple(layer for layer in group.layers if layer % sharing_factor == 0)
    rest = tuple(layer for layer in group.layers if layer % sharing_factor)
    groups = [replace(group, layers=first)]
    if rest:
        groups.append(LayerGroup.of("shared", rest, NoCache()))
    return replace(model, name=f"{model.name} with CLA{sharing_factor}", groups=tuple(groups))
