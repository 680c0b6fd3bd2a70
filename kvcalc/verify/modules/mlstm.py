"""mLSTM: a matrix memory with exponential gates, kept in range by a running maximum."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from kvcalc.attention.mlstm import MatrixLstm
from kvcalc.verify.modules._recurrent import RecurrentModule, States, stepped


class MatrixLstmModule(RecurrentModule):
    """C = f C + i k v^T; n = f n + i k; h = C^T q / max(|n^T q|, 1), all scaled by exp(-m).

    Source: Beck et al. 2024, arXiv 2405.04517, equations 19 to 27.
    """

    def __init__(self, facts: MatrixLstm, hidden_size: int, *, dtype: torch.dtype, device: str) -> None:
        super().__init__(facts, hidden_size, dtype=dtype, device=device)
        self.heads, self.key_width, self.value_width = (
            facts.mlstm_num_heads,
            facts.mlstm_qk_head_dim,
            facts.mlstm_v_head_dim,
        )
        self.q_proj, self.k_proj = (self.linear(hidden_size, self.heads * self.key_width) for _ in "qk")
        self.v_proj = self.linear(hidden_size, self.heads * self.value_width)
        self.gates = self.linear(hidden_size, 2 * self.heads)
        self.o_proj = self.linear(self.heads * self.value_width, hidden_size)

    def first_states(self, sequences: int) -> States:
        """c_state: (heads, d_qk, d_v), n_state: (heads, d_qk), m_state: (heads)."""
        return {
            "c_state": self.zeros(sequences, self.heads, self.key_width, self.value_width),
            "n_state": self.zeros(sequences, self.heads, self.key_width),
            "m_state": self.zeros(sequences, self.heads),
        }

    def mix(self, hidden: Tensor, states: States) -> tuple[Tensor, States]:
        """The recurrence, token by token."""
        memory, norm, maximum = (states[name] for name in ("c_state", "n_state", "m_state"))
        query, key, value = (
            weights(hidden).to(memory.dtype).unflatten(-1, (self.heads, -1))  # (B, N, H * D) -> (B, N, H, D)
            for weights in (self.q_proj, self.k_proj, self.v_proj)
        )
        key = key * self.key_width**-0.5
        enter, keep = self.gates(hidden).to(memory.dtype).chunk(2, dim=-1)  # each (B, N, H)
        outputs = []
        for q, k, v, i, f in zip(*(x.unbind(1) for x in (query, key, value, enter, logsigmoid(keep))), strict=True):
            largest = torch.maximum(f + maximum, i)
            kept, entering = torch.exp(f + maximum - largest), torch.exp(i - largest)
            maximum = largest
            memory = kept[..., None, None] * memory + (entering[..., None] * k)[..., None] * v[..., None, :]
            norm = kept[..., None] * norm + entering[..., None] * k
            below = torch.maximum((norm * q).sum(-1).abs(), torch.exp(-maximum))
            outputs.append(torch.einsum("bhkv,bhk->bhv", memory, q) / below[..., None])
        after = {"c_state": memory, "n_state": norm, "m_state": maximum}
        return self.o_proj(stepped(outputs).flatten(2).to(self.dtype)), after  # (B, N, H, D) -> (B, N, H * D)


MODULE = MatrixLstmModule
