"""The convolution of per-layer embeddings: n-grams of tokens, looked up and mixed into a layer's streams."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from kvcalc.attention._facts import Facts
from kvcalc.attention._state import CONV_COLUMNS
from kvcalc.cache.slots.layers import once
from kvcalc.cache.tensor import CacheTensor, Dim


@dataclass(frozen=True, kw_only=True)
class NgramConvolution(Facts):
    """The inputs that the dilated convolution of an n-gram embedding keeps, as in Qwen3.8-Flash-Next.

    Elements per layer: ngram_conv_channels * ngram_conv_columns, in the model's dtype, whole on every rank.

    Source: transformers 5.23 modeling_qwen4_exp.py (Qwen4ExpTextPLELayer).
    """

    ngram_conv_channels: Annotated[int, "channels of all streams, hc_count * hidden_size"]
    ngram_conv_columns: Annotated[int, "inputs that it keeps, (kernel - 1) * dilation"]

    @property
    def label(self) -> str:
        """`n-gram conv`."""
        return "n-gram conv"

    def tensors(self) -> tuple[CacheTensor, ...]:
        """ngram_conv_state: (ngram_conv_channels, ngram_conv_columns)."""
        columns = Dim(CONV_COLUMNS, self.ngram_conv_columns)
        channels = Dim("ngram_conv_channels", self.ngram_conv_channels)
        return (CacheTensor("ngram_conv_state", (channels, columns), once(), quantizable=False),)


KIND = NgramConvolution
