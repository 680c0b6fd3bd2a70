"""Drafts of another model in llama.cpp: a second context, with the model's own parameters but for the types.

As many cells as the model's context, for as many sequences, with its kv_unified, swa_full and ubatch; K and V in f16
unless type_k_draft and type_v_draft say otherwise.
Source: llama.cpp, common/speculative.cpp (common_base_params_to_speculative), tools/server/server-context.cpp.
"""

from __future__ import annotations

from dataclasses import replace

from kvcalc.engines.llama_cpp.architectures import DRAFTS, architecture_of
from kvcalc.engines.llama_cpp.versions import LlamaCppRelease
from kvcalc.errors import NotApplicableError
from kvcalc.model import DRAFT, LayerGroup, Model, with_drafter

SIMPLE = "draft-simple"
"""The type of speculation that drafts with any other model (--spec-type)."""
DEFAULT_TYPE = "f16"


def drafted_by(model: Model, drafter: Model, spec_type: str | None, release: LlamaCppRelease) -> Model:
    """`model` with the layers of another that drafts. Raises NotApplicableError for drafts that are not modelled."""
    if not release.one_draft_context:
        first = LlamaCppRelease.day_of(next(iter(LlamaCppRelease.one_draft_context.since)))
        raise NotApplicableError(
            f"kvcalc does not model drafts of llama.cpp before {first}, when each slot had its own draft context",
            help=f"use a version from {first} or later, or remove the draft model",
        )
    if (architecture := architecture_of(drafter)) in DRAFTS:
        raise NotApplicableError(
            f"kvcalc does not know what {drafter.name} ({architecture}) shares with the context it drafts for",
            help="remove the draft model",
        )
    if spec_type != SIMPLE:
        raise NotApplicableError(
            f"llama.cpp drafts with {drafter.name} only if spec_type is {SIMPLE}, and otherwise frees its context",
            help=f"add --spec-type {SIMPLE} (spec_type={SIMPLE}), or remove the draft model",
        )
    return with_drafter(model, drafter, drafter.groups)


def apart(model: Model) -> tuple[Model, Model | None]:
    """The model without the layers of another that drafts, and that other with its layers as they are in `model`."""
    if model.drafter is None:
        return model, None
    own = tuple(group for group in model.groups if not group.drafts)
    first = sum(len(group.layers) for group in own)
    drafts = tuple(_alone(group, first) for group in model.groups if group.drafts)
    return replace(model, groups=own, drafter=None), replace(model.drafter, groups=drafts) if drafts else None


def _alone(group: LayerGroup, first: int) -> LayerGroup:
    """A group of a draft as it is numbered and named without the model that it drafts for."""
    layers = tuple(layer - first for layer in group.layers)
    return replace(group, name=group.name.removeprefix(f"{DRAFT} "), layers=layers)
