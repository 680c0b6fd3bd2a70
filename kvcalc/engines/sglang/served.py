"""A model as SGLang builds it, if that differs from its config.

Latents without a class in SGLang are K and V of each head; without a sliding pool all layers have rows of the full
layers' heads; and draft layers are part of the model if speculative_algorithm is set.
Source: SGLang, configs/model_config.py, mem_cache/kv_cache_configurator.py (_build_mha_kv_pool).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from kvcalc.attention.gqa import GroupedQueryAttention
from kvcalc.attention.indexer import Indexer
from kvcalc.attention.mla import MultiHeadLatentAttention
from kvcalc.engines.sglang.resolution import has_own_windows
from kvcalc.engines.sglang.settings import OWN, SglangSettings
from kvcalc.engines.sglang.tensors import is_sliding
from kvcalc.engines.sglang.types import EXPANDED_LATENTS, ROTARY_HEADS, SELF_DRAFTING, UNCOUNTED_DRAFTS, is_of
from kvcalc.errors import NotApplicableError
from kvcalc.model import DRAFTS, Attention, LayerGroup, Model, with_draft_layers


def served_model(model: Model, settings: SglangSettings) -> Model:
    """The model as loaded. Raises NotApplicableError for drafts that need another checkpoint."""
    if model.drafter is not None:
        return _with_drafter(model, settings)
    if settings.speculative_algorithm is not None:
        model = _with_drafts(model, settings.speculative_algorithm)
    if is_of(model, EXPANDED_LATENTS):
        model = _expanded(model)
    full = _heads_of_full_layers(model)
    if full is None or has_own_windows(model, settings):
        return model
    return _with_parts(model, lambda group: tuple(_with_heads(part, full) for part in group.parts))


def _with_drafter(model: Model, settings: SglangSettings) -> Model:
    """With the layers of another checkpoint, which are as they are loaded already."""
    if not model.draft_groups:
        return model
    alone = replace(settings, speculative_algorithm=None)
    own = served_model(replace(model, draft_groups=(), drafter=None), alone)
    return with_draft_layers(replace(own, draft_groups=model.draft_groups, drafter=model.drafter))


def _with_drafts(model: Model, algorithm: str) -> Model:
    if algorithm not in OWN:
        raise NotApplicableError(
            f"{algorithm} drafts with another checkpoint, and none is named",
            help="name it: --engine-set speculative_draft_model_path=NAME, or --draft-model NAME",
        )
    if model.draft_groups:
        return with_draft_layers(model)
    if any(group.name == DRAFTS for group in model.groups) or is_of(model, UNCOUNTED_DRAFTS):
        return model
    if is_of(model, SELF_DRAFTING):
        raise NotApplicableError(
            f"the config of {model.name} does not give the number of draft layers",
            help="add num_nextn_predict_layers to it, or remove speculative_algorithm",
        )
    raise NotApplicableError(
        f"{model.name} has no draft layers, and no other checkpoint is named",
        help="name it: --engine-set speculative_draft_model_path=NAME, or remove speculative_algorithm",
    )


def _expanded(model: Model) -> Model:
    """With K and V of each head instead of latents, and without an indexer, which the fallback does not have."""

    def heads(part: Attention) -> Attention:
        if not isinstance(part, MultiHeadLatentAttention):
            return part
        width = part.qk_rope_head_dim + (0 if is_of(model, ROTARY_HEADS) else part.qk_nope_head_dim)
        number = part.num_query_heads
        return GroupedQueryAttention(
            num_query_heads=number, num_kv_heads=number, head_dim=width, v_head_dim=part.v_head_dim
        )

    return _with_parts(model, lambda group: tuple(heads(part) for part in group.parts if not isinstance(part, Indexer)))


def _heads_of_full_layers(model: Model) -> GroupedQueryAttention | None:
    """Heads of the full layers, if sliding ones differ and full ones are all the same."""
    sliding = {_heads(part) for group in model.groups if is_sliding(group) for part in group.parts if _heads(part)}
    full = {
        _heads(part): part
        for group in model.groups
        if not is_sliding(group)
        for part in group.parts
        if isinstance(part, GroupedQueryAttention)
    }
    if len(full) != 1 or not sliding or sliding == set(full):
        return None
    return next(iter(full.values()))


def _heads(part: Attention) -> tuple[int, ...]:
    """Heads and widths of K and V; nothing for a part without them."""
    return (part.num_kv_heads, *part.head_widths) if isinstance(part, GroupedQueryAttention) else ()


def _with_heads(part: Attention, full: GroupedQueryAttention) -> Attention:
    if not isinstance(part, GroupedQueryAttention):
        return part
    return replace(
        part,
        num_query_heads=full.num_query_heads,
        num_kv_heads=full.num_kv_heads,
        head_dim=full.head_dim,
        v_head_dim=full.v_head_dim,
    )


Change = Callable[[LayerGroup], tuple[Attention, ...]]


def _with_parts(model: Model, change: Change) -> Model:
    """The model with the parts of every group changed, and their tensors."""
    return replace(
        model,
        groups=tuple(_changed(group, change) for group in model.groups),
        draft_groups=tuple(_changed(group, change) for group in model.draft_groups),
    )


def _changed(group: LayerGroup, change: Change) -> LayerGroup:
    parts = change(group)
    if parts == group.parts or not group.is_as_built:  # changes by methods are refused by name
        return group
    return LayerGroup.of(group.name, group.layers, parts, group.origins)
