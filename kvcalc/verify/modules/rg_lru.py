"""RG-LRU: a gated linear recurrence of single channels, behind a short convolution."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import gelu, softplus

from kvcalc.attention.rg_lru import GatedLinearRecurrence
from kvcalc.verify.modules._recurrent import RecurrentModule, States, causal_conv, stepped

DECAY = 8.0
"""c of the paper, which its authors set to 8."""


class GatedLinearRecurrenceModule(RecurrentModule):
    """a = exp(-c softplus(L) r); h = a h + sqrt(1 - a^2) (i x), with gates r and i.

    Source: De et al. 2024, arXiv 2402.19427, section 2.4.
    """

    def __init__(self, facts: GatedLinearRecurrence, hidden_size: int, *, dtype: torch.dtype, device: str) -> None:
        super().__init__(facts, hidden_size, dtype=dtype, device=device)
        self.width = facts.lru_width
        self.in_proj = self.linear(hidden_size, 2 * self.width)
        self.conv = self.weight(self.width, facts.lru_conv_kernel, std=0.5)
        self.gates = self.linear(self.width, 2 * self.width)
        self.log_lambda = self.weight(self.width)
        self.out_proj = self.linear(self.width, hidden_size)

    def first_states(self, sequences: int) -> States:
        """conv_state: (width, kernel - 1), recurrent_state: (width)."""
        return {
            "conv_state": self.before_conv(sequences, self.conv),
            "recurrent_state": self.zeros(sequences, self.conv.shape[0]),
        }

    def mix(self, hidden: Tensor, states: States) -> tuple[Tensor, States]:
        """Convolution, recurrence, gate."""
        inputs, gate = self.in_proj(hidden).chunk(2, dim=-1)
        inputs, conv_state = causal_conv(inputs, states["conv_state"], self.conv)
        state = states["recurrent_state"]
        keep, enter = self.gates(inputs).to(state.dtype).sigmoid().chunk(2, dim=-1)
        decay = torch.exp(-DECAY * softplus(self.log_lambda.to(state.dtype)) * keep)
        entering = (1 - decay**2).sqrt() * enter * inputs.to(state.dtype)
        outputs = []
        for a, x in zip(decay.unbind(1), entering.unbind(1), strict=True):
            state = a * state + x
            outputs.append(state)
        output = self.out_proj(stepped(outputs).to(self.dtype) * gelu(gate))
        return output, {"conv_state": conv_state, "recurrent_state": state}


MODULE = GatedLinearRecurrenceModule
