"""Shared code of methods that drop tokens: new slot rules for the heads of a layer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import partial
from typing import NamedTuple

from kvcalc.attention.gqa import GroupedQueryAttention
from kvcalc.cache.slots.layers import EVERY_TOKEN
from kvcalc.cache.slots.methods import chosen, cut_prompt, floored_shares
from kvcalc.cache.slots.rule import SlotRule
from kvcalc.cache.tensor import CacheTensor
from kvcalc.errors import InvalidValueError, NotApplicableError
from kvcalc.model import LayerGroup, Model, PromptCut
from kvcalc.units import positive_int


class Share(NamedTuple):
    """KV heads of a layer with a common rule.

    heads: their number; None: all. suffix: of their tensors' names, after k and v. storage: slots of the underlying
    memory, if the code keeps a view of more.
    """

    rule: SlotRule
    heads: int | None = None
    suffix: str = ""
    storage: SlotRule | None = None


Shares = tuple[Share, ...]
SharesOf = Callable[[int, GroupedQueryAttention], Shares]
"""Shares of the KV heads of a layer, by its index and its attention; EVERY_TOKEN leaves heads unchanged."""
State = Callable[[GroupedQueryAttention, Shares], tuple[CacheTensor, ...]]
"""What a layer keeps in addition to its tokens, by its attention and the shares of its heads."""


def selected(
    model: Model,
    name: str,
    shares_of: SharesOf | SlotRule,
    *,
    state: State = lambda _attention, _shares: (),
    gqa_support: bool = True,
    prompt_cut: PromptCut | None = None,
) -> Model:
    """`model` with `name` selecting the tokens that its full-attention layers keep.

    Windows and states stay unchanged, and so do other parts, such as the keys of an indexer, which searches every
    token. shares_of: one rule for all heads of all layers, or the shares per layer. gqa_support: False for code that
    repeats keys and values for all query heads before caching. prompt_cut: when the prompt is cut, if it is first
    cached whole. Raises NotApplicableError if no layer keeps keys and values of every token, one is not plain
    attention, or an earlier method packed tokens together.
    """
    check_unpacked(model, name)
    of_layer: SharesOf = shares_of if callable(shares_of) else lambda _layer, _attention: (Share(shares_of),)
    groups: list[LayerGroup] = []
    for group, attention in with_tokens(model, name):
        if attention is None:
            groups.append(group)
            continue
        held = group.tensors if gqa_support else tuple(_for_each_query(t, attention) for t in group.tensors)
        whole = replace(group, tensors=held, uncut=(group.uncut or held) if prompt_cut else group.uncut)
        groups += _split(whole, partial(_shares, of_layer, attention), partial(state, attention))
    return replace(
        model,
        name=f"{model.name} with {name}",
        groups=tuple(groups),
        notes=(*model.notes, *_remarks(groups)),
        prompt_cut=prompt_cut or model.prompt_cut,
    )


def with_tokens(model: Model, name: str) -> list[tuple[LayerGroup, GroupedQueryAttention | None]]:
    """Groups of a model, each with its layers' attention if they keep every token, else None.

    Raises NotApplicableError if no layer does, or one of them has no heads of keys and values.
    """
    attends = [any(tensor.slot_rule == EVERY_TOKEN for tensor in group.tensors) for group in model.groups]
    if not any(attends):
        kinds = ", ".join(dict.fromkeys(group.label for group in model.groups))
        raise NotApplicableError(
            f"{name} has nothing to select from in {model.name}: no layer keeps every token ({kinds})",
            help="`kvcalc methods list` shows the others",
        )
    return [
        (group, attention_of(model, group, name) if keeps else None)
        for group, keeps in zip(model.groups, attends, strict=True)
    ]


def check_unpacked(model: Model, name: str) -> None:
    """Raises NotApplicableError if an earlier method stores tokens together: several per word, or pending.

    Dropping tokens would not shrink their packed storage.
    """
    for group in model.groups:
        own = {tensor.name: tensor.slot_rule for tensor in group.own_tensors}
        for tensor in group.tensors:
            every_token = own.get(kind_of(tensor)) == EVERY_TOKEN
            quantised = tensor.dtype is not None or not tensor.quantizable
            if every_token and quantised and tensor.slot_rule != EVERY_TOKEN:
                raise NotApplicableError(
                    f"{name} cannot select among tokens that are quantised together, such as those of {tensor.name} "
                    f"in {group.name} layers of {model.name}",
                    help="select tokens first and quantise the rest: swap the order of the methods",
                )


def kind_of(tensor: CacheTensor) -> str:
    """`k` or `v` for keys or values, even if changed by a method, such as k_codes; else another word."""
    return tensor.name.partition("_")[0]


def attention_of(model: Model, group: LayerGroup, name: str) -> GroupedQueryAttention:
    """Attention of a group's layers. Raises NotApplicableError if they have no heads of keys and values."""
    for part in group.parts:
        if isinstance(part, GroupedQueryAttention):
            return part
    raise NotApplicableError(
        f"{name} needs keys and values of heads, but {group.name} layers of {model.name} are {group.label}",
        help="use it on a model with MHA, GQA or MQA",
    )


