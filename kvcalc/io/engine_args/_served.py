"""What a command line says of the model that it serves: a longer request than its config allows, drafts of another."""

from __future__ import annotations

from dataclasses import replace

from kvcalc.errors import NotApplicableError
from kvcalc.io.engine_args._command import Command, Said
from kvcalc.model import DRAFTS, LayerGroup, Model

_LONGEST = "max_model_len"
_EAGLE = ("eagle", "eagle3")
"""Methods of vLLM whose draft is one more layer, which caches tokens as layers of its own model do."""


def has_draft(command: Command) -> bool:
    """Whether another checkpoint drafts."""
    return command.draft is not None and command.draft != command.model


def drafted(command: Command, draft: Model) -> Command:
    """The command with a draft whose layer is known, for which vLLM plans as for a layer of multi-token prediction.

    Raises NotApplicableError for any other draft.
    """
    asked = dict(command.settings.get("speculative") or {})
    if command.engine != "vllm" or asked.get("method") not in _EAGLE or draft.num_layers != 1:
        raise NotApplicableError(
            f"drafts of another checkpoint are modelled for vLLM's {' and '.join(_EAGLE)} with one layer alone",
            help="size the draft model by itself, or leave the drafts out",
        )
    settings = {"method": "mtp", "num_speculative_tokens": asked.get("num_speculative_tokens", 1)}
    note = Said("--speculative-config", f"one layer of {draft.name} drafts, planned as a layer of this model")
    return command._replace(settings={**command.settings, "speculative": settings}, told=(*command.told, note))


def served_model(model: Model, command: Command, draft: Model | None = None) -> Model:
    """The model as the command loads it: with the layer that drafts, and as long as the command lets a request be."""
    if draft is not None:
        layer = LayerGroup.of(DRAFTS, (model.num_layers,), draft.groups[0].parts, draft.groups[0].origins)
        model = replace(model, draft_groups=(layer,))
    if _LONGEST not in command.overrides:
        return model
    asked = command.overrides[_LONGEST] or command.length
    known = model.max_model_len
    if asked is None or (command.overrides[_LONGEST] is None and known is not None and asked <= known):
        return model
    published = model.published._replace(longest_tokens=asked, rope_factor=1)
    return replace(model, max_model_len=asked, published=published)
