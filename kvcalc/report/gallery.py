"""The list of shipped models."""

from typing import NamedTuple

from kvcalc.report.sheet import Column, Json, Sheet


class Entry(NamedTuple):
    """One model.

    first_token_bytes: what the first token of a sequence takes, in bf16; None where that
    depends on what an encoder makes.
    """

    name: str
    aliases: tuple[str, ...]
    attention: tuple[tuple[int, str, str], ...]
    max_model_len: int | None
    first_token_bytes: int | None
    source: str

    @property
    def layers(self) -> str:
        """`12 sliding GQA-8, 12 full GQA-8`."""
        return ", ".join(f"{number} {name} {label}" for number, name, label in self.attention)


class Gallery(NamedTuple):
    """All of them."""

    entries: tuple[Entry, ...]

    def to_dict(self) -> list[Json]:
        """Plain values."""
        return [
            {
                "name": entry.name,
                "aliases": list(entry.aliases),
                "layers": [
                    {"num_layers": number, "group": name, "attention": label} for number, name, label in entry.attention
                ],
                "max_model_len": entry.max_model_len,
                "first_token_bytes": entry.first_token_bytes,
                "source": entry.source,
            }
            for entry in self.entries
        ]

    def sheets(self) -> tuple[Sheet, ...]:
        """One row for each model."""
        columns = (
            Column("preset"),
            Column("aliases", wide=True),
            Column("layers"),
            Column("max_model_len", "count", wide=True),
            Column("first token, bytes", "bytes"),
        )
        rows = tuple(
            (e.name, ", ".join(e.aliases), e.layers, e.max_model_len, e.first_token_bytes) for e in self.entries
        )
        return (Sheet(f"{len(rows)} presets, sizes in bf16", columns, rows),)
