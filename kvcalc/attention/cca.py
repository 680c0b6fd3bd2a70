"""Compressed convolutional attention: short convolutions over queries and keys, and values of two tokens mixed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from kvcalc.attention._facts import Facts
from kvcalc.attention._state import CONV_COLUMNS
from kvcalc.cache.slots.layers import once
from kvcalc.cache.tensor import CacheTensor, Dim


@dataclass(frozen=True, kw_only=True)
class CompressedConvolution(Facts):
    """The states that CCA keeps in addition to K and V, as in Zaya.

    Elements per layer: cca_conv_channels * cca_conv_columns + cca_value_width.

    Source: Zyphra 2025, arXiv 2510.04476; transformers 5.23 modeling_zaya.py.
    """

    SPLIT = ("cca_conv_channels", "cca_value_width")
    HAS_KV_CHANNELS = True

    cca_conv_channels: Annotated[
        int, "channels of queries and keys together, (num_query_heads + num_kv_heads) * head_dim"
    ]
    cca_conv_columns: Annotated[int, "inputs that the two convolutions keep, the sum of their kernels minus 2"]
    cca_value_width: Annotated[int, "width of the half value that the next token mixes in, num_kv_heads * head_dim / 2"]

    @property
    def label(self) -> str:
        """`CCA`."""
        return "CCA"

    def tensors(self) -> tuple[CacheTensor, ...]:
        """conv_state: (cca_conv_channels, cca_conv_columns) and value_state: (cca_value_width)."""
        columns = Dim(CONV_COLUMNS, self.cca_conv_columns)
        width = Dim("cca_value_width", self.cca_value_width)
        return (
            CacheTensor(
                "conv_state", (Dim("cca_conv_channels", self.cca_conv_channels), columns), once(), quantizable=False
            ),
            CacheTensor("value_state", (width,), once(), quantizable=False),
        )


KIND = CompressedConvolution
