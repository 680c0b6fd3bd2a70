"""What a rank of each pipeline stage holds, for engines that plan rank by rank."""

from __future__ import annotations

from kvcalc.model import Model
from kvcalc.parallel import Parallel, Sharing, rank_models


def stage_models(model: Model, tp: int, pp: int, sharing: Sharing) -> tuple[Model, ...]:
    """Model of one tensor-parallel rank of each pipeline stage; the others of the stage hold equal ones.

    Raises InvalidValueError if layers or heads do not divide.
    """
    return tuple(rank.model for rank in rank_models(model, Parallel(tp=tp, pp=pp), sharing)[::tp])
