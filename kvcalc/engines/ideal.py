"""What the model itself needs, and nothing else: no pages, no padding, no slot too many."""

from __future__ import annotations

from dataclasses import dataclass, replace

from kvcalc.cache.dtypes import Dtype
from kvcalc.cache.slots.layers import EVERY_TOKEN
from kvcalc.cache.tensor import CacheTensor
from kvcalc.engines.base import Allocation, Engine
from kvcalc.engines.base.settings import count_from, one_of, setting
from kvcalc.engines.base.tensors import per_tensor, with_encoder_tokens
from kvcalc.model import Model

HONOURED, FULL = "honoured", "full"


@dataclass(frozen=True)
class Ideal(Engine):
    """The model's own tensors, with windows honoured or with a slot for every token."""

    TITLE = "ideal"
    VERIFIED = "measured: torch modules of every kind, run by size --verify, equal to the byte"

    window: str = setting(
        HONOURED,
        "honoured: the last W tokens of a sliding layer, one chunk of a chunked one; full: every token in every layer, "
        "as engines without per-layer caches reserve",
    )
    encoder_tokens: int | None = setting(None, "what cross-attention looks at, where the model does not fix it")

    def __post_init__(self) -> None:
        one_of(self.window, "window", (HONOURED, FULL))
        count_from(self.encoder_tokens, "encoder_tokens", 0)

    def allocate(self, model: Model, kv_dtype: Dtype) -> Allocation:
        """The model's own tensors, with a slot for every token where windows are not honoured."""
        del kv_dtype

        def allocated(tensor: CacheTensor) -> CacheTensor:
            if self.window == FULL and tensor.slot_rule.window is not None:
                return tensor._replace(slot_rule=EVERY_TOKEN)
            return with_encoder_tokens(tensor, self.encoder_tokens)

        return per_tensor(model, allocated)

    def policies(self) -> dict[str, Engine]:
        """Whether windows are honoured, so that a report can say what the other policy costs."""
        words = {HONOURED: "windows honoured", FULL: "every layer full"}
        order = (self.window, *(window for window in words if window != self.window))
        return {words[window]: replace(self, window=window) for window in order}


ENGINE = Ideal
