"""A model as shown in a notebook: its groups of layers, what each caches, and the bytes of a token."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kvcalc.cache.dtypes import dtype_named
from kvcalc.report.notebooks import html_of
from kvcalc.report.sheet import Cell, Column, Json, Line, Sheet
from kvcalc.units import count, plural

if TYPE_CHECKING:
    from kvcalc.model import Model

_FORMAT = "bf16"


class Card(NamedTuple):
    """A summary of a model. rows: layers, attention, tensor, tokens kept, and bytes per slot."""

    name: str
    facts: tuple[tuple[str, str], ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Json]:
        """Plain values."""
        keys = ("layers", "attention", "tensor", "tokens_kept", "bytes_per_slot")
        tensors = [
            {key: str(c) if isinstance(c, str) else c for key, c in zip(keys, row, strict=True)} for row in self.rows
        ]
        return {"name": self.name, **dict(self.facts), "tensors": tensors, "notes": list(self.notes)}

    def sheets(self) -> tuple[Sheet, ...]:
        """One row for each tensor."""
        columns = (
            Column("layers", once=True),
            Column("attention", once=True),
            Column("tensor"),
            Column("tokens kept"),
            Column(f"bytes per slot, {_FORMAT}", "bytes"),
        )
        lines = tuple(Line(label, value) for label, value in self.facts)
        return (Sheet(self.name, columns, self.rows, lines, self.notes),)


def card(model: Model) -> Card:
    """The card of a model, without an engine."""
    dtype = dtype_named(_FORMAT)
    facts = {
        "layers": count(model.num_layers),
        "context": "" if model.max_model_len is None else plural(model.max_model_len, "token"),
        "model_type": model.model_type,
        "source": model.source,
        "methods": ", ".join(applied.name for applied in model.methods),
    }
    rows = tuple(
        (
            f"{len(group.layers)} {group.name}",
            group.label,
            f"{tensor.name} ({', '.join(f'{dim.name} {count(dim.size)}' for dim in tensor.dims)})",
            str(tensor.slot_rule),
            tensor.bytes_per_slot(dtype),
        )
        for group in model.groups
        for tensor in group.tensors
    )
    return Card(model.name, tuple((name, value) for name, value in facts.items() if value), rows, model.notes)


def html_card(model: Model) -> str:
    """The card as HTML for a notebook."""
    return html_of(card(model))
