"""RWKV: a recurrent mix over time, with the last input of each layer's two halves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from kvcalc.attention._state import StateCache
from kvcalc.cache.slots.layers import once
from kvcalc.cache.tensor import CacheTensor, Dim


@dataclass(frozen=True, kw_only=True)
class Rwkv(StateCache):
    """RWKV-4.

    Elements per layer: 2 * hidden_size and, recurrent, 3 * attention_hidden_size.

    Source: Peng et al. 2023, arXiv 2305.13048, appendix D.
    """

    SPLIT = ("attention_hidden_size",)

    hidden_size: Annotated[int, "width of a layer's input; time mix and channel mix each keep the last one"]
    attention_hidden_size: Annotated[
        int, "width of the time mix, which keeps numerator, denominator and their largest exponent"
    ]

    @property
    def label(self) -> str:
        """`RWKV`."""
        return "RWKV"

    def tensors(self) -> tuple[CacheTensor, ...]:
        """shift_state: (time mix and channel mix, hidden_size) and wkv_state: (three sums, attention_hidden_size)."""
        halves = (Dim("time_and_channel_mix", 2), Dim("hidden_size", self.hidden_size))
        sums = Dim("numerator_denominator_max", 3)
        return (
            CacheTensor("shift_state", halves, once(), quantizable=False),
            self.recurrent("wkv_state", sums, Dim("attention_hidden_size", self.attention_hidden_size)),
        )


KIND = Rwkv
