"""Kimi Delta Attention: a short convolution each for queries, keys and values, and a decay for each key channel."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, silu, softplus

from kvcalc.attention.kda import KimiDeltaAttention
from kvcalc.verify.modules._delta_rule import gated_delta_rule
from kvcalc.verify.modules._recurrent import RecurrentModule, States, causal_conv


class KimiDeltaModule(RecurrentModule):
    """The gated delta rule with diag(a) instead of one a. Source: Kimi Linear report, arXiv 2510.26692."""

    def __init__(self, facts: KimiDeltaAttention, hidden_size: int, *, dtype: torch.dtype, device: str) -> None:
        super().__init__(facts, hidden_size, dtype=dtype, device=device)
        self.heads, self.width = facts.linear_num_heads, facts.linear_head_dim
        channels, kernel = self.heads * self.width, facts.linear_conv_kernel
        self.projections = nn.ModuleDict({x: self.linear(hidden_size, channels) for x in "qkv"})
        self.convs = nn.ParameterDict({x: self.weight(channels, kernel, std=0.5) for x in "qkv"})
        self.decay, self.beta = self.linear(hidden_size, channels), self.linear(hidden_size, self.heads)
        self.o_proj = self.linear(channels, hidden_size)

    def first_states(self, sequences: int) -> States:
        """conv_state_q, _k, _v: (channels, kernel - 1), recurrent_state: (heads, width, width)."""
        convs = {f"conv_state_{x}": self.before_conv(sequences, weights) for x, weights in self.convs.items()}
        return {**convs, "recurrent_state": self.zeros(sequences, self.heads, self.width, self.width)}

    def mix(self, hidden: Tensor, states: States) -> tuple[Tensor, States]:
        """Three convolutions, delta rule, output projection."""
        after: States = {}
        heads = {}
        for x, projection in self.projections.items():
            name = f"conv_state_{x}"
            mixed, after[name] = causal_conv(projection(hidden), states[name], self.convs[x])
            heads[x] = silu(mixed).unflatten(-1, (self.heads, self.width))  # (B, N, H, D)
        decay = torch.exp(-softplus(self.decay(hidden))).unflatten(-1, (self.heads, self.width))
        beta = self.beta(hidden).sigmoid().unsqueeze(-1)  # (B, N, H, 1)
        query, key = normalize(heads["q"], dim=-1), normalize(heads["k"], dim=-1)
        output, after["recurrent_state"] = gated_delta_rule(
            query, key, heads["v"], decay, beta, states["recurrent_state"]
        )
        return self.o_proj(output.flatten(2).to(self.dtype)), after  # (B, N, H, D) -> (B, N, H * D)


MODULE = KimiDeltaModule
