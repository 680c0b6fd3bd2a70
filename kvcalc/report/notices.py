"""Notices for CI systems: one per deployment, with rule, place and a few short lines."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable


class Rule(NamedTuple):
    """The rule of a notice. id: for CI systems; about: one sentence; help: what to do."""

    id: str
    about: str
    help: str


TOO_LARGE = Rule(
    "kv-cache-too-large",
    "The KV cache of a deployment does not fit.",
    "The KV cache of a deployment needs more memory than its budget, or than weights and reserve leave on its GPU. "
    "Serve fewer sequences or a shorter context, store the cache in fewer bits, or use more GPUs.",
)
OVER_LIMIT = Rule(
    "kv-cache-over-limit",
    "The engine's settings allow less than requested.",
    "Memory suffices, but the engine's settings allow less than requested: fewer sequences, a shorter context, or "
    "fewer blocks. Change the setting or the request.",
)
NO_LONGER_FITS = Rule(
    "kv-cache-no-longer-fits",
    "The KV cache of a deployment no longer fits.",
    "It fitted before this change and does not fit now: revert the change, or give the cache more memory.",
)
GREW = Rule(
    "kv-cache-grew",
    "The KV cache of a deployment grew too much.",
    "It grew by more than --max-growth allows: revert the change, or raise --max-growth.",
)
UNREAD = Rule(
    "kv-cache-unread",
    "A deployment cannot be checked.",
    "Something that decides its cache is missing or cannot be read; the message says what to add.",
)
RULES = (TOO_LARGE, OVER_LIMIT, NO_LONGER_FITS, GREW, UNREAD)


class Notice(NamedTuple):
    """One deployment, as CI systems show it.

    fails: whether it is a failure or a remark. outcome: a word or two, such as `does not fit`.
    lines: the message, most important first; notes: remarks. file, line: where to show it; file is empty if there is
    none.
    """

    rule: Rule
    fails: bool
    deployment: str
    outcome: str
    lines: tuple[str, ...]
    file: str
    line: int
    notes: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """`chat does not fit`."""
        return f"{self.deployment} {self.outcome}"


@runtime_checkable
class Noticing(Protocol):
    """A document with notices."""

    def notices(self) -> Sequence[Notice]:
        """One for each deployment."""
        ...
