"""Changes of the served model by its command line: requests longer than its config allows, a draft model."""

from __future__ import annotations

from dataclasses import replace

from kvcalc.io.engine_args._command import Command
from kvcalc.model import Model

_LONGEST = "max_model_len"


def has_draft(command: Command) -> bool:
    """Whether there is a separate draft checkpoint."""
    return command.draft is not None and command.draft != command.model


def served_model(model: Model, command: Command) -> Model:
    """The model as loaded by the command: with the longest request it allows."""
    if _LONGEST not in command.overrides:
        return model
    asked = command.overrides[_LONGEST] or command.length
    known = model.max_model_len
    if asked is None or (command.overrides[_LONGEST] is None and known is not None and asked <= known):
        return model
    published = model.published._replace(longest_tokens=asked, rope_factor=1)
    return replace(model, max_model_len=asked, published=published)
