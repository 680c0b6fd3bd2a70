"""Model types that an engine has no class for, as data: refused, run by a fallback, or unknown.

An engine with such a table (`Engine.SUPPORT`) has its notes in every answer; one that refuses what it cannot load also
calls `check`. Types are those of whole models, as in config.json.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from kvcalc.engines.base.versions import number_of
from kvcalc.errors import NotApplicableError
from kvcalc.model import Model


class Refusal(NamedTuple):
    """Why an engine does not load a model type, in its own words. last: the last version with a class for it."""

    words: str
    last: str = ""


class Support(NamedTuple):
    """How a version of an engine handles model types without a class.

    title: the engine as its authors write it; version: requested. refused: by type. by_fallback: run by its
    Transformers fallback. undecided: not known whether the fallback runs them. cacheless: run by the fallback as
    encoders, without a cache.
    """

    title: str
    version: str
    refused: Mapping[str, Refusal] = {}
    by_fallback: Collection[str] = ()
    undecided: Collection[str] = ()
    cacheless: Collection[str] = ()

    def check(self, model: Model, version: str) -> None:
        """Raises NotApplicableError for a model that this version refuses, or runs without a cache."""
        name = _type_of(model)
        refusal = self.refused.get(name)
        if refusal is not None and not self._had_class(refusal, version):
            help = f"use {refusal.last}, the last version with a class for it" if refusal.last else "use another engine"
            raise NotApplicableError(refusal.words, help=help)
        if name in self.cacheless:
            raise NotApplicableError(
                f"{self.title} {version} runs {name} as an encoder, without a KV cache", help="use another engine"
            )

    def notes(self, model: Model, version: str) -> tuple[str, ...]:
        """How this version runs a model without a class; empty if it has one."""
        name = _type_of(model)
        if (number_of(version) or ()) < (number_of(self.version) or ()):
            return ()
        fallback = "its Transformers fallback"
        fate = {
            f"{fallback} runs it": self.by_fallback,
            f"it is unknown whether {fallback} runs it": self.undecided,
            f"{fallback} refuses it as well": self.refused,
        }
        what = f"{self.title} {version} has no class for {name}"
        return tuple(f"{what}; {words}" for words, types in fate.items() if name in types)

    def _had_class(self, refusal: Refusal, version: str) -> bool:
        return bool(refusal.last) and (number_of(version) or ()) <= (number_of(refusal.last) or ())


def _type_of(model: Model) -> str:
    """Type of the whole model; of its decoder if nothing else is known, as in a preset."""
    return model.published.model_type or model.model_type
