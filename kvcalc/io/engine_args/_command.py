"""A command line, read: what it starts, and what of it decides the cache."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from kvcalc.errors import InvalidValueError, KvcalcError, NotApplicableError

if TYPE_CHECKING:
    from kvcalc.fleet.adapters import Adapters


class Said(NamedTuple):
    """What is said of a flag or a variable. at: its place among the words, from 0; None where it has none."""

    about: str
    why: str
    at: int | None = None


class Weighed(NamedTuple):
    """A flag that leaves the cache as it is and changes what else a GPU holds.

    needs: what a fit on a GPU must be given for it: weights, reserve, or what it cannot be given (ranks); of adapters
    a reserve where their bytes are not known.
    """

    about: str
    why: str
    needs: str = ""
    at: int | None = None


class Refusal(NamedTuple):
    """A flag that cannot be read or is not modelled. wrong: the engine would not take it either."""

    about: str
    why: str
    help: str
    wrong: bool = False
    at: int | None = None

    def error(self) -> KvcalcError:
        """The same, to be raised."""
        what = f"{self.about}: {self.why}"
        if self.wrong:
            return InvalidValueError(what, field="args", help=self.help)
        return NotApplicableError(what, help=self.help)


class Command(NamedTuple):
    """A command that starts an engine.

    program: its file in this folder; title: as its authors write it; engine: of kvcalc, None where it is not modelled.
    version: as the image's tag says.
    args: in normal form, what decides the cache, its layout or the memory that is left for it, by the engine's own long
    flag names without the dashes in front: numbers as numbers, switches as true or false, JSON as objects.
    settings: the same as fields of the engine. parallel: degrees (tp, pp, dp, dcp).
    tokens: of a context that all sequences share; length: of the longest request, or those tokens.
    draft: a checkpoint that drafts. overrides: of the model's config, max_model_len alone, None where it goes as far as
    the command says. offloaded_bytes: of the weights of each GPU, kept on the host. adapters: slots for them, where it
    loads some and says how many.
    gpus: that it may use, where something says so. role: prefill or decode.
    told: what a reader is to know. ignored: every flag that changes no cache, and why. weighed: those that change what
    else a GPU holds. refused: what cannot be read or is not modelled.
    container, image: where it runs. line: of the text it stands in, from 1. model_at: the place of the model among the
    words, from 0.
    """

    program: str
    title: str
    engine: str | None
    version: str | None
    model: str | None
    args: Mapping[str, Any]
    settings: Mapping[str, Any]
    parallel: Mapping[str, int]
    tokens: int | None = None
    length: int | None = None
    draft: str | None = None
    overrides: Mapping[str, Any] = {}
    offloaded_bytes: int = 0
    adapters: Adapters | None = None
    gpus: int | None = None
    role: str | None = None
    told: tuple[Said, ...] = ()
    ignored: tuple[Said, ...] = ()
    refused: tuple[Refusal, ...] = ()
    weighed: tuple[Weighed, ...] = ()
    container: str | None = None
    image: str | None = None
    line: int = 0
    model_at: int | None = None
