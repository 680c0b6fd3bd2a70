"""What all kinds share that cache something for each token: how far back a layer looks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields

from kvcalc.errors import InvalidValueError
from kvcalc.tensors import CacheTensor, CurrentChunk, EveryToken, LastTokens, SlotRule
from kvcalc.units import positive_int


@dataclass(frozen=True, kw_only=True)
class TokenCache(ABC):
    """Facts of a layer that caches tokens.

    num_query_heads: attention heads of the layer.
    sliding_window: tokens that a query sees, itself included; None: all.
    attention_chunk_size: tokens of a chunk that attention does not leave; None: no chunks.
    Raises InvalidValueError for a field that is not a whole number of at least 1, or where both limits are given.
    """

    num_query_heads: int
    sliding_window: int | None = None
    attention_chunk_size: int | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None:
                positive_int(value, field.name)
        if self.sliding_window is not None and self.attention_chunk_size is not None:
            raise InvalidValueError(
                f"sliding_window ({self.sliding_window}) and attention_chunk_size ({self.attention_chunk_size}) "
                "cannot both limit one layer",
                field="attention_chunk_size",
                help="keep the one that the model uses",
            )

    @property
    def reach(self) -> dict[str, int | None]:
        """The two limits as facts, for a layer of another kind that looks equally far back."""
        return {"sliding_window": self.sliding_window, "attention_chunk_size": self.attention_chunk_size}

    @property
    @abstractmethod
    def label(self) -> str:
        """Short name in the field's words, such as GQA-8."""

    @property
    @abstractmethod
    def head_widths(self) -> tuple[int, int]:
        """Widths of one head's key and value, for a plain multi-head layer in this one's place."""

    @abstractmethod
    def tensors(self) -> tuple[CacheTensor, ...]:
        """What one layer caches for one sequence."""

    @property
    def slot_rule(self) -> SlotRule:
        """Slots of every tensor of the layer."""
        if self.sliding_window is not None:
            return LastTokens(self.sliding_window)
        if self.attention_chunk_size is not None:
            return CurrentChunk(self.attention_chunk_size)
        return EveryToken()
