"""What lies on a GPU beside weights and cache: activations, graphs, workspaces, contexts.

Part of it is arithmetic, part was only ever measured, so it is an interval: the true number lies between two bounds in
nine cases of ten. A reserve that is given takes its place.
"""

from __future__ import annotations

from typing import NamedTuple

from kvcalc.units import GIB, gibibytes

_UNIFIED_BYTES = 6 * GIB
"""What start-ups of one model differed by, on one GB10."""


class Beside(NamedTuple):
    """Bytes on each GPU, between two bounds. words: what is counted; source: where the bounds came from."""

    low_bytes: int
    high_bytes: int
    words: str
    source: str

    def on_unified_memory(self) -> Beside:
        """The same where the operating system takes from the same memory: no lower bound, and more at most."""
        return self._replace(
            low_bytes=0, high_bytes=self.high_bytes + _UNIFIED_BYTES, words=f"{self.words}; memory shared with the CPU"
        )

    def __str__(self) -> str:
        return f"{gibibytes(self.low_bytes)} to {gibibytes(self.high_bytes)}: {self.words} ({self.source})"
