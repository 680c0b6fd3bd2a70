"""RWKV-4: a weighted mean over all tokens so far, and each layer's last two inputs."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import relu

from kvcalc.attention.rwkv import Rwkv
from kvcalc.verify.modules._recurrent import RecurrentModule, States, stepped

NOTHING_YET = -1e38
"""Largest exponent before the first token, as the authors' code has it: exp of it is 0 in every format."""


class RwkvModule(RecurrentModule):
    """Time mix, then channel mix; both read each input and the previous one.

    wkv_t = (sum of e^(k_i - (t - 1 - i) w) v_i over i < t, + e^(u + k_t) v_t) / (the same without v).
    Source: Peng et al. 2023, arXiv 2305.13048, equations 11 to 20 and appendix D.
    """

    def __init__(self, facts: Rwkv, hidden_size: int, *, dtype: torch.dtype, device: str) -> None:
        super().__init__(facts, hidden_size, dtype=dtype, device=device)
        width = facts.attention_hidden_size
        self.rkv_proj = self.linear(2 * hidden_size, 3 * width)
        self.decay, self.bonus = self.weight(width), self.weight(width)
        self.o_proj = self.linear(width, hidden_size)
        self.channel_r, self.channel_k = (self.linear(2 * hidden_size, hidden_size) for _ in "rk")
        self.channel_v = self.linear(hidden_size, hidden_size)

    def first_states(self, sequences: int) -> States:
        """shift_state: (time and channel mix, hidden_size), wkv_state: (numerator, denominator, largest, width)."""
        sums = self.zeros(sequences, 3, self.o_proj.in_features)
        sums[:, 2] = NOTHING_YET
        return {"shift_state": self.zeros(sequences, 2, self.o_proj.out_features, recurrent=False), "wkv_state": sums}

    def mix(self, hidden: Tensor, states: States) -> tuple[Tensor, States]:
        """Both halves, each with its residual."""
        before_time, before_channel = states["shift_state"].unbind(1)
        gate, key, value = self.rkv_proj(beside_last(hidden, before_time)).chunk(3, dim=-1)
        mixed, sums = self._wkv(key, value, states["wkv_state"])
        middle = hidden + self.o_proj(gate.sigmoid() * mixed.to(self.dtype))
        shifted = beside_last(middle, before_channel)
        output = self.channel_r(shifted).sigmoid() * self.channel_v(relu(self.channel_k(shifted)) ** 2)
        return output, {"shift_state": torch.stack([hidden[:, -1], middle[:, -1]], dim=1), "wkv_state": sums}

    def _wkv(self, key: Tensor, value: Tensor, sums: Tensor) -> tuple[Tensor, Tensor]:
        above, below, largest = sums.unbind(1)
        decay, bonus = self.decay.to(sums.dtype).exp(), self.bonus.to(sums.dtype)
        outputs = []
        for k, v in zip(key.to(sums.dtype).unbind(1), value.to(sums.dtype).unbind(1), strict=True):
            top = torch.maximum(largest, bonus + k)
            past, now = torch.exp(largest - top), torch.exp(bonus + k - top)
            outputs.append((past * above + now * v) / (past * below + now))
            top = torch.maximum(largest - decay, k)
            past, now = torch.exp(largest - decay - top), torch.exp(k - top)
            above, below, largest = past * above + now * v, past * below + now, top
        return stepped(outputs), torch.stack([above, below, largest], dim=1)


def beside_last(inputs: Tensor, before: Tensor) -> Tensor:
    """Each input and the previous one: (sequences, tokens, width) -> (sequences, tokens, 2 * width)."""
    shifted = torch.cat([before[:, None], inputs[:, :-1]], dim=1)
    return torch.cat([inputs, shifted], dim=-1)


MODULE = RwkvModule
