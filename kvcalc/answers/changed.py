"""Whether a rule that changed lately moved an answer: the same question, asked of the versions before each change.

Newest first, and only where the answer read one of the rules that changed; no other can have moved it.
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
    """The answer of `engine`; and where a recent change moved it: `vLLM 0.26`, and the answer before.

    says: what of an answer is compared. Settings stay as they are. A version that refuses ends the search.
    Raises what `ask` raises of `engine` itself.
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
    """The same of an answer that is there, with the rules that it read."""
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
