"""Methods whose code keeps every token and only masks those it would drop."""

from __future__ import annotations

from dataclasses import replace

from kvcalc.cache.slots.layers import EVERY_TOKEN
from kvcalc.cache.slots.rule import SlotRule
from kvcalc.cache.tensor import CacheTensor, Dim
from kvcalc.methods._indices import INT64
from kvcalc.methods._selection import SharesOf, State, selected
from kvcalc.model import Model

_INDICES = 3
"""Indices of a masked entry: its sequence, head and token."""


def masked(
    model: Model,
    name: str,
    shares_of: SharesOf | SlotRule = EVERY_TOKEN,  # rules are values
    *,
    state: State = lambda _attention, _shares: (),
) -> Model:
    """`model` unchanged, plus the tensors with which `name` masks. Raises as `selected` does."""
    changed = selected(model, f"{name}, masked", shares_of, state=state)
    note = f"{name} in this form only masks tokens and keeps all of them: it saves no memory"
    return replace(changed, notes=(*changed.notes, note))


def masked_indices(num_kv_heads: int, rule: SlotRule, suffix: str = "") -> CacheTensor:
    """Index triples of the masked entries. rule: their mean number per head."""
    dims = (Dim("num_kv_heads", num_kv_heads), Dim("indices", _INDICES))
    return CacheTensor(f"masked_indices{suffix}", dims, rule, INT64, quantizable=False)
