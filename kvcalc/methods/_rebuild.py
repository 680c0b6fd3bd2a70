"""A model rebuilt with another attention: shared code of all architecture methods."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from kvcalc.attention._token_cache import TokenCache
from kvcalc.errors import InvalidValueError, NotApplicableError
from kvcalc.model import Attention, LayerGroup, Model, facts
from kvcalc.units import shown

DEEPSEEK_RANKS = (512, 64)
"""kv_lora_rank and qk_rope_head_dim of DeepSeek-V2, V3 and R1, for models without a latent."""


def rebuilt(model: Model, label: str, build: Callable[[TokenCache], TokenCache], note: str = "") -> Model:
    """`model` with each layer's attention, also of drafts, replaced by `build` of it; windows, chunks and states stay.

    label: of the new attention, such as GQA-16; note: precedes the widths of the new layers. Raises NotApplicableError
    if no layer caches tokens, or an earlier method changed what they keep.
    """
    check_untouched(model, label)
    if not any(attention_parts(model)):
        kinds = ", ".join(dict.fromkeys(group.label for group in model.groups))
        raise NotApplicableError(
            f"{model.name} cannot be rebuilt as {label}: none of its layers has keys and values of tokens ({kinds})",
            help="compare it with another model instead",
        )
    groups, drafts = (
        tuple(_rebuilt_group(group, label, build) for group in some) for some in (model.groups, model.draft_groups)
    )
    widths = dict.fromkeys(filter(None, map(_widths, groups)))  # unique, in order
    notes = (*model.notes, f"as {label}: {note}{'; '.join(widths)}")
    untouched = [group.name for group in groups if not any(isinstance(part, TokenCache) for part in group.parts)]
    if untouched:
        notes = (*notes, f"unchanged layers: {', '.join(untouched)}")
    return replace(model, name=f"{model.name} as {label}", groups=groups, draft_groups=drafts, notes=notes)


def rebuilt_drafts(model: Model, label: str, keeps: TokenCache) -> tuple[LayerGroup, ...]:
    """The draft layers of `model`, each with its own keys and values, as in `keeps`."""
    return tuple(_rebuilt_group(group, label, lambda _: keeps) for group in model.draft_groups)


def attention_parts(model: Model) -> Iterator[TokenCache]:
    """The parts of all groups that cache keys and values of tokens."""
    return (part for group in model.groups for part in group.parts if isinstance(part, TokenCache))


def only_attention(model: Model, label: str, why: str) -> TokenCache:
    """The attention of a model with equal layers and nothing else.

    why: the reason for requiring it, for the message. Raises NotApplicableError if layers differ, have no keys and
    values of tokens, or have another part.
    """
    (group, *others) = model.groups
    (part, *beside) = group.parts
    if others or beside or not isinstance(part, TokenCache):
        kinds = ", ".join(dict.fromkeys(group.label for group in model.groups))
        raise NotApplicableError(
            f"{label} {why}, but {model.name} has {kinds}", help="use it on a model whose layers are equal"
        )
    return part


def check_untouched(model: Model, label: str) -> None:
    """Raises NotApplicableError if a method changed what layers keep: replacing the layers would undo it."""
    for group in model.groups:
        if not group.is_as_built:
            raise NotApplicableError(
                f"{model.name} cannot be rebuilt as {label}: its {group.name} layers were already changed by a method",
                help="change the attention first, then apply the method",
            )


def origins_of(parts: Iterable[Attention], group: LayerGroup, label: str) -> dict[str, object]:
    """The source of each fact of `parts`, which replace those of `group`: its origin, or `label`."""
    kept = group.facts
    return {
        name: group.origins.get(name, "") if kept.get(name) == value else f"as {label}"
        for part in parts
        for name, value in facts(part).items()
    }


def own_kv_heads(attention: TokenCache) -> int:
    """KV heads of a layer; one per query head if it has none, as in MLA."""
    heads: int = facts(attention).get("num_kv_heads", attention.num_query_heads)
    return heads


def no_argument(name: str, argument: str) -> dict[str, int]:
    """Keyword arguments of a method without any. Raises InvalidValueError if something follows the colon."""
    if argument:
        raise InvalidValueError(
            f"attention {name} takes no argument, not {shown(argument)}", help=f"write {name} without an argument"
        )
    return {}


def parse_ranks(name: str, argument: str) -> dict[str, int]:
    """`512+64` as kv_lora_rank and qk_rope_head_dim; empty if nothing follows the colon."""
    if not argument:
        return {}
    rank, plus, rope = argument.partition("+")
    digits = rank.isdecimal() and rope.isdecimal() and argument.isascii()
    if not (plus and digits and len(argument) <= len("99999999+99999999")):
        raise InvalidValueError(
            f"attention {name} takes kv_lora_rank + qk_rope_head_dim, not {shown(argument)}",
            help=f"write {name}:512+64",
        )
    return {"kv_lora_rank": int(rank), "qk_rope_head_dim": int(rope)}


def _rebuilt_group(group: LayerGroup, label: str, build: Callable[[TokenCache], TokenCache]) -> LayerGroup:
    parts = tuple(build(part) if isinstance(part, TokenCache) else part for part in group.parts)
    return LayerGroup.of(group.name, group.layers, parts, origins_of(parts, group, label))


def _widths(group: LayerGroup) -> str:
    attention = [part for part in group.parts if isinstance(part, TokenCache)]
    dims = {dim.name: dim.size for part in attention for tensor in part.tensors() for dim in tensor.dims}
    return ", ".join(f"{name} {size:,}" for name, size in dims.items())
