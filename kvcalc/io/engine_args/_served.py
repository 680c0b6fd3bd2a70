"""What a command line says of the model that it serves: a longer request than its config allows, drafts of another."""

from __future__ import annotations

from dataclasses import replace

from kvcalc.errors import NotApplicableError
from kvcalc.io.engine_args._command import Command
from kvcalc.model import Model

LONGEST = "max_model_len"


def served_model(model: Model, command: Command) -> Model:
    """The model as the command loads it. Raises NotApplicableError where another checkpoint drafts."""
    if command.draft is not None and command.draft != command.model:
        raise NotApplicableError(
            "the layers of the checkpoint that drafts are not in this model's config",
            help="size the draft model by itself, or leave the drafts out",
        )
    if LONGEST not in command.overrides:
        return model
    asked = command.overrides[LONGEST] or command.length
    known = model.max_model_len
    if asked is None or (command.overrides[LONGEST] is None and known is not None and asked <= known):
        return model
    published = model.published._replace(longest_tokens=asked, rope_factor=1)
    return replace(model, max_model_len=asked, published=published)
