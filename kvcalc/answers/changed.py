"""Whether a recent change of a rule affects an answer: the same question for the versions before each change.

Newest first, and only if the answer used one of the changed rules; no other can affect it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import is_dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from kvcalc.engines import Engine
from kvcalc.errors import KvcalcError

if TYPE_CHECKING:
    from kvcalc.engines.base.versions import Rule

Answer = TypeVar("Answer")
_PATCH = ".0"


def asked_before(
    engine: Engine, ask: Callable[[Engine], Answer], says: Callable[[Answer], object]
) -> tuple[Answer, str, Answer | None]:
    """The answer of `engine`, and if a recent change affected it: `vLLM 0.26`, and the answer before.

    says: the part of an answer to compare. Settings stay the same. A version that refuses ends the search. Raises what
    `ask` raises for `engine` itself.
    """
    if engine.RELEASE is None:
        return ask(engine), "", None

    from kvcalc.engines.base.versions import rules_read

    with rules_read() as read:
        now = ask(engine)
    return (now, *before_change(engine, now, read, ask, says))


def before_change(
    engine: Engine,
    now: Answer,
    read: Collection[Rule[Any]],
    ask: Callable[[Engine], Answer],
    says: Callable[[Answer], object],
) -> tuple[str, Answer | None]:
    """The same for an existing answer, with the rules that it used."""
    if engine.RELEASE is None or not is_dataclass(engine):
        return "", None

    from kvcalc.engines.base.versions import rules_read

    consulted = read
    for change in engine.RELEASE.changes(engine.version):
        if change.rules.isdisjoint(consulted):
            continue
        try:
            with rules_read() as consulted:
                before = ask(replace(engine, version=change.before))
        except KvcalcError:
            break
        if says(before) != says(now):
            return f"{engine.RELEASE.TITLE} {change.version.removesuffix(_PATCH)}", before
    return "", None