# ---- parameters of several methods

_SHARE = "compression_ratio is a share of the prompt"


def ratio_of(value: float | Fraction, field: str, *, most: Fraction | int = 1) -> Fraction:
    """A share to keep, exactly as written. Raises InvalidValueError unless it is above 0 and at most `most`."""
    ratio = Fraction(str(value))
    if 0 < ratio <= most:
        return ratio
    raise InvalidValueError(
        f"{field} must be above 0 and at most {float(most):g}, not {float(ratio):g}",
        field=field,
        help="write 0.5",
    )


def compression_of(value: float | Fraction) -> float:
    """A share to drop, as float. Raises InvalidValueError for a compression_ratio outside 0 to 1."""
    ratio = float(value)
    if 0 <= ratio < 1:
        return ratio
    raise InvalidValueError(
        f"compression_ratio must be at least 0 and below 1, not {ratio:g}",
        field="compression_ratio",
        help="write 0.5",
    )


def ratio_cut(compression_ratio: float | Fraction, prompt_tokens: int | None) -> SlotRule:
    """Rule of kvpress, which keeps max(1, int(n * (1 - compression_ratio))) of a prompt of n tokens, in floats.

    Raises InvalidValueError for a ratio outside 0 to 1, and if the prompt length is unknown: the float's rounding
    depends on it.
    Source: kvpress 0.5.5, ScorerPress.compress.
    """
    ratio = compression_of(compression_ratio)
    prompt = known_prompt(prompt_tokens, _SHARE)
    return cut_prompt(max(1, int(prompt * (1 - ratio))), prompt)


def scored_prompt(prompt_tokens: int | None, window_size: int) -> int:
    """Tokens of a prompt whose last `window_size` score those before them, for presses that keep a ratio.

    Raises InvalidValueError if they are unknown, and for a window that leaves none before it.
    Source: kvpress 0.5.5, SnapKVPress.score, which asserts it.
    """
    prompt = known_prompt(prompt_tokens, _SHARE)
    if positive_int(window_size, "window_size") < prompt:
        return prompt
    raise InvalidValueError(
        f"window_size ({window_size:,}) is not smaller than the prompt ({prompt:,})",
        field="window_size",
        help=(f"write window_size={prompt // 2}, or " if prompt > 1 else "") + "use a longer prompt",
    )


def known_prompt(prompt_tokens: int | None, why: str) -> int:
    """Tokens of the prompt. Raises InvalidValueError if they are unknown, with why they are needed."""
    if prompt_tokens is None:
        raise InvalidValueError(f"{why}, whose length is unknown", field="prompt_tokens", help="add prompt_tokens=8000")
    return positive_int(prompt_tokens, "prompt_tokens")


def cut_to(limit: int, prompt_tokens: int | None) -> SlotRule:
    """Rule of a prompt that is cut once. Raises InvalidValueError for a prompt_tokens that is not a count."""
    return cut_prompt(limit, None if prompt_tokens is None else positive_int(prompt_tokens, "prompt_tokens"))


