"""Transient memory: during prefill, before a method has cut the prompt, and within a decode step.

Steady bytes, the peak of prefill and that of a decode step are three numbers; sizing answers with the first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import chain

from kvcalc.attention.gqa import GroupedQueryAttention
from kvcalc.cache.dtypes import BF16, FP32, Dtype
from kvcalc.cache.slots.algebra import Expression
from kvcalc.cache.slots.layers import EVERY_TOKEN
from kvcalc.cache.slots.primitives import TOKENS, AtMost
from kvcalc.cache.slots.rule import SlotRule
from kvcalc.engines import Engine
from kvcalc.engines.base.footprint import Footprint
from kvcalc.model import Model, PromptCut
from kvcalc.question import Question

_IDEAL = Engine.of("ideal")


def prefill_peak_bytes(question: Question, cut: PromptCut) -> int:
    """Peak of the caches during prefill with a method that cuts the prompt.

    Cut layer by layer: max over layers l of (what layers before l keep + the full prompt in l), and what all keep. Cut
    after the last: the full prompt in all layers, and one layer's copy of what it keeps.
    """
    held = prefill_footprints(question.model, cut, question.serving, question.kv_dtype)
    return question.times_held * max(footprint.bytes(question.tokens) for footprint in held)


def prefill_footprints(model: Model, cut: PromptCut, engine: Engine, kv_dtype: Dtype) -> tuple[Footprint, ...]:
    """Bytes of one sequence at each moment of prefill, by its tokens; the largest is the peak.

    One moment for each layer being processed, and one after the last.
    """
    kept, full = (_terms_by_layer(held, engine, kv_dtype, cut.prompt_tokens) for held in (model, _uncut(model)))
    if not cut.layer_by_layer:
        return tuple(_sum_of([*full, layer]) for layer in kept)
    return (_sum_of(kept), *(_sum_of([*kept[:at], layer]) for at, layer in enumerate(full)))


Terms = tuple[tuple[int, Expression], ...]


def _terms_by_layer(model: Model, engine: Engine, kv_dtype: Dtype, prompt_tokens: int | None) -> list[Terms]:
    """Bytes per slot and rules of each layer for the tokens of a prompt, independent of later tokens."""
    held = TOKENS if prompt_tokens is None else AtMost(TOKENS, prompt_tokens)
    known: dict[Expression, Expression] = {}  # equal rules are shared, so that lookups need no comparison
    by_layer: dict[int, Terms] = {}
    for group, tensors in zip(model.groups, engine.allocate(model, kv_dtype), strict=True):
        rules = [tensor.slot_rule.over(held) for tensor in tensors]
        slot_bytes = [engine.copies * tensor.bytes_per_slot(kv_dtype) for tensor in tensors]
        terms = tuple(zip(slot_bytes, [known.setdefault(rule, rule) for rule in rules], strict=True))
        by_layer |= dict.fromkeys(group.layers, terms)
    return [by_layer[layer] for layer in range(model.num_layers)]


def _sum_of(layers: Iterable[Terms]) -> Footprint:
    return Footprint.summed(chain.from_iterable(layers))


def score_workspace_bytes(question: Question, cut: PromptCut) -> int:
    """Extra memory of the scores that a method selects by, in the current layer.

    B sequences, H query heads, n tokens and elements of e bytes: B H w n (4 + e) for the attention of the prompt's last
    w queries, in float32 and in the model's dtype; B H n n (4 + e) if all queries' attention is needed. If heads share
    keys and a window is computed separately, the keys are repeated for it: B H n d e.
    """
    if cut.scoring_queries == 0:
        return 0
    prompt = min(question.tokens, cut.prompt_tokens or question.tokens)
    element_bytes = (question.kv_dtype if question.kv_dtype.is_computed_in else BF16).block_bytes
    queries = prompt if cut.scoring_queries is None else min(cut.scoring_queries, prompt)
    most = 0
    for group in question.model.groups:
        if not any(tensor.slot_rule == EVERY_TOKEN for tensor in group.uncut or group.tensors):
            continue
        for part in group.parts:
            if isinstance(part, GroupedQueryAttention):
                heads, width = part.num_query_heads, part.head_widths[0]
                scores = heads * queries * prompt * (FP32.block_bytes + element_bytes)
                shared = cut.scoring_queries is not None and part.num_kv_heads < heads
                most = max(most, scores + shared * heads * prompt * width * element_bytes)
    return question.sequences * most


def decode_peak_bytes(question: Question) -> int:
    """Peak of the cache in the step after the question's tokens, as the model itself needs it.

    Every layer keeps what it will keep of tokens + 1, and the current one a token more if its method selects only after
    that token arrives. Copies made by the code are not counted.
    """
    after = _bytes_by_layer(question, lambda rule: rule.slots(question.tokens + 1))
    inside = _bytes_by_layer(question, lambda rule: rule.in_step(question.tokens))
    return sum(after) + max(0, *(most - kept for most, kept in zip(inside, after, strict=True)))


def step_copy_bytes(question: Question, *, whole: bool) -> int:
    """Additional copies made by a step's code: the largest layer, as kept after one more token.

    whole: its size without the method, for code that restores a complete layer to attend to it.
    """
    held = question.of_model(_uncut(question.model)) if whole else question
    return max(_bytes_by_layer(held, lambda rule: rule.slots(question.tokens + 1)))


def _uncut(model: Model) -> Model:
    """The model as it was before methods cut its tokens or bits."""
    return replace(model, groups=tuple(replace(group, tensors=group.uncut or group.tensors) for group in model.groups))


def _bytes_by_layer(question: Question, slots_of: Callable[[SlotRule], int]) -> list[int]:
    """Bytes of each layer for all sequences in the ideal engine."""
    model, kv_dtype = question.model, question.kv_dtype
    by_layer = {
        layer: question.sequences * sum(slots_of(t.slot_rule) * t.bytes_per_slot(kv_dtype) for t in tensors)
        for group, tensors in zip(model.groups, _IDEAL.allocate(model, kv_dtype), strict=True)
        for layer in group.layers
    }
    return [by_layer[layer] for layer in range(model.num_layers)]
