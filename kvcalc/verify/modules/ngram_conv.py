"""The convolution of an n-gram embedding, as in Qwen3.8-Flash-Next."""

from __future__ import annotations

import torch
from torch import Tensor

from kvcalc.attention.ngram_conv import NgramConvolution
from kvcalc.verify.modules._recurrent import RecurrentModule, States, causal_conv


class NgramConvolutionModule(RecurrentModule):
    """y = v + conv(v) of the embedding's values v. Source: transformers 5.23 modeling_qwen4_exp.py.

    A dilated kernel reads every few of the inputs it keeps; here all of them have weights, which changes no byte.
    """

    def __init__(self, facts: NgramConvolution, hidden_size: int, *, dtype: torch.dtype, device: str) -> None:
        super().__init__(facts, hidden_size, dtype=dtype, device=device)
        self.value_proj = self.linear(hidden_size, facts.ngram_conv_channels)
        self.conv = self.weight(facts.ngram_conv_channels, facts.ngram_conv_columns + 1, std=0.5)
        self.out_proj = self.linear(facts.ngram_conv_channels, hidden_size)

    def first_states(self, sequences: int) -> States:
        """ngram_conv_state: (channels, columns)."""
        return {"ngram_conv_state": self.before_conv(sequences, self.conv)}

    def mix(self, hidden: Tensor, states: States) -> tuple[Tensor, States]:
        """The value and its convolution."""
        value = self.value_proj(hidden)
        mixed, state = causal_conv(value, states["ngram_conv_state"], self.conv)
        return self.out_proj(value + mixed), {"ngram_conv_state": state}


MODULE = NgramConvolutionModule
