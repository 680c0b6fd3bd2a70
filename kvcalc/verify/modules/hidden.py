"""Attention that keeps hidden states, and projects all keys and values again at each step."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from kvcalc.attention.hidden import HiddenStates
from kvcalc.verify.modules._attention import AttentionModule, attention, heads_beside, split_heads
from kvcalc.verify.modules._slots import Reach

HEADS = (16, 12, 8, 4, 2, 1)
"""Head counts to divide hidden_size by; no byte depends on it."""


class HiddenStatesModule(AttentionModule):
    """Multi-head attention over a memory of layer inputs. Source: Dai et al. 2019, arXiv 1901.02860, section 3.2."""

    def __init__(self, facts: HiddenStates, hidden_size: int, *, dtype: torch.dtype, device: str) -> None:
        super().__init__(facts, hidden_size, dtype=dtype, device=device)
        self.reach = Reach(window=facts.memory_tokens)
        self.heads = next(heads for heads in HEADS if hidden_size % heads == 0)
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (self.linear(hidden_size, hidden_size) for _ in range(4))

    def row_shapes(self) -> Mapping[str, tuple[int, ...]]:
        """hidden: (hidden_size)."""
        return {"hidden": (self.q_proj.in_features,)}

    def project(self, hidden: Tensor, positions: Tensor) -> Mapping[str, Tensor]:  # noqa: ARG002
        """The input itself."""
        return {"hidden": hidden}

    def attend(self, hidden: Tensor, positions: Tensor, rows: Mapping[str, Tensor], mask: Tensor | None) -> Tensor:  # noqa: ARG002
        """Keys and values of the whole memory, projected for this step only."""
        key, value = (split_heads(weights(rows["hidden"]), self.heads) for weights in (self.k_proj, self.v_proj))
        query = split_heads(self.q_proj(hidden), self.heads)  # (B, H, N, D)
        output: Tensor = self.o_proj(heads_beside(attention(query, key, value, mask, query.shape[-1] ** -0.5)))
        return output


MODULE = HiddenStatesModule
