"""Lightning attention: a linear attention whose past fades at a fixed rate for each head."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import silu

from kvcalc.attention.lightning import LightningAttention
from kvcalc.verify.modules._recurrent import RecurrentModule, States, stepped


class LightningModule(RecurrentModule):
    """S = r S + k v^T; o = S^T q, with r = exp(-2^(-8 h / H)) for head h of H.

    Source: Qin et al. 2024, arXiv 2401.04658, equation 1.
    """

    def __init__(self, facts: LightningAttention, hidden_size: int, *, dtype: torch.dtype, device: str) -> None:
        super().__init__(facts, hidden_size, dtype=dtype, device=device)
        self.heads, self.width = facts.linear_num_heads, facts.linear_head_dim
        self.qkv_proj = self.linear(hidden_size, 3 * self.heads * self.width)
        self.o_proj = self.linear(self.heads * self.width, hidden_size)

    @property
    def rates(self) -> Tensor:
        """The decay r of each head, (heads, 1, 1)."""
        heads = torch.arange(1, self.heads + 1, dtype=self.state_dtype, device=self.device)
        slopes = 2.0 ** (-8 * heads / self.heads)  # ALiBi's slopes, as the paper takes them
        return torch.exp(-slopes)[:, None, None]

    def first_states(self, sequences: int) -> States:
        """recurrent_state: (heads, width, width)."""
        return {"recurrent_state": self.zeros(sequences, self.heads, self.width, self.width)}

    def mix(self, hidden: Tensor, states: States) -> tuple[Tensor, States]:
        """The recurrence, token by token."""
        state, rates = states["recurrent_state"], self.rates
        joined = silu(self.qkv_proj(hidden)).to(state.dtype).unflatten(-1, (3, self.heads, self.width))
        outputs = []
        for q, k, v in (token.unbind(1) for token in joined.unbind(1)):  # each (B, H, D)
            state = rates * state + k[..., None] * v[..., None, :]
            outputs.append(torch.einsum("bhkv,bhk->bhv", state, q))
        flat = stepped(outputs).flatten(2).to(self.dtype)  # (B, N, H, D) -> (B, N, H * D)
        return self.o_proj(flat), {"recurrent_state": state}


MODULE = LightningModule
