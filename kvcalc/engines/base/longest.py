"""The longest sequence that an engine supports with its settings, if a longer one makes it fail."""

from __future__ import annotations

from typing import NamedTuple

from kvcalc.errors import NotApplicableError


class Longest(NamedTuple):
    """tokens: of one sequence, at least 1. refusal: the engine's message for a longer one. help: what to do then."""

    tokens: int
    refusal: str
    help: str

    def check(self, tokens: int) -> None:
        """Raises NotApplicableError with the engine's message for a longer sequence."""
        if tokens > self.tokens:
            raise NotApplicableError(
                f"{self.refusal} (at {tokens:,} tokens; the limit is {self.tokens:,})" if self.tokens else self.refusal,
                help=self.help,
            )
