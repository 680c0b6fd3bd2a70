"""The longest sequence that an engine takes with its settings, where a longer one makes it fail."""

from __future__ import annotations

from typing import NamedTuple

from kvcalc.errors import NotApplicableError


class Longest(NamedTuple):
    """tokens: of one sequence, at least 1. refusal: what the engine says of a longer one. help: what to do then."""

    tokens: int
    refusal: str
    help: str

    def check(self, tokens: int) -> None:
        """Raises NotApplicableError for a longer sequence, in the engine's words."""
        if tokens > self.tokens:
            raise NotApplicableError(
                f"{self.refusal} (at {tokens:,} tokens; up to {self.tokens:,} go)" if self.tokens else self.refusal,
                help=self.help,
            )
