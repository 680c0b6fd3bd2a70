"""Shared code of methods that keep fewer bits: the conversion of each tensor of keys or values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from kvcalc.cache.slots.layers import EVERY_TOKEN
from kvcalc.cache.tensor import CacheTensor, Dim
from kvcalc.errors import InvalidValueError, NotApplicableError
from kvcalc.methods._selection import kind_of
from kvcalc.model import LayerGroup, Model, PromptCut
from kvcalc.units import shown

Tensors = tuple[CacheTensor, ...]


def quantised(
    model: Model,
    name: str,
    parts_of: Callable[[CacheTensor], Tensors],
    *,
    every_token: bool = False,
    prompt_cut: PromptCut | None = None,
) -> Model:
    """`model` with each tensor of keys or values of heads replaced by `parts_of` it.

    every_token: only for attention that keeps every token, possibly reduced by a method; windows stay unchanged.
    prompt_cut: if a layer's prompt stays unquantised until its attention is done; otherwise tokens are quantised when
    written. Raises NotApplicableError if there is none.
    """

    def apply_to(tensors: Tensors, group: LayerGroup) -> Tensors:
        return tuple(
            part
            for tensor in tensors
            for part in (parts_of(tensor) if _is_quantised(tensor, group, every_token=every_token) else (tensor,))
        )

    groups = []
    for group in model.groups:
        uncut = group.uncut or (group.tensors if prompt_cut else ())
        before = uncut if prompt_cut else apply_to(uncut, group)
        groups.append(replace(group, tensors=apply_to(group.tensors, group), uncut=before))
    if all(after.tensors == before.tensors for after, before in zip(groups, model.groups, strict=True)):
        kinds = ", ".join(dict.fromkeys(group.label for group in model.groups))
        reach = " of every token" if every_token else ""
        raise NotApplicableError(
            f"{name} has nothing to quantise in {model.name}: no layer keeps unmodified keys and values of "
            f"heads{reach} ({kinds})",
            help="use it on a model with MHA, GQA or MQA, or use --dtype for the whole cache",
        )
    return replace(
        model, name=f"{model.name} with {name}", groups=tuple(groups), prompt_cut=prompt_cut or model.prompt_cut
    )


def heads_and_width(tensor: CacheTensor) -> tuple[Dim, Dim]:
    """The two dimensions of a tensor of keys or values."""
    heads, width = tensor.dims
    return heads, width


def whole_groups(name: str, tensor: CacheTensor, group_size: int, field: str = "group_size") -> None:
    """Raises InvalidValueError if a head's width is not a multiple of the group."""
    width = tensor.dims[-1]
    if width.size % group_size:
        fitting = next(size for size in range(min(group_size, width.size), 0, -1) if width.size % size == 0)
        raise InvalidValueError(
            f"{name}: {width.name} ({width.size:,}) is not a multiple of {field} ({group_size:,})",
            field=field,
            help=f"write {field}={fitting}",
        )


def one_of_bits(bits: object, field: str, choices: tuple[int, ...]) -> int:
    """`bits` if it is one of `choices`. Raises InvalidValueError."""
    for choice in choices:
        if type(bits) is int and bits == choice:
            return choice
    *others, last = map(str, choices)
    raise InvalidValueError(
        f"{field} must be {', '.join(others)} or {last}, not {shown(bits)}", field=field, help=f"write {field}={last}"
    )


def _is_quantised(tensor: CacheTensor, group: LayerGroup, *, every_token: bool) -> bool:
    """Whether it holds unmodified keys or values of heads; a method may have split the heads by name."""
    own = {own.name: own.slot_rule for own in group.own_tensors}
    kind = kind_of(tensor)
    is_kv = {"k", "v"} <= own.keys() and kind in ("k", "v") and tensor.name not in own.keys() - {"k", "v"}
    as_made = tensor.quantizable and tensor.dtype is None
    return is_kv and as_made and (own[kind] == EVERY_TOKEN or not every_token)
