"""The list of engines, and one engine with its versions and settings."""

from typing import NamedTuple

from kvcalc.report.sheet import Column, Json, Sheet, plain
from kvcalc.report.versions import named


class SettingEntry(NamedTuple):
    """A setting: its name, default (also in words) and meaning."""

    name: str
    default: Json
    words: str
    meaning: str


class RuleEntry(NamedTuple):
    """A rule that changed between versions. values: for each version that changed it, the value from then on."""

    name: str
    what: str
    old: str
    since: tuple[tuple[str, str], ...]
    source: str

    def to_dict(self) -> dict[str, Json]:
        """Plain values."""
        return {**self._asdict(), "since": dict(self.since)}


class EngineEntry(NamedTuple):
    """An engine: how and for which versions its rules were established, and its settings with defaults.

    versions: those whose rules were established; answered: the supported range. Both are empty if the engine has no
    versions. plans: whether it plans its memory, so that `fit` shows the engine's own report.
    """

    name: str
    title: str
    verified: str
    versions: tuple[str, ...]
    answered: str
    plans: bool
    settings: tuple[SettingEntry, ...]
    rules: tuple[RuleEntry, ...]

    def to_dict(self) -> dict[str, Json]:
        """Plain values."""
        return {
            **named("engine"),
            "name": self.name,
            "title": self.title,
            "verified": self.verified,
            "versions": list(self.versions),
            "answered": self.answered,
            "plans": self.plans,
            "settings": {
                setting.name: {"default": plain(setting.default), "meaning": setting.meaning}
                for setting in self.settings
            },
            "rules": [rule.to_dict() for rule in self.rules],
        }


class EngineList(NamedTuple):
    """All engines."""

    entries: tuple[EngineEntry, ...]

    def to_dict(self) -> list[Json]:
        """Plain values of each."""
        return [entry.to_dict() for entry in self.entries]

    def sheets(self) -> tuple[Sheet, ...]:
        """One row for each."""
        columns = (Column("engine"), Column("versions"), Column("plans memory"), Column("how it was verified"))
        rows = tuple(
            (entry.name, entry.answered, "yes" if entry.plans else "no", entry.verified) for entry in self.entries
        )
        return (Sheet("Engines", columns, rows, notes=("`kvcalc engines show NAME` lists settings and versions",)),)


class EnginePage(NamedTuple):
    """Everything known about one engine."""

    entry: EngineEntry

    def to_dict(self) -> dict[str, Json]:
        """Plain values."""
        return self.entry.to_dict()

    def sheets(self) -> tuple[Sheet, ...]:
        """Its settings, and the rules that changed between its versions."""
        entry = self.entry
        version = f" {entry.answered}" if entry.answered else ""
        rows = tuple((setting.name, setting.words, setting.meaning) for setting in entry.settings)
        columns = (Column("setting"), Column("default"), Column("meaning"))
        title, asked = f"{entry.name}: {entry.title}{version}", (("engine", entry.name),)
        settings = Sheet(title, columns, rows, notes=(entry.verified,), asked=asked)
        return (settings, self._rules()) if entry.rules else (settings,)

    def _rules(self) -> Sheet:
        columns = (Column("rule", once=True), Column("before"), Column("since"), Column("value"), Column("source"))
        rows: list[tuple[str, ...]] = []
        for rule in self.entry.rules:
            before = rule.old
            for version, value in rule.since:
                rows.append((rule.what, before, version, value, rule.source))
                before = value
        return Sheet("Rules that changed between versions", columns, tuple(rows))
