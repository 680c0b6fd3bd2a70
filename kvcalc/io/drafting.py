"""The draft checkpoint of a model, loaded: from an engine's settings, or as given."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from kvcalc.engines import Engine
from kvcalc.errors import InvalidValueError
from kvcalc.io.loading import load_named
from kvcalc.model import Model
from kvcalc.units import shown


class Drafting(NamedTuple):
    """What drafts. engine: its settings may name a checkpoint. draft: the checkpoint, instead of the named one.

    folder: base of a name that is a path. hub: whether names are read from the Hub.
    """

    engine: Engine
    draft: Model | str | None = None
    folder: Path = Path()
    hub: bool = False

    @property
    def named(self) -> Model | str | None:
        """The checkpoint; None if none drafts, or if its name could be a secret, which no message quotes."""
        if self.draft is not None or self.engine.draft_model is None:
            return self.draft
        from kvcalc.io.engine_args import could_be_secret

        named = self.engine.draft_model
        if not isinstance(named, str):
            raise InvalidValueError(
                f"a draft model is a name or a path, not {shown(named)}", help="for example Qwen/Qwen3-0.6B"
            )
        return None if could_be_secret(named) else named

    def drafter(self) -> Model | None:
        """The checkpoint, loaded; None if none drafts. Raises as `load_named` does."""
        named = self.named
        return load_named(named, self.folder, hub=self.hub) if isinstance(named, str) else named

    def of(self, model: Model) -> Model:
        """`model` with its draft layers, unless it has them.

        Raises as `load_named` does, and NotApplicableError for drafts that the engine does not support, or that are not
        modelled.
        """
        if self.draft is None and model.drafter is not None:
            return model
        drafter = self.drafter()
        return model if drafter is None else self.engine.drafted_by(model, drafter)
