"""`kvcalc engines`: the engines that allocate a cache, with their versions and settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvcalc.cli import asking, options
from kvcalc.cli._output import check_output_format, show
from kvcalc.cli.commands import Command, Group

if TYPE_CHECKING:
    from kvcalc.engines import Engine
    from kvcalc.report.engines import EngineEntry, RuleEntry


def list_engines(*, format: str) -> int:
    """Runs `kvcalc engines list`."""
    check_output_format(format)

    from kvcalc.engines import ENGINES
    from kvcalc.report.engines import EngineList

    show(EngineList(tuple(map(_entry_of, ENGINES.names()))), format)
    return 0


def show_engine(*, name: str, format: str) -> int:
    """Runs `kvcalc engines show`."""
    check_output_format(format)

    from kvcalc.report.engines import EnginePage

    show(EnginePage(asking.located("NAME", _entry_of, name.lower())), format)
    return 0


def _entry_of(name: str) -> EngineEntry:
    """An engine with its defaults, or in the version given in its name."""
    from kvcalc.engines import Engine
    from kvcalc.engines.base.plan import Planner
    from kvcalc.engines.base.settings import settings_of
    from kvcalc.report.engines import EngineEntry, SettingEntry

    engine = Engine.of(name)
    release = engine.RELEASE
    return EngineEntry(
        name=engine.name,
        title=engine.TITLE,
        verified=engine.VERIFIED,
        versions=release.KNOWN if release else (),
        answered=release.range_words() if release else "",
        plans=isinstance(engine, Planner),
        settings=tuple(SettingEntry(s.name, s.default, _in_words(s.default), s.meaning) for s in settings_of(engine)),
        rules=_rules_of(engine),
    )


def _rules_of(engine: Engine) -> tuple[RuleEntry, ...]:
    from kvcalc.report.engines import RuleEntry

    rows = engine.RELEASE.rules() if engine.RELEASE else {}
    return tuple(
        RuleEntry(
            name,
            rule.what,
            _in_words(rule.old),
            tuple((v, _in_words(new)) for v, new in rule.since.items()),
            rule.source,
        )
        for name, rule in rows.items()
    )


def _in_words(value: object) -> str:
    """A value as users would write it."""
    from enum import Enum

    if isinstance(value, Enum):
        return str(value.value)
    if value is None or value == ():
        return "none"
    if type(value) is tuple:
        return ", ".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


COMMAND = Group(
    help="Engines that allocate a cache: list them, or show one with its versions and settings.",
    commands={
        "list": Command(
            help="All engines, with their versions and how they were verified.",
            epilog="Example: kvcalc engines list",
            takes=(options.FORMAT,),
            run=list_engines,
        ),
        "show": Command(
            help=(
                "One engine: settings with defaults and meanings, versions, and the rules that changed between "
                "versions."
            ),
            epilog="Example: kvcalc engines show vllm",
            takes=(options.ENGINE_NAME, options.FORMAT),
            run=show_engine,
        ),
    },
)
