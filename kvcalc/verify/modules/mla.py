"""Multi-head latent attention, absorbed: queries are projected to the latent's space, only the latent is cached."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from kvcalc.verify.modules._attention import attention, products
from kvcalc.verify.modules._latent import LatentModule


class AbsorbedLatentModule(LatentModule):
    """q^T (W_UK c) = (W_UK^T q)^T c, so a query of kv_lora_rank + rope meets one cached row for all heads.

    Source: DeepSeek-V2, arXiv 2405.04434, section 2.1.2; DeepSeek-V3 inference/model.py, attn_impl = "absorb".
    """

    def row_shapes(self) -> Mapping[str, tuple[int, ...]]:
        """c_kv: (kv_lora_rank) and, where the layer has positions, k_rope: (qk_rope_head_dim)."""
        c_kv = {"c_kv": (self.kv_down.out_features,)}
        return {**c_kv, "k_rope": (self.k_rope_proj.out_features,)} if self.k_rope_proj else c_kv

    def project(self, hidden: Tensor, positions: Tensor) -> Mapping[str, Tensor]:
        """The latent and its one rotary key."""
        c_kv, k_rope = self.latent(hidden, positions)
        return {"c_kv": c_kv, "k_rope": k_rope} if self.rope else {"c_kv": c_kv}

    def attend(self, hidden: Tensor, positions: Tensor, rows: Mapping[str, Tensor], mask: Tensor | None) -> Tensor:
        """Attention with one KV head of width rank + rope, whose value is the latent itself; then W_UV."""
        nope, rope = self.queries(hidden, positions)
        into_latent = torch.einsum("bhnd,hdc->bhnc", nope, self.w_uk)
        if mask is None and hidden.is_cuda:
            mixed = self._part_by_part((into_latent, rope), tuple(rows.values()))
        else:
            query = torch.cat([into_latent, rope], dim=-1)  # (B, H, N, rank + rope)
            key = torch.cat([*rows.values()], dim=-1)[:, None]  # (B, 1, T, rank + rope)
            # The fused kernels want values as wide as keys, so the rotary part is mixed too, and dropped.
            mixed = attention(query, key, key, mask, self.scale)[..., : self.rank]
        return self.output(torch.einsum("bhnc,hvc->bhnv", mixed, self.w_uv))

    def _part_by_part(self, queries: tuple[Tensor, Tensor], rows: tuple[Tensor, ...]) -> Tensor:
        """The same where nothing is masked, without a copy of the cache in which latent and rotary key are joined."""
        keys = [part[:, None] for part in rows]  # (B, T, D) -> (B, 1, T, D)
        folded = [query.flatten(1, 2)[:, None] for query in queries]  # (B, H, N, D) -> (B, 1, H * N, D)
        mixed = products(list(zip(folded, keys, strict=False)), keys[0], self.scale)  # a rope of width 0 has no rows
        return mixed.reshape(queries[0].shape)  # (B, 1, H * N, rank) -> (B, H, N, rank)


MODULE = AbsorbedLatentModule
