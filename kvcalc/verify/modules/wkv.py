"""RWKV from version 5 on: a matrix for each head that every token fades and adds to, and each layer's last inputs."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import relu

from kvcalc.attention.wkv import MatrixWkv
from kvcalc.verify.modules._recurrent import RecurrentModule, States, stepped
from kvcalc.verify.modules.rwkv import beside_last


class WkvModule(RecurrentModule):
    """Time mix and, where the layer keeps two inputs, channel mix; both read each input and the previous one.

    o_t = r_t (S_{t-1} + diag(u) k_t^T v_t); S_t = diag(w_t) S_{t-1} + k_t^T v_t, with w_t = exp(-exp(d_t)).
    Source: Peng et al. 2024, arXiv 2404.05892, equations 18 to 20 (Finch).
    """

    def __init__(self, facts: MatrixWkv, hidden_size: int, *, dtype: torch.dtype, device: str) -> None:
        super().__init__(facts, hidden_size, dtype=dtype, device=device)
        self.heads, self.width, self.shifts = facts.wkv_num_heads, facts.wkv_head_dim, facts.wkv_token_shifts
        inner = self.heads * self.width
        self.rkvd_proj = self.linear(2 * hidden_size, 4 * inner)
        self.bonus = self.weight(self.heads, self.width)
        self.o_proj = self.linear(inner, hidden_size)
        self.channel_r, self.channel_k = (self.linear(2 * hidden_size, hidden_size) for _ in "rk")
        self.channel_v = self.linear(hidden_size, hidden_size)

    def first_states(self, sequences: int) -> States:
        """shift_state: (token shifts, hidden_size), wkv_state: (heads, width of a key, width of a value)."""
        return {
            "shift_state": self.zeros(sequences, self.shifts, self.o_proj.out_features, recurrent=False),
            "wkv_state": self.zeros(sequences, self.heads, self.width, self.width),
        }

    def mix(self, hidden: Tensor, states: States) -> tuple[Tensor, States]:
        """Each half with its residual."""
        before = states["shift_state"].unbind(1)
        mixed, state = self._wkv(self.rkvd_proj(beside_last(hidden, before[0])), states["wkv_state"])
        output = hidden + self.o_proj(mixed)
        inputs = [hidden[:, -1]]
        if self.shifts > 1:
            shifted = beside_last(output, before[1])
            inputs.append(output[:, -1])
            output = output + self.channel_r(shifted).sigmoid() * self.channel_v(relu(self.channel_k(shifted)) ** 2)
        return output, {"shift_state": torch.stack(inputs, dim=1), "wkv_state": state}

    def _wkv(self, projected: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        joined = projected.to(state.dtype).unflatten(-1, (4, self.heads, self.width))
        bonus = self.bonus.to(state.dtype)[..., None]
        outputs = []
        for r, k, v, d in (token.unbind(1) for token in joined.unbind(1)):  # each (B, H, D)
            added = k[..., None] * v[..., None, :]  # (B, H, D_k, D_v)
            outputs.append(torch.einsum("bhk,bhkv->bhv", r, state + bonus * added))
            state = torch.exp(-torch.exp(d))[..., None] * state + added
        return stepped(outputs).flatten(2).to(self.dtype), state  # (B, N, H, D) -> (B, N, H * D)


MODULE = WkvModule
