"""A gated short convolution instead of or next to attention: it needs only the last few inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from kvcalc.attention._facts import Facts
from kvcalc.attention._state import conv_state
from kvcalc.cache.tensor import CacheTensor, Dim


@dataclass(frozen=True, kw_only=True)
class ShortConvolution(Facts):
    """Short convolution, as in LFM2.

    Elements per layer: conv_channels * (conv_kernel - 1), in the model's dtype.

    Source: LFM2 report, arXiv 2511.23404; transformers 5.23 modeling_lfm2.py.
    """

    SPLIT = ("conv_channels",)
    HAS_KV_CHANNELS = True

    conv_channels: Annotated[int, "channels of all convolutions of the layer"]
    conv_kernel: Annotated[int, "inputs that each reads"]

    @property
    def label(self) -> str:
        """`short conv`."""
        return "short conv"

    def tensors(self) -> tuple[CacheTensor, ...]:
        """conv_state: (conv_channels, conv_kernel - 1)."""
        return (conv_state("conv_state", Dim("conv_channels", self.conv_channels), self.conv_kernel),)


KIND = ShortConvolution
