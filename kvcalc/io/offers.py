"""The choices: every published format of a model's weights, and formats of the cache."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kvcalc.fleet.on_gpus import OnGpus
from kvcalc.fleet.weights import Weights
from kvcalc.io.weights import served_weights
from kvcalc.io.weights.offered import offered


def all_offers(on: Sequence[OnGpus], tokens: int, weights: Sequence[Weights] | None, *, usual: bool) -> list[OnGpus]:
    """Questions for users with this many tokens: every device with every format of weights and cache.

    weights: requested ones; None: the model's own, and all that are published. usual: whether no cache format is
    requested, so that 8 bits is tried, too.
    """
    questions = [question.at(tokens) for question in on]
    if usual:
        questions.extend([smaller for question in questions if (smaller := question.in_eight_bits()) is not None])
    return [
        question.with_weights(each)
        for question in questions
        for each in (weights if weights is not None else [question.weights, *_published(question)])
    ]


def _published(question: OnGpus) -> Iterator[Weights]:
    """Published weights in other formats, as loaded by the engine."""
    model, engine = question.asked.model, question.asked.engine
    for weights in offered(model, engine, question.gpu):
        yield served_weights(weights, model, engine, reserved=question.reserve_bytes is not None)
