"""What ranks store of a model: groups of layers on each pipeline stage, with the tensors that the engine keeps."""

from __future__ import annotations

from collections.abc import Sequence

from kvcalc.cache.dtypes import Dtype
from kvcalc.cache.tensor import CacheTensor
from kvcalc.engines import Engine
from kvcalc.model import LayerGroup, Model
from kvcalc.parallel import Parallel, RankModel

Layers = list[tuple[LayerGroup, int, tuple[CacheTensor, ...]]]
"""Groups of equal layers, each with the index that its layer 0 has in the whole model, and what a layer stores."""


def stored_by_stage(
    engine: Engine, model: Model, kv_dtype: Dtype, ranks: Sequence[RankModel], parallel: Parallel
) -> list[Layers]:
    """What a rank of each stage stores. ranks: all of them, as `rank_models` has them.

    Raises NotApplicableError for what the engine refuses.
    """
    planned = engine.allocate_rank(model, kv_dtype, parallel)
    by_group = planned and {group.name: own for group, own in zip(model.groups, planned, strict=True)}
    stages: list[Layers] = []
    for rank in ranks[: parallel.tp * parallel.pp : parallel.tp]:
        groups = rank.model.groups
        own = [by_group[g.name] for g in groups] if by_group else engine.allocate(rank.model, kv_dtype)
        stages.append([(g, rank.first_layer, tensors) for g, tensors in zip(groups, own, strict=True)])
    return stages
