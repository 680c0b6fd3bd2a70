"""Another model on the same GPU, and its memory."""

from __future__ import annotations

from typing import NamedTuple

from kvcalc.report.sheet import Json
from kvcalc.units import plural


class Other(NamedTuple):
    """Its bytes, with a cache for its users. beside_bytes: bounds of other memory."""

    model: str
    tokens: int
    sequences: int
    weights_bytes: int
    beside_bytes: tuple[int, int]
    cache_bytes: int

    @property
    def least_bytes(self) -> int:
        """Total with the lower bound of other memory."""
        return self.weights_bytes + self.beside_bytes[0] + self.cache_bytes

    @property
    def most_bytes(self) -> int:
        """Total with the upper bound of other memory."""
        return self.weights_bytes + self.beside_bytes[1] + self.cache_bytes

    def __str__(self) -> str:
        return f"{self.model}, {plural(self.sequences, 'user')} at {plural(self.tokens, 'token')}"

    def to_dict(self) -> dict[str, Json]:
        """Plain values."""
        totals = {"least_bytes": self.least_bytes, "most_bytes": self.most_bytes}
        return {**self._asdict(), "beside_bytes": list(self.beside_bytes), **totals}
