"""LMDeploy's PyTorch engine: blocks of K and V for all layers alike, quantised per token and head with scale and zero.

Established from its source (pytorch/engine/cache_engine.py as of commit 011536f5, which gives 64 tokens a block); it
was not run. TurboMind, its other engine, is not read. Tensor parallelism shares the heads, and copies them where there
are more ranks; the latent of MLA, cached as one key of 576, every rank holds whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kvcalc.attention.gqa import GroupedQueryAttention
from kvcalc.attention.mla import MultiHeadLatentAttention
from kvcalc.attention.none import NoCache
from kvcalc.cache.dtypes import BF16, Dtype, dtype_named
from kvcalc.cache.packing import SCALE_AND_OFFSET
from kvcalc.cache.slots.engines import in_blocks
from kvcalc.cache.slots.layers import EVERY_TOKEN
from kvcalc.cache.tensor import CacheTensor
from kvcalc.engines.base import Allocation, Engine
from kvcalc.engines.base.checks import check_blocks, check_unchanged
from kvcalc.engines.base.settings import count_from, one_of, setting
from kvcalc.errors import NotApplicableError
from kvcalc.model import LayerGroup, Model

_CODES = {4: dtype_named("int4"), 8: dtype_named("int8")}
_BY_KV_DTYPE = {"int4": 4, "int8": 8}


@dataclass(frozen=True)
class Lmdeploy(Engine):
    """Fields of PytorchEngineConfig, named and defaulted as LMDeploy has them."""

    TITLE = "LMDeploy"
    VERIFIED = "from source (PyTorch engine, commit 011536f5), not run"

    block_size: int = setting(64, "tokens of a block")
    quant_policy: int = setting(
        0,
        "0 (as the model computes), 8 or 4 bits, with a scale and a zero in the model's dtype for each token and head "
        "of K and of V; where it is 0, size's kv_dtype int8 or int4 sets it",
    )

    def __post_init__(self) -> None:
        count_from(self.block_size, "block_size", 1)
        one_of(self.quant_policy, "quant_policy", (0, *_CODES))

    def allocate(self, model: Model, kv_dtype: Dtype) -> Allocation:
        """Whole blocks that a request takes. Raises NotApplicableError for what the engine does not store."""
        check_unchanged(model, self.TITLE)
        bits = self.quant_policy or _BY_KV_DTYPE.get(kv_dtype.name, 0)
        if not (bits or kv_dtype.is_computed_in):
            raise NotApplicableError(
                f"LMDeploy stores no cache in {kv_dtype}", help="use bf16, fp16, or quant_policy=8 (int8) or 4 (int4)"
            )
        model_dtype = kv_dtype if kv_dtype.is_computed_in else BF16
        return tuple(tuple(_tensors(model, group, self, bits, model_dtype)) for group in model.groups)

    def notes(self, model: Model) -> tuple[str, ...]:
        """What LMDeploy does with this model that nobody would expect."""
        limits = ("sliding_window", "attention_chunk_size")
        if any(limit in group.facts for group in model.groups for limit in limits):
            return ("LMDeploy has one block table for all layers: every layer keeps every token, whatever its window",)
        return ()


def _tensors(
    model: Model, group: LayerGroup, settings: Lmdeploy, bits: int, model_dtype: Dtype
) -> Iterator[CacheTensor]:
    rule = in_blocks(settings.block_size, EVERY_TOKEN) if settings.block_size > 1 else EVERY_TOKEN
    for part in group.parts:
        if isinstance(part, GroupedQueryAttention):
            for tensor in part.tensors():
                stored = tensor._replace(slot_rule=rule, dtype=_CODES.get(bits, model_dtype))
                check_blocks(f"a head of {tensor.name}", tensor.dims[-1].size, stored.dtype or model_dtype, "LMDeploy")
                yield stored
                if bits:
                    dims = (tensor.dims[0], SCALE_AND_OFFSET)
                    yield CacheTensor(f"{tensor.name}_scales", dims, rule, model_dtype, quantizable=False)
        elif isinstance(part, MultiHeadLatentAttention) and not bits and len(group.parts) == 1:
            yield from (tensor._replace(slot_rule=rule, dtype=model_dtype) for tensor in part.tensors())
        elif not isinstance(part, NoCache):
            how = f" with quant_policy {bits}" if bits else ""
            raise NotApplicableError(
                f"kvcalc does not know how LMDeploy stores {group.label} layers{how}, as {group.name} layers of "
                f"{model.name} are",
                help="size it in another engine",
            )


ENGINE = Lmdeploy
