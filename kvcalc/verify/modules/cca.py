"""Compressed convolutional attention: two convolutions over queries and keys, and values mixed of two tokens."""

from __future__ import annotations

import torch
from torch import Tensor

from kvcalc.attention.cca import CompressedConvolution
from kvcalc.verify.modules._recurrent import RecurrentModule, States, causal_conv
from kvcalc.verify.modules.rwkv import beside_last


class CompressedConvolutionModule(RecurrentModule):
    """CCA's convolutions, which run next to its attention and have their own output.

    Both convolutions read one buffer of inputs: kernels of together columns + 2. Source: Zyphra 2025,
    arXiv 2510.04476.
    """

    def __init__(self, facts: CompressedConvolution, hidden_size: int, *, dtype: torch.dtype, device: str) -> None:
        super().__init__(facts, hidden_size, dtype=dtype, device=device)
        channels, columns, width = facts.cca_conv_channels, facts.cca_conv_columns, facts.cca_value_width
        self.in_proj, self.value_proj = self.linear(hidden_size, channels), self.linear(hidden_size, width)
        first = columns // 2
        self.first_conv, self.second_conv = (
            self.weight(channels, behind + 1, std=0.5) for behind in (first, columns - first)
        )
        self.out_proj = self.linear(channels + 2 * width, hidden_size)

    def first_states(self, sequences: int) -> States:
        """conv_state: (channels, columns), value_state: (width)."""
        channels = self.first_conv.shape[0]
        columns = self.first_conv.shape[1] + self.second_conv.shape[1] - 2
        return {
            "conv_state": self.zeros(sequences, channels, columns, recurrent=False),
            "value_state": self.zeros(sequences, self.value_proj.out_features, recurrent=False),
        }

    def mix(self, hidden: Tensor, states: States) -> tuple[Tensor, States]:
        """The convolved channels, and this token's and the last one's value."""
        inputs = torch.cat([states["conv_state"], self.in_proj(hidden).transpose(1, 2)], dim=-1)  # (B, C, columns + N)
        inner = self.first_conv.shape[1] - 1
        first, _ = causal_conv(inputs[..., inner:].transpose(1, 2), inputs[..., :inner], self.first_conv)
        behind = self.second_conv.shape[1] - 1
        second, _ = causal_conv(first[:, behind:], first[:, :behind].transpose(1, 2), self.second_conv)
        value = self.value_proj(hidden)
        output = self.out_proj(torch.cat([second, beside_last(value, states["value_state"])], dim=-1))
        kept = inputs[..., inputs.shape[-1] - inner - behind :]
        return output, {"conv_state": kept, "value_state": value[:, -1]}


MODULE = CompressedConvolutionModule
