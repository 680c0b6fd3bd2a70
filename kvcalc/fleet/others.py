"""Other models on the same GPU: weights, other memory and cache of each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvcalc.parallel import Parallel
from kvcalc.report.others import Other

if TYPE_CHECKING:
    from kvcalc.fleet.on_gpus import OnGpus


def other_of(question: OnGpus) -> Other:
    """What the question's model takes of one GPU. Raises its engine's refusals."""
    one, asked = Parallel(), question.asked
    memory, beside = question.memory(one), question.beside(one)
    reserve = memory.reserve_bytes
    return Other(
        model=asked.model.name,
        tokens=asked.tokens,
        sequences=asked.sequences,
        weights_bytes=memory.weights_bytes,
        beside_bytes=(reserve, reserve) if beside is None else (beside.low_bytes, beside.high_bytes),
        cache_bytes=max(question.plan(one).needed(asked.tokens, asked.sequences)),
    )
