"""Mamba: a selective state space, each channel with its own state."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import silu, softplus

from kvcalc.attention.mamba import Mamba
from kvcalc.verify.modules._recurrent import RecurrentModule, States, causal_conv, stepped

DT_RANK = 16
"""Width through which the step sizes are projected; no byte depends on it."""


class MambaModule(RecurrentModule):
    """h = exp(d A) h + d B x; y = C h + D x, with step size d, B and C read off each token.

    Source: Gu and Dao 2023, arXiv 2312.00752, algorithm 2.
    """

    def __init__(self, facts: Mamba, hidden_size: int, *, dtype: torch.dtype, device: str) -> None:
        super().__init__(facts, hidden_size, dtype=dtype, device=device)
        self.inner, self.state_size = facts.mamba_intermediate_size, facts.mamba_state_size
        self.in_proj = self.linear(hidden_size, 2 * self.inner)
        self.conv = self.weight(self.inner, facts.mamba_conv_kernel, std=0.5)
        self.x_proj = self.linear(self.inner, DT_RANK + 2 * self.state_size)
        self.dt_proj = self.linear(DT_RANK, self.inner)
        self.log_a = self.weight(self.inner, self.state_size, std=0.5)
        self.skip = self.weight(self.inner)
        self.out_proj = self.linear(self.inner, hidden_size)

    def first_states(self, sequences: int) -> States:
        """conv_state: (channels, kernel - 1), ssm_state: (channels, state_size)."""
        return {
            "conv_state": self.before_conv(sequences, self.conv),
            "ssm_state": self.zeros(sequences, self.conv.shape[0], self.state_size),
        }

    def mix(self, hidden: Tensor, states: States) -> tuple[Tensor, States]:
        """Convolution, selective scan, gate."""
        inputs, gate = self.in_proj(hidden).chunk(2, dim=-1)
        inputs, conv_state = causal_conv(inputs, states["conv_state"], self.conv)
        inputs = silu(inputs)
        step, b, c = self.x_proj(inputs).split([DT_RANK, self.state_size, self.state_size], dim=-1)
        state = states["ssm_state"]
        scanned, state = self._scan(inputs, softplus(self.dt_proj(step)), b, c, state)
        output = (scanned.to(self.dtype) + self.skip * inputs) * silu(gate)
        return self.out_proj(output), {"conv_state": conv_state, "ssm_state": state}

    def _scan(self, inputs: Tensor, step: Tensor, b: Tensor, c: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        a = -self.log_a.to(state.dtype).exp()  # (channels, state_size)
        outputs = []
        for x, d, b_t, c_t in zip(*(v.to(state.dtype).unbind(1) for v in (inputs, step, b, c)), strict=True):
            state = torch.exp(d[..., None] * a) * state + (d * x)[..., None] * b_t[:, None]  # (B, C, S)
            outputs.append((state * c_t[:, None]).sum(-1))
        return stepped(outputs), state


MODULE = MambaModule
