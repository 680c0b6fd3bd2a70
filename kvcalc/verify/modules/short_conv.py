"""A gated short convolution, as in LFM2."""

from __future__ import annotations

import torch
from torch import Tensor

from kvcalc.attention.short_conv import ShortConvolution
from kvcalc.verify.modules._recurrent import RecurrentModule, States, causal_conv


class ShortConvolutionModule(RecurrentModule):
    """y = C * conv(B * x), with gates B and C. Source: LFM2 report, arXiv 2511.23404."""

    def __init__(self, facts: ShortConvolution, hidden_size: int, *, dtype: torch.dtype, device: str) -> None:
        super().__init__(facts, hidden_size, dtype=dtype, device=device)
        self.in_proj = self.linear(hidden_size, 3 * facts.conv_channels)
        self.conv = self.weight(facts.conv_channels, facts.conv_kernel, std=0.5)
        self.out_proj = self.linear(facts.conv_channels, hidden_size)

    def first_states(self, sequences: int) -> States:
        """conv_state: (channels, kernel - 1)."""
        return {"conv_state": self.before_conv(sequences, self.conv)}

    def mix(self, hidden: Tensor, states: States) -> tuple[Tensor, States]:
        """Gate, convolution, gate."""
        before, after, inputs = self.in_proj(hidden).chunk(3, dim=-1)
        mixed, conv_state = causal_conv(before * inputs, states["conv_state"], self.conv)
        return self.out_proj(after * mixed), {"conv_state": conv_state}


MODULE = ShortConvolutionModule
