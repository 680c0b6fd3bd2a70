"""A parsed command line: what it starts, and what decides the cache."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from kvcalc.errors import InvalidValueError, KvcalcError, NotApplicableError

if TYPE_CHECKING:
    from kvcalc.fleet.adapters import Adapters
    from kvcalc.fleet.pooled_adapters import PooledAdapters


class Said(NamedTuple):
    """A note on a flag or a variable. at: its position among the words, from 0; None if it has none."""

    about: str
    why: str
    at: int | None = None


class Weighed(NamedTuple):
    """A flag that does not change the cache but other memory on a GPU.

    needs: what a fit on a GPU then requires: weights, reserve, or what cannot be given (ranks); for adapters a reserve
    if their bytes are unknown.
    """

    about: str
    why: str
    needs: str = ""
    at: int | None = None


class Refusal(NamedTuple):
    """A flag that cannot be parsed or is not modelled. wrong: the engine would refuse it, too."""

    about: str
    why: str
    help: str
    wrong: bool = False
    at: int | None = None

    def error(self) -> KvcalcError:
        """The same as an exception."""
        what = f"{self.about}: {self.why}"
        if self.wrong:
            return InvalidValueError(what, field="args", help=self.help)
        return NotApplicableError(what, help=self.help)


class Command(NamedTuple):
    """A command that starts an engine.

    program: its file in this folder; title: as its authors write it; engine: of kvcalc, None if not modelled. version:
    from the image's tag. args: in normal form, what decides the cache, its layout or the memory left for it, by the
    engine's long flag names without leading dashes: numbers as numbers, switches as true or false, JSON as objects.
    settings: the same as fields of the engine. parallel: degrees (tp, pp, dp, dcp).
    tokens: of a context shared by all sequences; length: of the longest request, or those tokens. draft: a draft
    checkpoint. overrides: of the model's config, only max_model_len; None if limited only by the command.
    offloaded_bytes: of the weights of each GPU, kept on the host. adapters: slots for them, if it loads some and gives
    the number. gpus: that it may use, if known. role: prefill or decode. told: notes. ignored: every flag that does not
    change the cache, and why. weighed: flags that change other memory on a GPU. refused: what cannot be parsed or is
    not modelled. container, image: where it runs. line: in the text, from 1. model_at: position of the model among the
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
    adapters: Adapters | PooledAdapters | None = None
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
