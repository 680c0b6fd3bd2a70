"""The list of shipped models."""

from typing import Any, NamedTuple

from kvcalc.report.notebooks import frame_of, html_of, text_of
from kvcalc.report.sheet import Column, Json, Sheet
from kvcalc.report.versions import named
from kvcalc.units import short_count


class Entry(NamedTuple):
    """One model.

    kinds: of attention, by name. parameters: of the whole model; None if unknown.
    first_token_bytes: of a sequence's first token in bf16, with fixed-size states; growth: bytes added per number of
    tokens from then on. Both are None if they depend on an encoder's output.
    """

    name: str
    aliases: tuple[str, ...]
    attention: tuple[tuple[int, str, str], ...]
    kinds: tuple[str, ...]
    max_model_len: int | None
    parameters: int | None
    first_token_bytes: int | None
    growth: tuple[int, int] | None
    model_type: str
    source: str

    @property
    def layers(self) -> str:
        """`12 sliding GQA-8, 12 full GQA-8`."""
        return ", ".join(f"{number} {name} {label}" for number, name, label in self.attention)

    @property
    def bytes_per_token(self) -> int | None:
        """Bytes that a token adds in a short context, rounded up if several share a slot."""
        return None if self.growth is None else -(-self.growth[0] // self.growth[1])

    def to_dict(self) -> dict[str, Json]:
        """Plain values."""
        return {
            **named("model"),
            "name": self.name,
            "aliases": list(self.aliases),
            "layers": [
                {"num_layers": number, "group": name, "attention": label} for number, name, label in self.attention
            ],
            "kinds": list(self.kinds),
            "max_model_len": self.max_model_len,
            "parameters": self.parameters,
            "first_token_bytes": self.first_token_bytes,
            "bytes_per_token": self.bytes_per_token,
            "model_type": self.model_type,
            "source": self.source,
        }


class Gallery(NamedTuple):
    """All models, or a selection."""

    entries: tuple[Entry, ...]

    def to_dict(self) -> list[Json]:
        """Plain values."""
        return [entry.to_dict() for entry in self.entries]

    def __str__(self) -> str:
        return text_of(self)

    def _repr_html_(self) -> str:
        return html_of(self)

    def to_frame(self) -> Any:
        """A data frame of what `--format csv` prints, in pandas, polars or pyarrow, whichever is there."""
        return frame_of(self)

    def sheets(self) -> tuple[Sheet, ...]:
        """One row for each model."""
        parameters = (Column("parameters"),) if any(entry.parameters for entry in self.entries) else ()
        columns = (
            Column("preset"),
            Column("aliases", wide=True),
            Column("layers"),
            *parameters,
            Column("context", "count"),
            Column("bytes per token", "bytes", key="bytes_per_token"),
        )
        rows = tuple(
            (
                entry.name,
                ", ".join(entry.aliases),
                entry.layers,
                *((short_count(entry.parameters) if entry.parameters else "",) if parameters else ()),
                entry.max_model_len,
                entry.bytes_per_token,
            )
            for entry in self.entries
        )
        presets = f"{len(rows)} preset{'' if len(rows) == 1 else 's'}"
        return (Sheet(f"{presets}, bytes in bf16 before a window is full", columns, rows),)
