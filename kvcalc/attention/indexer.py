"""The indexer of sparse attention: one small key per token, by which a layer selects the tokens to attend to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from kvcalc.attention._facts import Facts
from kvcalc.cache.slots.layers import EVERY_TOKEN
from kvcalc.cache.tensor import CacheTensor, Dim


@dataclass(frozen=True, kw_only=True)
class Indexer(Facts):
    """Lightning indexer, a part in addition to its layer's attention. Its query heads share one key.

    Elements per token and layer: index_head_dim, with pooling 2 * index_head_dim + 1. vLLM and SGLang pool keys when
    storing them (index_pool_tokens): one per few tokens, plus the open group.

    Source: DeepSeek-V3.2 report, section 2.1; transformers 5.23 modeling_glm5_next.py.
    """

    FLAGS = ("index_pooling",)

    index_head_dim: Annotated[int, "width of the one key per token"]
    index_pooling: Annotated[
        bool, "whether a gate of the key's width and a mask are also cached, for pooled keys (GLM-5 Next)"
    ] = False
    index_dtype: Annotated[str | None, "format of the keys, if different from the cache's"] = None
    index_pool_tokens: Annotated[
        int | None, "tokens whose keys serving engines pool into one; None: each keeps its own"
    ] = None

    @property
    def label(self) -> str:
        """`indexer`, with the width of its key."""
        return f"indexer {self.index_head_dim}"

    def tensors(self) -> tuple[CacheTensor, ...]:
        """index_k: (index_head_dim), one slot per token; with pooling index_gate and index_mask as well."""
        dtype = self.dtype_of("index_dtype")
        key = CacheTensor("index_k", (Dim("index_head_dim", self.index_head_dim),), EVERY_TOKEN, dtype)
        if not self.index_pooling:
            return (key,)
        mask = CacheTensor("index_mask", (Dim("index_mask", 1),), EVERY_TOKEN, dtype)
        return (key, key._replace(name="index_gate"), mask)


KIND = Indexer
