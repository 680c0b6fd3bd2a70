"""Models that cache a layer's hidden states instead of keys and values, and project them again each time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from kvcalc.attention._facts import Facts
from kvcalc.cache.slots.layers import EVERY_TOKEN, last_tokens
from kvcalc.cache.tensor import CacheTensor, Dim


@dataclass(frozen=True, kw_only=True)
class HiddenStates(Facts):
    """A memory of hidden states, as in XLNet and Reformer.

    Elements per token and layer: hidden_size. Reformer's LSH attention hashes tokens into buckets, which can be
    recomputed; libraries that keep them hold hash_heads * num_hashes more.

    Source: Dai et al. 2019, arXiv 1901.02860, section 3.2; transformers 5.23 modeling_xlnet.py.
    """

    hidden_size: Annotated[int, "width of a layer's input"]
    memory_tokens: Annotated[int | None, "most tokens in the memory, if limited"] = None
    hash_heads: Annotated[int | None, "heads that hash their tokens, in LSH attention"] = None
    num_hashes: Annotated[int | None, "hashes per head"] = None
    hash_chunk: Annotated[int | None, "tokens of a chunk, the range of hashed attention"] = None
    hash_beyond: Annotated[int | None, "longest prompt that is not hashed"] = None

    @property
    def label(self) -> str:
        """`hidden states`."""
        return "hidden states"

    def tensors(self) -> tuple[CacheTensor, ...]:
        """hidden: (hidden_size), one slot per token."""
        rule = EVERY_TOKEN if self.memory_tokens is None else last_tokens(self.memory_tokens)
        return (CacheTensor("hidden", (Dim("hidden_size", self.hidden_size),), rule),)


KIND = HiddenStates
