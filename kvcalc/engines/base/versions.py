"""Versions as data: the rules that changed between an engine's versions, each a row of one table.

    class VllmRelease(Release):
        TITLE, KNOWN, OLDEST = "vLLM", ("0.33.0",), "0.33.0"
        gpu_memory_utilization = Rule("share of a GPU's memory", 0.90, {"0.20.0": 0.92}, "engine/arg_utils.py")

A row with the name of a setting is that setting's default; others are read by the formulas, as
`release.reported_tokens`. User settings take precedence over both. `rules_read` records which rows an answer used: only
a change of those can affect it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar, overload

from kvcalc.errors import InvalidValueError
from kvcalc.units import shown

Value = TypeVar("Value")
_LONGEST_PART = len("9999")
Number = tuple[int, ...]
NEAREST = "nearest"
"""Instead of a version: the one given by a setting, or the nearest known one."""
_READ: ContextVar[set[Rule[Any]] | None] = ContextVar("rules read", default=None)


@contextmanager
def rules_read() -> Iterator[set[Rule[Any]]]:
    """Records the rules whose values are read."""
    found: set[Rule[Any]] = set()
    token = _READ.set(found)
    try:
        yield found
    finally:
        _READ.reset(token)


class Nearest(str):
    """A known version used instead of another, `asked`."""

    __slots__ = ("asked",)
    asked: str

    @classmethod
    def of(cls, version: str, asked: str) -> Nearest:
        """`version` for `asked`."""
        found = cls(version)
        found.asked = asked
        return found


class Change(NamedTuple):
    """A version that changed rules, and the last known one before it."""

    version: str
    before: str
    rules: frozenset[Rule[Any]]


class Rule(Generic[Value]):
    """A rule that changed between versions.

    what: the rule, in words. old: its first value. since: for each version that changed it, the value from then on,
    ascending. source: evidence.
    """

    def __init__(self, what: str, old: Value, since: Mapping[str, Value], source: str) -> None:
        self.what = what
        self.old = old
        self.since = since
        self.source = source

    @overload
    def __get__(self, release: None, table: type) -> Rule[Value]: ...

    @overload
    def __get__(self, release: Release, table: type) -> Value: ...

    def __get__(self, release: Release | None, table: type) -> Rule[Value] | Value:
        if release is None:
            return self
        read = _READ.get()
        if read is not None:
            read.add(self)
        return self.at(release.dotted(release.version))

    def at(self, version: str) -> Value:
        """Value in a version, whether or not its other rules are known."""
        found = self.old
        for first, value in self.since.items():
            if _order(first) <= _order(version):
                found = value
        return found


class Release:
    """A version of an engine, with the value of each rule. A subclass is an engine's table of rules.

    TITLE: the engine as its authors write it. KNOWN: versions whose rules were established, ascending; a version such
    as 5.23 includes its patches. OLDEST: first supported version; default: the first of KNOWN. RECENT: last version
    whose changes are too old to mention in an answer. FORMS: other forms of a version, in words. USUAL: the default
    version; if not given, the newest.
    """

    TITLE: ClassVar[str]
    KNOWN: ClassVar[tuple[str, ...]]
    OLDEST: ClassVar[str] = ""
    RECENT: ClassVar[str] = ""
    FORMS: ClassVar[str] = ""
    USUAL: ClassVar[str] = ""

    def __init__(self, version: str) -> None:
        self.version = version

    @classmethod
    def dotted(cls, version: str) -> str:
        """A version as dotted numbers for comparison: itself, unless an engine numbers differently."""
        return version

    @classmethod
    def newest(cls) -> str:
        """The last supported version."""
        return cls.KNOWN[-1]

    @classmethod
    def usual(cls) -> str:
        """The default version."""
        return cls.USUAL or cls.newest()

    @classmethod
    def oldest(cls) -> str:
        """The first supported version."""
        return cls.OLDEST or cls.KNOWN[0]

    @classmethod
    def range_words(cls) -> str:
        """`0.10.2 to 0.33.0`, or the only version."""
        return cls.newest() if cls.oldest() == cls.newest() else f"{cls.oldest()} to {cls.newest()}"

    @classmethod
    def rules(cls) -> dict[str, Rule[object]]:
        """Every row, by name."""
        return {name: row for name, row in vars(cls).items() if isinstance(row, Rule)}

    @classmethod
    def defaults(cls, version: str, settings: Collection[str]) -> dict[str, object]:
        """A version's defaults of the settings whose default changed."""
        return {name: rule.at(cls.dotted(version)) for name, rule in cls.rules().items() if name in settings}

    @classmethod
    def changes(cls, version: str) -> Iterator[Change]:
        """Recent changes of rules up to a version, the newest first."""
        last, first = cls._end(version), cls._end(cls.RECENT or cls.oldest())
        at = {changed for rule in cls.rules().values() for changed in rule.since}
        steps = sorted((cls._end(each), each) for each in at | {*cls.KNOWN, cls.oldest()})
        for (_, before), (number, changed) in zip(steps[-2::-1], steps[:0:-1], strict=True):
            if first < number <= last and changed in at:
                yield Change(changed, before, frozenset(r for r in cls.rules().values() if changed in r.since))

    @classmethod
    def nearest(cls, version: str) -> str:
        """The version itself, or the nearer end of the known range."""
        number = cls._number(version, "version")
        if number < cls._end(cls.oldest()):
            return cls.oldest()
        return cls.newest() if number > cls._end(cls.newest()) else version

    @classmethod
    def named(cls, text: str | None, field: str = "version", *, engine: str = "", nearest: bool = False) -> str:
        """The version for a text: `0.33` and `v0.33.0` are 0.33.0, None the default.

        nearest: outside the known range, use the nearest known one, which remembers the request (`Nearest`).
        engine: its name, for the help. Raises InvalidValueError for an invalid version, and outside the known range.
        """
        if text is None:
            return cls.usual()
        number = cls._number(text.removeprefix("v"), field)
        for known in reversed(cls.KNOWN):
            same = zip(number, number_of(known) or (), strict=False)
            if all(part == other for part, other in same):
                return known
        if not cls._end(cls.oldest()) <= number <= cls._end(cls.newest()):
            asked = cls._spelled(text.removeprefix("v"), number)
            end = cls.nearest(asked)
            if nearest:
                return Nearest.of(end, asked)
            raise InvalidValueError(
                f"kvcalc models {cls.TITLE} {cls.range_words()}, not {shown(text)}",
                field=field,
                help=f"use version {cls.newest()}, or {engine}@{NEAREST} with the setting {field}={asked} for the "
                f"rules of {end}",
            )
        return cls._spelled(text.removeprefix("v"), number)

    @classmethod
    def _spelled(cls, text: str, number: Number) -> str:
        """Normal form of an unknown version."""
        del text
        return ".".join(map(str, number))

    @classmethod
    def _end(cls, version: str) -> Number:
        """Comparison key for an end of the range: 0.11 is in a range from 0.11.0."""
        return _order(cls.dotted(version))

    @classmethod
    def _number(cls, text: str, field: str) -> Number:
        number = number_of(cls.dotted(text))
        if number is None:
            raise InvalidValueError(
                f"{field} must be a version, not {shown(text)}",
                field=field,
                help=f"write {field}={cls.newest()}{cls.FORMS}",
            )
        return number


@lru_cache(maxsize=1024)
def _order(version: str) -> Number:
    """Sort key of versions: 0.28 and 0.28.0 are equal."""
    number = list(number_of(version) or ())
    while number and number[-1] == 0:
        number.pop()
    return tuple(number)


@lru_cache(maxsize=1024)
def number_of(version: str) -> Number | None:
    """`5.15.1` as (5, 15, 1); None for an invalid version."""
    parts = version.split(".")
    if not all(part.isascii() and part.isdecimal() and len(part) <= _LONGEST_PART for part in parts):
        return None
    return tuple(map(int, parts))
