"""Mamba-2: a state space whose channels are heads, and whose B and C are shared by groups of heads."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import silu, softplus

from kvcalc.attention.mamba2 import Mamba2
from kvcalc.verify.modules._recurrent import RecurrentModule, States, causal_conv, stepped


class Mamba2Module(RecurrentModule):
    """h = exp(d a) h + d x B^T; y = h C + D x, with one a and one step size d for each head.

    Where intermediate_size is not num_heads * head_dim, a projection takes the convolved channels to the heads.
    Source: Dao and Gu 2024, arXiv 2405.21060, section 7.
    """

    def __init__(self, facts: Mamba2, hidden_size: int, *, dtype: torch.dtype, device: str) -> None:
        super().__init__(facts, hidden_size, dtype=dtype, device=device)
        self.heads, self.width = facts.mamba_num_heads, facts.mamba_head_dim
        self.groups, self.state_size = facts.mamba_num_groups, facts.mamba_state_size
        channels = self.heads * self.width
        self.inner = facts.mamba_intermediate_size or channels
        self.shared = self.groups * self.state_size
        self.in_proj = self.linear(hidden_size, channels + self.inner + 2 * self.shared + self.heads)
        self.conv = self.weight(self.inner + 2 * self.shared, facts.mamba_conv_kernel, std=0.5)
        self.to_heads = self.linear(self.inner, channels) if self.inner != channels else None
        self.log_a, self.skip = self.weight(self.heads, std=0.5), self.weight(self.heads)
        self.out_proj = self.linear(channels, hidden_size)

    def first_states(self, sequences: int) -> States:
        """conv_state: (channels of x, B and C, kernel - 1), ssm_state: (heads, head_dim, state_size)."""
        return {
            "conv_state": self.before_conv(sequences, self.conv),
            "ssm_state": self.zeros(sequences, self.heads, self.width, self.state_size),
        }

    def mix(self, hidden: Tensor, states: States) -> tuple[Tensor, States]:
        """Convolution over x, B and C; recurrence; gate."""
        widths = [self.heads * self.width, self.inner + 2 * self.shared, self.heads]
        gate, mixed, step = self.in_proj(hidden).split(widths, dim=-1)
        mixed, conv_state = causal_conv(mixed, states["conv_state"], self.conv)
        x, b, c = silu(mixed).split([self.inner, self.shared, self.shared], dim=-1)
        x = (self.to_heads(x) if self.to_heads else x).unflatten(-1, (self.heads, self.width))  # (B, N, H, P)
        each = self.heads // self.groups
        b, c = (y.unflatten(-1, (self.groups, self.state_size)).repeat_interleave(each, dim=2) for y in (b, c))
        scanned, state = self._scan(x, softplus(step), b, c, states["ssm_state"])
        output = (scanned.to(self.dtype) + self.skip[:, None] * x).flatten(2) * silu(gate)  # (B, N, H * P)
        return self.out_proj(output), {"conv_state": conv_state, "ssm_state": state}

    def _scan(self, x: Tensor, step: Tensor, b: Tensor, c: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        a = -self.log_a.to(state.dtype).exp()  # (H)
        outputs = []
        for x_t, d, b_t, c_t in zip(*(v.to(state.dtype).unbind(1) for v in (x, step, b, c)), strict=True):
            entering = (d[..., None] * x_t)[..., None] * b_t[:, :, None]  # (B, H, P, S)
            state = torch.exp(d * a)[..., None, None] * state + entering
            outputs.append(torch.einsum("bhps,bhs->bhp", state, c_t))
        return stepped(outputs), state


MODULE = Mamba2Module
