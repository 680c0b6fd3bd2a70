"""What the model itself needs, and nothing else: no pages, no padding, no slot too many."""

from __future__ import annotations

from dataclasses import dataclass, replace

from kvcalc.dtypes import Dtype
from kvcalc.engines import Allocation, count_from, one_of
from kvcalc.engines._tensors import per_tensor, with_encoder_tokens
from kvcalc.model import Model
from kvcalc.slots.layers import EVERY_TOKEN
from kvcalc.tensors import CacheTensor

HONOURED, FULL = "honoured", "full"


@dataclass(frozen=True)
class Settings:
    """How the ideal engine treats layers that look back only so far.

    window: `honoured` keeps the last W tokens of a sliding layer and one chunk of a chunked one; `full` keeps every
    token in every layer, as engines without per-layer caches reserve.
    encoder_tokens: what cross-attention looks at, where the model does not fix it.
    """

    window: str = HONOURED
    encoder_tokens: int | None = None

    def __post_init__(self) -> None:
        one_of(self.window, "window", (HONOURED, FULL))
        count_from(self.encoder_tokens, "encoder_tokens", 0)


def allocate(model: Model, settings: Settings, _: Dtype) -> Allocation:
    """The model's own tensors, with a slot for every token where windows are not honoured."""

    def allocated(tensor: CacheTensor) -> CacheTensor:
        if settings.window == FULL and tensor.slot_rule.window is not None:
            return tensor._replace(slot_rule=EVERY_TOKEN)
        return with_encoder_tokens(tensor, settings.encoder_tokens)

    return per_tensor(model, allocated)


def policies(settings: Settings) -> dict[str, Settings]:
    """The policy in force first, then the other one, each in words, so that a report can say what the other costs."""
    words = {HONOURED: "windows honoured", FULL: "every layer full"}
    order = (settings.window, *(window for window in words if window != settings.window))
    return {words[window]: replace(settings, window=window) for window in order}
