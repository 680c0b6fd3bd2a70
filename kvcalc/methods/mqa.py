"""Multi-query attention: one KV head for all query heads."""

from __future__ import annotations

from functools import partial

from kvcalc.methods._rebuild import no_argument, rebuilt
from kvcalc.methods._traits import ARCHITECTURE, Traits
from kvcalc.methods.gqa import with_kv_heads
from kvcalc.model import Model

TRAITS = Traits(
    ARCHITECTURE,
    "one KV head for all query heads",
    source="Shazeer 2019, arXiv 1911.02150",
    formula="Elements per token and layer: head_dim + v_head_dim.",
    retraining=True,
    parse=partial(no_argument, "mqa"),
)


def apply(model: Model) -> Model:
    """`model` with one KV head for all query heads of a layer."""
    return rebuilt(model, "MQA", lambda attention: with_kv_heads(attention, 1))
