"""Multi-head latent attention, naive: the latent is expanded to keys and values of all heads before it is cached."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from kvcalc.verify.modules._latent import LatentModule
from kvcalc.verify.modules._module import Cache, attention
from kvcalc.verify.modules._slots import Slots


class NaiveLatentModule(LatentModule):
    """Keys of nope + rope, the rotary part repeated in each head, and values of v_head_dim.

    Source: DeepSeek-V3 inference/model.py, attn_impl = "naive".
    """

    def new_cache(self, sequences: int, capacity: int, dtype: torch.dtype) -> Cache:
        """k: (sequences, heads, slots, nope + rope) and v: (sequences, heads, slots, v_head_dim)."""
        widths = {"k": self.w_uk.shape[1] + self.rope, "v": self.w_uv.shape[1]}
        heads = self.w_uk.shape[0]
        return {
            name: Slots(sequences, (heads, width), capacity, self.reach, dtype, self.device)
            for name, width in widths.items()
        }

    def project(self, hidden: Tensor, positions: Tensor) -> Mapping[str, Tensor]:
        """W_UK c beside the rotary key, and W_UV c, for every head."""
        c_kv, k_rope = self.latent(hidden, positions)
        nope = torch.einsum("btc,hdc->bhtd", c_kv, self.w_uk)
        repeated = k_rope[:, None].expand(-1, self.facts.num_query_heads, -1, -1)  # (B, T, rope) -> (B, H, T, rope)
        return {"k": torch.cat([nope, repeated], dim=-1), "v": torch.einsum("btc,hvc->bhtv", c_kv, self.w_uv)}

    def attend(self, hidden: Tensor, positions: Tensor, rows: Mapping[str, Tensor], seen: Tensor) -> Tensor:
        """Plain multi-head attention over the expanded keys and values."""
        query = torch.cat(self.queries(hidden, positions), dim=-1)  # (B, H, N, nope + rope)
        mask = self.scores_mask(positions, seen)
        return self.output(attention(query, rows["k"], rows["v"], mask, self.scale))


MODULE = NaiveLatentModule
