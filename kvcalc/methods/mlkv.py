"""MLKV: keys and values shared by the heads of a layer and by neighbouring layers."""

from __future__ import annotations

from dataclasses import replace

from kvcalc.attention.none import NoCache
from kvcalc.errors import InvalidValueError
from kvcalc.methods._rebuild import check_untouched, only_attention, origins_of, rebuilt_drafts
from kvcalc.methods._traits import ARCHITECTURE, Traits
from kvcalc.methods.gqa import with_kv_heads
from kvcalc.model import Model, group_layers
from kvcalc.units import plural, positive_int

TRAITS = Traits(
    ARCHITECTURE,
    "heads and neighbouring layers share keys and values",
    source="Zuhri et al. 2024, arXiv 2406.09297; zaydzuhri/pythia-mlkv",
    formula="Elements per token: num_key_value_layers * num_key_value_heads * (head_dim + v_head_dim).",
    parameters={
        "num_key_value_layers": (
            "layers with keys and values, spread evenly from the first; others read those of the nearest earlier one"
        ),
        "num_key_value_heads": "KV heads per layer",
    },
    remarks=(
        (
            "The authors' default does not share; the default here is the smallest cache in their abstract, one head "
            "in every sixth layer."
        ),
        "Models whose layers differ are refused: neighbours then cannot share.",
    ),
    retraining=True,
    caveat="a pipeline stage that begins inside a sharing group needs a copy",
)
_LAYERS_OF_ABSTRACT = 6
"""Sharing layers in the paper's smallest cache, a sixth of MQA's: MLKV-2 of 12 layers."""


def apply(model: Model, num_key_value_layers: int | None = None, num_key_value_heads: int = 1) -> Model:
    """`model` with keys and values only in some layers, read by the others.

    Raises InvalidValueError for more of these layers than the model has, or heads that do not divide its query heads;
    NotApplicableError if layers differ, since neighbours then cannot share.
    """
    check_untouched(model, "MLKV")
    attention = only_attention(model, "MLKV", "shares one kind of cache among layers")
    layers = model.num_layers
    number = -(-layers // _LAYERS_OF_ABSTRACT) if num_key_value_layers is None else num_key_value_layers
    if positive_int(number, "num_key_value_layers") > layers:
        raise InvalidValueError(
            f"num_key_value_layers ({number:,}) is more than the {layers:,} layers of {model.name}",
            field="num_key_value_layers",
            help=f"use a number from 1 to {layers:,}",
        )
    positive_int(num_key_value_heads, "num_key_value_heads")
    keeps = with_kv_heads(attention, num_key_value_heads)
    caching = {index * layers // number for index in range(number)}
    names = ("all" if layer in caching else "shared" for layer in range(layers))
    label = f"MLKV-{number * num_key_value_heads}"  # by the total of KV heads, as in the paper
    origins = {"all": origins_of((keeps,), model.groups[0], label)}
    groups = group_layers(names, {"all": keeps, "shared": NoCache(reads_cache=True)}, origins)
    note = f"as {label}: {plural(num_key_value_heads, 'KV head')} in {number} of {plural(layers, 'layer')}"
    drafts = rebuilt_drafts(model, label, keeps)
    return replace(
        model, name=f"{model.name} as {label}", groups=groups, draft_groups=drafts, notes=(*model.notes, note)
    )
