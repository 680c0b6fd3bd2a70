"""The gated delta rule, which Gated DeltaNet and Kimi Delta Attention share: they differ in their gates."""

from __future__ import annotations

import torch
from torch import Tensor

from kvcalc.verify.modules._recurrent import stepped


def gated_delta_rule(
    query: Tensor, key: Tensor, value: Tensor, decay: Tensor, beta: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """S = diag(a) S; S = S + k (b (v - S^T k))^T; o = S^T q, token by token.

    query, key: (sequences, tokens, heads, d_k); value: (..., d_v); decay a: (..., d_k or 1); beta b: (..., 1);
    state S: (sequences, heads, d_k, d_v). Returns o (sequences, tokens, heads, d_v) and the last state.
    Source: Yang et al. 2024, arXiv 2412.06464, equation 10.
    """
    outputs = []
    for q, k, v, a, b in zip(*(x.to(state.dtype).unbind(1) for x in (query, key, value, decay, beta)), strict=True):
        state = a[..., None] * state  # (B, H, d_k, d_v)
        correction = b * (v - torch.einsum("bhkv,bhk->bhv", state, k))
        state = state + k[..., None] * correction[..., None, :]
        outputs.append(torch.einsum("bhkv,bhk->bhv", state, q))
    return stepped(outputs), state
