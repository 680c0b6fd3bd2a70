"""A layer without a cache: a separate MLP or MoE block, or attention that reads another layer's cache."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from kvcalc.attention._facts import Facts
from kvcalc.cache.tensor import CacheTensor


@dataclass(frozen=True, kw_only=True)
class NoCache(Facts):
    """No tensors.

    Source: Gemma 3n and 4 (num_kv_shared_layers); Nemotron-H (MLP or MoE blocks).
    """

    FLAGS = ("reads_cache", "reads_sliding")

    reads_cache: Annotated[bool, "whether it attends to the cache of an earlier layer"] = False
    reads_sliding: Annotated[bool, "whether that layer has a limited reach"] = False

    @property
    def label(self) -> str:
        """`no cache`."""
        return "no cache"

    def tensors(self) -> tuple[CacheTensor, ...]:
        """None."""
        return ()


KIND = NoCache