def budget_of(ratios: Mapping[str, float | Fraction], prompt_tokens: int | None, words: str) -> SlotRule:
    """Rule of a budget of shares of the prompt, int(ratio * n) each in floats, as in the authors' code.

    ratios: by parameter name. After the prompt the budget is fixed: each new token replaces one. Without prompt_tokens
    all tokens are the prompt, and shares are exact. Raises InvalidValueError for a ratio outside 0 to 1.
    """
    shares = [ratio_of(ratio, field) for field, ratio in ratios.items()]
    if prompt_tokens is None:
        return floored_shares(*(share.as_integer_ratio() for share in shares))
    prompt = positive_int(prompt_tokens, "prompt_tokens")
    return chosen(sum(int(float(share) * prompt) for share in shares), words)


def window_below(window_size: int, capacity: int, capacity_field: str) -> None:
    """Raises InvalidValueError for a window that is not smaller than its capacity."""
    positive_int(capacity, capacity_field)
    if positive_int(window_size, "window_size") >= capacity:
        raise InvalidValueError(
            f"window_size ({window_size:,}) is not smaller than {capacity_field} ({capacity:,})",
            field="window_size",
            help=f"use a capacity above {window_size:,}, or a smaller window",
        )


def for_each_layer(model: Model, values: Sequence[int], field: str) -> Sequence[int]:
    """One value per layer, from one for all or a list; empty if there is none."""
    if len(values) not in (0, 1, model.num_layers):
        raise InvalidValueError(
            f"{field} has {len(values)} numbers, but {model.name} has {model.num_layers} layers",
            field=field,
            help="give one number for all layers, or one per layer",
        )
    return list(values) * model.num_layers if len(values) == 1 else values


# ---- the layers


def _remarks(groups: Iterable[LayerGroup]) -> tuple[str, ...]:
    """A note on a prompt that is cut once, if its length is unknown."""
    rules = {tensor.slot_rule for group in groups for tensor in group.tensors}
    if not any(rule.takes_all_for_prompt for rule in rules):
        return ()
    return ("assuming every cached token is prompt; with prompt_tokens=N, tokens after the first N are added",)


def _shares(shares_of: SharesOf, attention: GroupedQueryAttention, layer: int) -> Shares:
    return tuple(share for share in shares_of(layer, attention) if share.heads != 0)


def _split(
    group: LayerGroup, shares_of: Callable[[int], Shares], state: Callable[[Shares], tuple[CacheTensor, ...]]
) -> list[LayerGroup]:
    """The group, split into layers whose heads keep the same."""
    layers: dict[Shares, list[int]] = {}
    for layer in group.layers:
        layers.setdefault(shares_of(layer), []).append(layer)
    return [
        replace(
            group,
            name=group.name if len(layers) == 1 else f"{group.name}-{number}",
            layers=tuple(indices),
            tensors=(*(part for tensor in group.tensors for part in _shared(tensor, shares)), *state(shares)),
        )
        for number, (shares, indices) in enumerate(layers.items(), 1)
    ]


def _shared(tensor: CacheTensor, shares: Shares) -> Iterable[CacheTensor]:
    """Keys or values of every token, by share of their heads; other tensors unchanged."""
    if kind_of(tensor) not in ("k", "v") or tensor.slot_rule != EVERY_TOKEN:
        yield tensor
        return
    heads, *rest = tensor.dims
    for share in shares:
        number = heads.size if share.heads is None else share.heads
        dims = (heads._replace(size=number), *rest)
        name = tensor.name + share.suffix
        yield tensor._replace(name=name, dims=dims, slot_rule=share.rule, storage_rule=share.storage)


def _for_each_query(tensor: CacheTensor, attention: GroupedQueryAttention) -> CacheTensor:
    """The tensor with its KV heads repeated for the query heads."""
    repeated = tuple(
        dim._replace(name="num_query_heads", size=attention.num_query_heads) if dim.name == "num_kv_heads" else dim
        for dim in tensor.dims
    )
    return tensor._replace(dims=repeated)
