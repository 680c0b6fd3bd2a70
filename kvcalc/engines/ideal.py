"""What the model itself needs, and nothing else: no pages, no padding, no slot too many."""

from __future__ import annotations

from dataclasses import dataclass, replace

from kvcalc.engines import one_of
from kvcalc.tensors import CacheTensor, CurrentChunk, EveryToken, LastTokens

HONOURED, FULL = "honoured", "full"


@dataclass(frozen=True)
class Settings:
    """How the ideal engine treats layers that look back only so far.

    window: `honoured` keeps the last W tokens of a sliding layer and one chunk of a chunked one; `full` keeps every
    token in every layer, as engines without per-layer caches reserve.
    """

    window: str = HONOURED

    def __post_init__(self) -> None:
        one_of(self.window, "window", (HONOURED, FULL))


def allocate(tensor: CacheTensor, settings: Settings) -> CacheTensor:
    """`tensor` as it is, or with a slot for every token where windows are not honoured."""
    if settings.window == FULL and isinstance(tensor.slot_rule, LastTokens | CurrentChunk):
        return tensor._replace(slot_rule=EveryToken())
    return tensor


def policies(settings: Settings) -> dict[str, Settings]:
    """The policy in force first, then the other one, each in words, so that a report can say what the other costs."""
    words = {HONOURED: "windows honoured", FULL: "every layer full"}
    order = (settings.window, *(window for window in words if window != settings.window))
    return {words[window]: replace(settings, window=window) for window in order}
