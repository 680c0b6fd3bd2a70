"""Multi-head latent attention, naive: the latent is expanded to keys and values of all heads before it is cached."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from kvcalc.verify.modules._attention import attention
from kvcalc.verify.modules._latent import LatentModule


class NaiveLatentModule(LatentModule):
    """Keys of nope + rope, the rotary part repeated in each head, and values of v_head_dim.

    Source: DeepSeek-V3 inference/model.py, attn_impl = "naive".
    """

    def row_shapes(self) -> Mapping[str, tuple[int, ...]]:
        """k: (heads, nope + rope) and v: (heads, v_head_dim)."""
        (heads, nope, _), (_, value, _) = self.w_uk.shape, self.w_uv.shape
        return {"k": (heads, nope + self.rope), "v": (heads, value)}

    def project(self, hidden: Tensor, positions: Tensor) -> Mapping[str, Tensor]:
        """W_UK c with the rotary key, and W_UV c, for every head."""
        c_kv, k_rope = self.latent(hidden, positions)
        nope = torch.einsum("btc,hdc->bhtd", c_kv, self.w_uk)
        repeated = k_rope[:, None].expand(-1, self.facts.num_query_heads, -1, -1)  # (B, T, rope) -> (B, H, T, rope)
        return {"k": torch.cat([nope, repeated], dim=-1), "v": torch.einsum("btc,hvc->bhtv", c_kv, self.w_uv)}

    def attend(self, hidden: Tensor, positions: Tensor, rows: Mapping[str, Tensor], mask: Tensor | None) -> Tensor:
        """Plain multi-head attention over the expanded keys and values."""
        query = torch.cat(self.queries(hidden, positions), dim=-1)  # (B, H, N, nope + rope)
        return self.output(attention(query, rows["k"], rows["v"], mask, self.scale))


MODULE = NaiveLatentModule
