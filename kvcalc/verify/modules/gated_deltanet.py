"""Gated DeltaNet: one short convolution over queries, keys and values, then the gated delta rule."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize, silu, softplus

from kvcalc.attention.gated_deltanet import GatedDeltaNet
from kvcalc.verify.modules._delta_rule import gated_delta_rule
from kvcalc.verify.modules._recurrent import RecurrentModule, States, causal_conv


class GatedDeltaNetModule(RecurrentModule):
    """One decay for each value head; keys and queries are repeated for the value heads that share them.

    Source: Yang et al. 2024, arXiv 2412.06464; Qwen3-Next.
    """

    def __init__(self, facts: GatedDeltaNet, hidden_size: int, *, dtype: torch.dtype, device: str) -> None:
        super().__init__(facts, hidden_size, dtype=dtype, device=device)
        self.key_heads, self.value_heads = facts.linear_num_key_heads, facts.linear_num_value_heads
        self.key_width, self.value_width = facts.linear_key_head_dim, facts.linear_value_head_dim
        self.keys, self.values = self.key_heads * self.key_width, self.value_heads * self.value_width
        self.qkv_proj = self.linear(hidden_size, 2 * self.keys + self.values)
        self.conv = self.weight(2 * self.keys + self.values, facts.linear_conv_kernel, std=0.5)
        self.gates = self.linear(hidden_size, 2 * self.value_heads)
        self.o_proj = self.linear(self.values, hidden_size)

    def first_states(self, sequences: int) -> States:
        """conv_state: (channels, kernel - 1), recurrent_state: (value heads, d_k, d_v)."""
        return {
            "conv_state": self.before_conv(sequences, self.conv),
            "recurrent_state": self.zeros(sequences, self.value_heads, self.key_width, self.value_width),
        }

    def mix(self, hidden: Tensor, states: States) -> tuple[Tensor, States]:
        """Convolution, delta rule over normalised keys and queries, output projection."""
        mixed, conv_state = causal_conv(self.qkv_proj(hidden), states["conv_state"], self.conv)
        query, key, value = silu(mixed).split([self.keys, self.keys, self.values], dim=-1)
        query, key = (
            normalize(x.unflatten(-1, (self.key_heads, self.key_width)), dim=-1).repeat_interleave(
                self.value_heads // self.key_heads, dim=2
            )  # (B, N, H_k * d_k) -> (B, N, H_v, d_k)
            for x in (query, key)
        )
        decay, beta = self.gates(hidden).unsqueeze(-1).chunk(2, dim=2)  # each (B, N, H_v, 1)
        value = value.unflatten(-1, (self.value_heads, self.value_width))
        output, state = gated_delta_rule(
            query, key, value, torch.exp(-softplus(decay)), beta.sigmoid(), states["recurrent_state"]
        )
        flat = output.flatten(2).to(self.dtype)  # (B, N, H_v, d_v) -> (B, N, H_v * d_v)
        return self.o_proj(flat), {"conv_state": conv_state, "recurrent_state": state}


MODULE = GatedDeltaNetModule
