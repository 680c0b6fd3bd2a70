"""The shared step of methods that drop tokens: other slot rules for what layers keep of each token."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from fractions import Fraction
from functools import partial

from kvcalc.attention.gqa import GroupedQueryAttention
from kvcalc.errors import InvalidValueError, NotApplicableError
from kvcalc.model import LayerGroup, Model, PromptCut
from kvcalc.tensors import CacheTensor, CutPrompt, EveryToken, ShareOfPrompt, SlotRule
from kvcalc.units import positive_int, shown

RuleOf = Callable[[int], SlotRule]
"""Slot rule that the method gives to the layer of an index; EveryToken leaves the layer as it is."""
State = Callable[[GroupedQueryAttention, SlotRule], tuple[CacheTensor, ...]]
"""What a layer keeps beside its tokens, by its attention and the rule that it was given."""


def selected(
    model: Model,
    name: str,
    rule_of: RuleOf,
    *,
    state: State = lambda _attention, _rule: (),
    gqa_support: bool = True,
    prompt_cut: PromptCut | None = None,
) -> Model:
    """`model` with `name` deciding which tokens its full-attention layers keep.

    Windows and states stay as they are: they forget by themselves. gqa_support: False for code that repeats the keys
    and values for all query heads before it caches them. prompt_cut: when the prompt is cut, where it is cached whole.
    Raises NotApplicableError where no layer keeps keys and values of every token, or one is no plain attention.
    """
    attends = [any(tensor.slot_rule == EveryToken() for tensor in group.tensors) for group in model.groups]
    if not any(attends):
        kinds = ", ".join(dict.fromkeys(group.label for group in model.groups))
        raise NotApplicableError(
            f"{name} has nothing to choose from in {model.name}: no layer keeps every token ({kinds})",
            help="`kvcalc methods list` shows the others",
        )
    groups: list[LayerGroup] = []
    for group, has_tokens in zip(model.groups, attends, strict=True):
        if not has_tokens:
            groups.append(group)
            continue
        attention = attention_of(model, group, name)
        held = group.tensors if gqa_support else tuple(_for_each_query(t, attention) for t in group.tensors)
        whole = replace(group, tensors=held, uncut=(group.uncut or held) if prompt_cut else group.uncut)
        groups += _split(whole, rule_of, partial(state, attention))
    return replace(
        model,
        name=f"{model.name} with {name}",
        groups=tuple(groups),
        notes=(*model.notes, *_remarks(groups)),
        prompt_cut=prompt_cut or model.prompt_cut,
    )


def ratio_cut(compression_ratio: float | Fraction, prompt_tokens: int | None) -> CutPrompt:
    """Rule of kvpress, which keeps max(1, int(n * (1 - compression_ratio))) of a prompt of n tokens, in floats.

    Raises InvalidValueError for a ratio outside of 0 to 1, and where nobody says how long the prompt is: the float's
    rounding has no other form.
    Source: kvpress 0.5.5, ScorerPress.compress.
    """
    ratio = float(compression_ratio)
    if not 0 <= ratio < 1:
        raise InvalidValueError(
            f"compression_ratio must be at least 0 and below 1, not {shown(ratio)}",
            field="compression_ratio",
            help="write 0.5",
        )
    if prompt_tokens is None:
        raise InvalidValueError(
            "compression_ratio is a share of the prompt, and nothing says how long that is",
            field="prompt_tokens",
            help="add prompt_tokens=8000",
        )
    positive_int(prompt_tokens, "prompt_tokens")
    return CutPrompt(max(1, int(prompt_tokens * (1 - ratio))), prompt_tokens)


def cut_prompt(limit: int, prompt_tokens: int | None) -> CutPrompt:
    """Rule of a prompt that is cut once. Raises InvalidValueError for a prompt_tokens that is no count."""
    return CutPrompt(limit, None if prompt_tokens is None else positive_int(prompt_tokens, "prompt_tokens"))


def _remarks(groups: Iterable[LayerGroup]) -> tuple[str, ...]:
    """What a reader must know of a prompt that is cut once, where nobody said where it ends."""
    rules = {tensor.slot_rule for group in groups for tensor in group.tensors}
    if not any(isinstance(rule, ShareOfPrompt) or rule == CutPrompt(getattr(rule, "limit", 0)) for rule in rules):
        return ()
    return ("all cached tokens are taken for the prompt; with prompt_tokens=N those after the first N come on top",)


def attention_of(model: Model, group: LayerGroup, name: str) -> GroupedQueryAttention:
    """Attention of a group's layers. Raises NotApplicableError where they have no heads of keys and values."""
    for part in group.parts:
        if isinstance(part, GroupedQueryAttention):
            return part
    raise NotApplicableError(
        f"{name} wants keys and values of heads, and the {group.name} layers of {model.name} are {group.label}",
        help="use it on a model with MHA, GQA or MQA",
    )


def _split(
    group: LayerGroup, rule_of: RuleOf, state: Callable[[SlotRule], tuple[CacheTensor, ...]]
) -> list[LayerGroup]:
    """The group, split into those of its layers that are given the same rule."""
    layers: dict[SlotRule, list[int]] = {}
    for layer in group.layers:
        layers.setdefault(rule_of(layer), []).append(layer)
    return [
        replace(
            group,
            name=group.name if len(layers) == 1 else f"{group.name}-{number}",
            layers=tuple(indices),
            tensors=(*(_with_rule(tensor, rule) for tensor in group.tensors), *state(rule)),
        )
        for number, (rule, indices) in enumerate(layers.items(), 1)
    ]


def _with_rule(tensor: CacheTensor, rule: SlotRule) -> CacheTensor:
    return tensor._replace(slot_rule=rule) if tensor.slot_rule == EveryToken() else tensor


def _for_each_query(tensor: CacheTensor, attention: GroupedQueryAttention) -> CacheTensor:
    """The tensor with its KV heads repeated for the query heads."""
    repeated = tuple(
        dim._replace(name="num_query_heads", size=attention.num_query_heads) if dim.name == "num_kv_heads" else dim
        for dim in tensor.dims
    )
    return tensor._replace(dims=repeated)
