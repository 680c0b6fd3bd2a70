"""A checkpoint's key and value heads pooled to fewer: how multi-head models are converted to GQA before uptraining."""

from __future__ import annotations

from torch import Tensor

from kvcalc.errors import InvalidValueError
from kvcalc.units import positive_int


def mean_pooled(weight: Tensor, num_kv_heads: int, head_dim: int) -> Tensor:
    """Weights of k_proj or v_proj with `num_kv_heads` heads, each the mean of a group of neighbouring ones.

    weight: (heads * head_dim, hidden_size), or a bias (heads * head_dim). head_dim: width of a head. Returns
    (num_kv_heads * head_dim, ...), in the weight's dtype. Raises InvalidValueError if the rows are not a whole number
    of heads, or the heads not a multiple of num_kv_heads.
    Source: Ainslie et al. 2023, arXiv 2305.13245, section 2.1.
    """
    positive_int(num_kv_heads, "num_kv_heads")
    rows = weight.shape[0] if weight.dim() else 0
    if rows == 0 or rows % positive_int(head_dim, "head_dim"):
        raise InvalidValueError(
            f"the weight has {rows:,} rows, not a multiple of head_dim ({head_dim:,})",
            field="head_dim",
            help="pass the weight of only k_proj or v_proj, and the width of its heads",
        )
    heads = rows // head_dim
    if heads % num_kv_heads:
        raise InvalidValueError(
            f"the weight has {heads:,} heads, which is not a multiple of num_kv_heads ({num_kv_heads:,})",
            field="num_kv_heads",
            help="each new head is the mean of equally many old ones",
        )
    groups = weight.unflatten(0, (num_kv_heads, -1, head_dim))  # (heads * D, ...) -> (H_kv, G, D, ...)
    pooled: Tensor = groups.mean(dim=1).flatten(0, 1)  # (H_kv, D, ...) -> (H_kv * D, ...)
    return pooled
