"""What if a model had been built with another attention: the shared step of mha, mqa, gqa, mla and mla-naive."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from kvcalc.attention._token_cache import TokenCache
from kvcalc.errors import InvalidValueError, NotApplicableError
from kvcalc.model import LayerGroup, Model, facts

DEEPSEEK_RANKS = (512, 64)
"""kv_lora_rank and qk_rope_head_dim of DeepSeek-V2, V3 and R1, for models that have no latent of their own."""


def rebuilt(model: Model, label: str, build: Callable[[TokenCache], TokenCache], note: str = "") -> Model:
    """`model` with each layer's attention replaced by `build` of it; windows and chunks stay.

    label: what it is now, such as GQA-16; note: a sentence that goes before the widths which the layers took.
    Raises NotApplicableError where a group caches no tokens.
    """
    groups = tuple(_rebuilt_group(model, group, label, build) for group in model.groups)
    widths = dict.fromkeys(_widths(group) for group in groups)  # unique, in order
    notes = (*model.notes, f"as {label}: {note}{'; '.join(widths)}")
    return replace(model, name=f"{model.name} as {label}", groups=groups, notes=notes)


def no_argument(name: str, argument: str) -> dict[str, int]:
    """Keyword arguments of a method that takes none. Raises InvalidValueError where something follows the colon."""
    if argument:
        raise InvalidValueError(f"attention {name} takes no argument, not {argument!r}", help=f"write {name} alone")
    return {}


def parse_ranks(name: str, argument: str) -> dict[str, int]:
    """`512+64` as kv_lora_rank and qk_rope_head_dim; empty where nothing follows the colon."""
    if not argument:
        return {}
    rank, plus, rope = argument.partition("+")
    digits = rank.isdecimal() and rope.isdecimal() and argument.isascii()
    if not (plus and digits and len(argument) <= len("99999999+99999999")):
        raise InvalidValueError(
            f"attention {name} takes kv_lora_rank + qk_rope_head_dim, not {argument!r}", help=f"write {name}:512+64"
        )
    return {"kv_lora_rank": int(rank), "qk_rope_head_dim": int(rope)}


def _rebuilt_group(
    model: Model, group: LayerGroup, label: str, build: Callable[[TokenCache], TokenCache]
) -> LayerGroup:
    if not isinstance(group.attention, TokenCache):
        raise NotApplicableError(
            f"{model.name} cannot be seen as {label}: its group {group.name} "
            f"({group.attention.label}) caches no tokens",
            help="compare it with another model instead",
        )
    attention = build(group.attention)
    kept = facts(group.attention)
    origins = {
        name: group.origins.get(name, "") if kept.get(name) == value else f"as {label}"
        for name, value in facts(attention).items()
    }
    return LayerGroup.of(group.name, group.layers, attention, origins)


def _widths(group: LayerGroup) -> str:
    dims = {dim.name: dim.size for tensor in group.tensors for dim in tensor.dims}
    return ", ".join(f"{name} {size:,}" for name, size in dims.items())
