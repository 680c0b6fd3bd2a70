"""Gated retention: linear attention whose past fades at a rate that each token sets, token by token or in chunks."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, rms_norm, silu

from kvcalc.attention.gated_retention import GatedRetention
from kvcalc.verify.modules._module import rotate
from kvcalc.verify.modules._recurrent import RecurrentModule, States

CHUNK_TOKENS = 256
"""Tokens that are attended to together, as in the authors' code."""
GATE_NORMALIZER = 16
"""What the logarithm of a decay is divided by (gate_logit_normalizer), so that it stays near 1."""


class GatedRetentionModule(RecurrentModule):
    """S = a S + k v^T; o = S^T q, with a = sigmoid(W x)^(1/16).

    Keys and queries are rotated, and o is normalised and gated.
    Source: Sun et al. 2024, arXiv 2405.05254, section 3.1.
    """

    def __init__(self, facts: GatedRetention, hidden_size: int, *, dtype: torch.dtype, device: str) -> None:
        super().__init__(facts, hidden_size, dtype=dtype, device=device)
        self.heads, self.width = facts.linear_num_heads, facts.linear_head_dim
        self.qkv_proj = self.linear(hidden_size, 3 * self.heads * self.width)
        self.decay_proj = self.linear(hidden_size, self.heads)
        self.gate_proj = self.linear(hidden_size, self.heads * self.width)
        self.o_proj = self.linear(self.heads * self.width, hidden_size)

    def first_states(self, sequences: int) -> States:
        """recurrent_state: (heads, width, width), in the module's dtype."""
        return {"recurrent_state": self.zeros(sequences, self.heads, self.width, self.width, recurrent=False)}

    def mix(self, hidden: Tensor, states: States) -> tuple[Tensor, States]:
        """Retention in chunks, from the state before them; computed in fp32 at least."""
        state = states["recurrent_state"]
        exact = torch.promote_types(state.dtype, torch.float32)
        query, key, value = self.qkv_proj(hidden).to(exact).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        log_decay = logsigmoid(self.decay_proj(hidden).to(exact)).transpose(1, 2) / GATE_NORMALIZER  # (B, H, N)
        after, outputs = state.to(exact), []
        for start in range(0, hidden.shape[1], CHUNK_TOKENS):
            chunk = slice(start, start + CHUNK_TOKENS)
            parts = (query[:, :, chunk], key[:, :, chunk] * self.width**-0.5, value[:, :, chunk])
            output, after = gated_retention(*parts, log_decay[:, :, chunk], after)
            outputs.append(output)
        mixed = rms_norm(torch.cat(outputs, dim=2), (self.width,), eps=1e-5)  # (B, H, N, D)
        flat = mixed.transpose(1, 2).flatten(2).to(self.dtype)  # (B, H, N, D) -> (B, N, H * D)
        return self.o_proj(silu(self.gate_proj(hidden)) * flat), {"recurrent_state": after.to(state.dtype)}


def gated_retention(
    query: Tensor, key: Tensor, value: Tensor, log_decay: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """One chunk of tokens, of which a single one is the recurrence itself.

    query, key, value: (sequences, heads, tokens, width), not rotated; log_decay: (sequences, heads, tokens); state:
    (sequences, heads, d_k, d_v). Returns outputs of the value's shape, and the state after the last token. Rotary
    attention depends only on distances, so positions are counted from the last token before the chunk, and the state is
    turned back as they move on: it needs to know no position.
    """
    tokens = query.shape[2]
    at = torch.arange(1, tokens + 1, device=query.device)
    query, key = rotate(query, at), rotate(key, at)
    total = log_decay.cumsum(-1)  # (B, H, N)
    between = total[..., :, None] - total[..., None, :]  # (B, H, N, N): what fades from a token to a later one
    future = torch.ones(tokens, tokens, dtype=torch.bool, device=query.device).triu(1)
    weights = query @ key.mT * between.masked_fill(future, -torch.inf).exp()
    output = weights @ value + total.exp()[..., None] * (query @ state)
    to_the_end = (total[..., -1:] - total).exp()[..., None]
    ended = total[..., -1:, None].exp() * state + (key * to_the_end).mT @ value
    back = torch.full((state.shape[-1],), -tokens, device=query.device)  # rotates each column by the chunk's length
    return output, rotate(ended.mT, back).mT


MODULE = GatedRetentionModule
