"""Search for the explanation of a difference: every setting missing in a log, alone and then in pairs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

from kvcalc.engines import Engine
from kvcalc.engines.base.versions import number_of
from kvcalc.errors import KvcalcError
from kvcalc.fleet.explain._reading import Explainer, Reading
from kvcalc.model import Model, with_draft_layers
from kvcalc.parallel import Parallel
from kvcalc.report.log import Compared
from kvcalc.report.sheet import Json

_MTP, _VERSION = "mtp", "version"
Change = Mapping[str, Json]


class Asked(NamedTuple):
    """The question about a log, before any change."""

    model: Model
    reading: Reading
    settings: Mapping[str, Json]
    ranks: Mapping[str, int]
    explainer: Explainer

    def under(self, change: Change) -> tuple[Compared, ...] | None:
        """The numbers with `change` applied; None if the engine refuses it."""
        try:
            model, settings, ranks = self.changed(change)
            return self.explainer.compare(model, self.reading, settings, ranks)
        except KvcalcError:
            return None

    def changed(self, change: Change) -> tuple[Model, Mapping[str, Json], Parallel]:
        """Model, settings and ranks with `change`. Raises NotApplicableError for drafts that the model lacks."""
        degrees = {name: self.ranks.get(name, 1) for name in ("tp", "pp", "dp", "dcp")}
        degrees |= {name: value for name, value in change.items() if name in degrees and isinstance(value, int)}
        others = {name: value for name, value in change.items() if name not in (*degrees, _MTP)}
        model = with_draft_layers(self.model) if _MTP in change else self.model
        return model, {**self.settings, **others}, Parallel(**degrees)


class Found(NamedTuple):
    """Explanations of a difference: changes, the same in words, and how many were tried."""

    changes: tuple[Change, ...]
    words: tuple[str, ...]
    tried: int


def explanations(asked: Asked, compared: tuple[Compared, ...] | None) -> Found:
    """Single changes that make all numbers equal; if there are none, pairs of changes, then threes of the usual ones.

    compared: without any change; None if the engine refuses. A change that alone affects no number is not tried in
    pairs; one that is refused alone is, together with one that affects something (dcp with tp).
    """
    single = [(change, asked.under(change)) for change in _changes(asked) if _is_another(asked, change)]
    found = [change for change, under in single if _agree(under)]
    if found:
        return Found(tuple(found), _in_words(asked, found), len(single))
    moving = list(_moving(single, compared))
    pairs = [
        {**one, **other}
        for (one, moves), (other, moves_too) in combinations(moving, 2)
        if not one.keys() & other.keys() and (moves or moves_too)
    ]
    found = [change for change in pairs if _agree(asked.under(change))]
    triples = [] if found else list(_triples(asked, moving))
    found = found or [change for change in triples if _agree(asked.under(change))]
    return Found(tuple(found), _in_words(asked, found), len(single) + len(pairs) + len(triples))


def _triples(asked: Asked, moving: Sequence[tuple[Change, bool]]) -> Iterator[Change]:
    """Three changes at once, of those that are often made together."""
    usual = [change for change, _ in moving if change.keys() <= set(asked.explainer.usual)]
    for one, two, three in combinations(usual, 3):
        if len({*one, *two, *three}) == 3:  # noqa: PLR2004
            yield {**one, **two, **three}


def _moving(
    single: Sequence[tuple[Change, tuple[Compared, ...] | None]], before: tuple[Compared, ...] | None
) -> Iterator[tuple[Change, bool]]:
    """Changes to try together, and whether each alone affects a number or the engine's refusal.

    Of versions that predict the same numbers, only the last.
    """
    last = {_numbers(under): change for change, under in single if _VERSION in change}
    for change, under in single:
        if _VERSION in change and last[_numbers(under)] is not change:
            continue
        moves = under is not None and (before is None or _numbers(under) != _numbers(before))
        if moves or under is None:
            yield change, moves


def _agree(compared: tuple[Compared, ...] | None) -> bool:
    return compared is not None and all(one.agrees for one in compared)


def _numbers(compared: Sequence[Compared] | None) -> tuple[str, ...]:
    return tuple(one.predicted for one in compared or ())


def _changes(asked: Asked) -> Iterator[Change]:
    """Every single change: of a setting, of the ranks, or of the layers for multi-token prediction."""
    explainer, of_weights = asked.explainer, asked.reading.weights_bytes is not None
    for names in (explainer.others, explainer.of_weights if of_weights else {}, explainer.ranks):
        for name, values in names.items():
            yield from ({name: value} for value in values)
    yield from ({_VERSION: version} for version in _versions(asked.reading.engine))
    if asked.model.draft_groups:
        yield {_MTP: True}


def _versions(engine: str) -> list[str]:
    """Versions at which rules changed, ascending: one for each range of equal versions."""
    release = Engine.of(engine).RELEASE
    if release is None:
        return []
    changed = {version for rule in release.rules().values() for version in rule.since}
    known = [version for version in changed if release.nearest(version) == version]
    return [release.oldest(), *sorted(known, key=lambda version: number_of(version) or ())]


def _is_another(asked: Asked, change: Change) -> bool:
    """Whether a change has an effect and does not contradict the log."""
    ((name, value),) = change.items()
    said = {**asked.reading.settings, **asked.reading.ranks}
    contradicts = name in said and said[name] not in ("auto", value)
    contradicts = contradicts or (isinstance(value, int) and value < asked.reading.seen.get(name, 0))
    return not contradicts and bool(value != {**asked.settings, **asked.ranks}.get(name))


def _in_words(asked: Asked, found: Sequence[Change]) -> tuple[str, ...]:
    """Each change in words; consecutive versions are one change, named by the last."""
    versions = _versions(asked.reading.engine)
    words: list[str] = []
    for number, change in enumerate(found):
        after = found[number + 1] if number + 1 < len(found) else {}
        if not _is_next_version(versions, change, after):
            words.append(" and ".join(name if name == _MTP else f"{name}={value}" for name, value in change.items()))
    return tuple(words)


def _is_next_version(versions: Sequence[str], change: Change, after: Change) -> bool:
    """Whether the next change is the same with the following version."""
    old, new = change.get(_VERSION), after.get(_VERSION)
    others = [{name: value for name, value in each.items() if name != _VERSION} for each in (change, after)]
    if old not in versions or new not in versions or others[0] != others[1]:
        return False
    return versions.index(str(new)) == versions.index(str(old)) + 1
