"""mLSTM, the layer of xLSTM: a matrix memory per head, with its normaliser and stabiliser."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from kvcalc.attention._state import StateCache
from kvcalc.cache.tensor import CacheTensor, Dim


@dataclass(frozen=True, kw_only=True)
class MatrixLstm(StateCache):
    """mLSTM, as in xLSTM-7B.

    Elements per layer, recurrent: num_heads * (qk_head_dim * v_head_dim + qk_head_dim + 1).

    Source: Beck et al. 2024, arXiv 2405.04517, equations 19 to 27.
    """

    SPLIT = ("mlstm_num_heads",)

    mlstm_num_heads: Annotated[int, "heads, each with its own memory"]
    mlstm_qk_head_dim: Annotated[int, "width of a head's query and key"]
    mlstm_v_head_dim: Annotated[int, "width of a head's value"]

    @property
    def label(self) -> str:
        """`mLSTM`."""
        return "mLSTM"

    def tensors(self) -> tuple[CacheTensor, ...]:
        """c: (num_heads, qk_head_dim, v_head_dim), n: (num_heads, qk_head_dim), m: (num_heads)."""
        heads = Dim("mlstm_num_heads", self.mlstm_num_heads)
        key, value = Dim("mlstm_qk_head_dim", self.mlstm_qk_head_dim), Dim("mlstm_v_head_dim", self.mlstm_v_head_dim)
        return (
            self.recurrent("c_state", heads, key, value),
            self.recurrent("n_state", heads, key),
            self.recurrent("m_state", heads),
        )


KIND = MatrixLstm
