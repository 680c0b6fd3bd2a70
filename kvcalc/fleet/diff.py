"""Compares two states of the same deployments: which changed, by how much, and by which fields."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction

from kvcalc.report.check import Finding, Written
from kvcalc.report.diff import Cause, Change

Key = tuple[str, str, int]
"""File and name of a deployment, and its index among those of the same name."""


def changes(
    was: Iterable[Finding],
    now: Iterable[Finding],
    *,
    file_before: Callable[[str], str] = str,
    file_after: Callable[[str], str] = str,
    max_growth: Fraction | None = None,
    otherwise: Cause | None = None,
) -> tuple[tuple[Change, ...], int]:
    """The changes, in the order of `now`, removed deployments last; and the number of unchanged ones.

    file_before, file_after: the common name of a file on both sides. otherwise: cause of changes that no field
    explains.
    """
    before, after = _by_key(was, file_before), _by_key(now, file_after)
    found: list[Change] = []
    unchanged = 0
    for key in (*after, *(key for key in before if key not in after)):
        change = _change(key, before.get(key), after.get(key), max_growth, otherwise)
        unchanged += change is None
        found += [change] if change else []
    return tuple(found), unchanged


def _by_key(findings: Iterable[Finding], known_as: Callable[[str], str]) -> dict[Key, Finding]:
    seen: Counter[tuple[str, str]] = Counter()
    found: dict[Key, Finding] = {}
    for finding in findings:
        name = known_as(finding.file), finding.deployment
        found[*name, seen[name]] = finding
        seen[name] += 1
    return found


def _change(
    key: Key, was: Finding | None, now: Finding | None, max_growth: Fraction | None, otherwise: Cause | None
) -> Change | None:
    file, name, _ = key
    if was is None or now is None:
        return Change(name, file, was, now, max_growth=max_growth)
    causes = tuple(sorted(_causes(was.written, now.written), key=lambda cause: (cause.file, cause.line)))
    if _numbers(was) == _numbers(now):
        return Change(name, file, was, now, causes, max_growth) if causes else None
    if not causes and otherwise:
        causes = (otherwise,)
    return Change(name, file, was, now, causes, max_growth)


def _numbers(finding: Finding) -> tuple[object, ...]:
    """Everything that a change may be about."""
    return (
        *(
            finding.needed_bytes,
            finding.available_bytes,
            finding.max_tokens,
            finding.max_sequences,
            finding.fits,
            finding.missing_host_bytes,
        ),
        *(finding.tokens, finding.sequences, finding.kv_dtype, finding.parallel),
    )


def _causes(was: Iterable[Written], now: Iterable[Written]) -> Iterator[Cause]:
    """Fields that differ between the sides; not those of a file that was replaced by another."""
    before, after = ({(each.of, each.field): each for each in side} for side in (was, now))
    other_files = {field for of, field in {*before, *after} if not of and _value(before, field) != _value(after, field)}
    for key in dict.fromkeys((*after, *before)):
        one, other = before.get(key), after.get(key)
        if key[0] in other_files or (one and other and one.value == other.value):
            continue
        here = other or one
        assert here is not None
        yield Cause(key[1], one and one.value, other and other.value, here.file, here.line)


def _value(side: dict[tuple[str, str], Written], field: str) -> str | None:
    found = side.get(("", field))
    return found and found.value
