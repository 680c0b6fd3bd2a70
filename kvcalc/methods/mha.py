"""Multi-head attention: one KV head per query head."""

from __future__ import annotations

from functools import partial

from kvcalc.methods._rebuild import no_argument, rebuilt
from kvcalc.methods._traits import ARCHITECTURE, Traits
from kvcalc.methods.gqa import with_kv_heads
from kvcalc.model import Model

TRAITS = Traits(
    ARCHITECTURE,
    "one KV head per query head",
    source="Vaswani et al. 2017, arXiv 1706.03762",
    formula="Elements per token and layer: num_query_heads * (head_dim + v_head_dim).",
    retraining=True,
    parse=partial(no_argument, "mha"),
)


def apply(model: Model) -> Model:
    """`model` with one KV head per query head."""
    return rebuilt(model, "MHA", lambda attention: with_kv_heads(attention, attention.num_query_heads))
