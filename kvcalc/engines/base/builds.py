"""Versions of an engine that numbers its builds: ordered by the day of their source.

A version is a day (2025-09-01), a build (b5913), or one of a package that holds a copy of the source (0.3.16). Days of
builds are known for some of them, and lie in proportion between those; so a rule's day may be a few days off there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from functools import lru_cache
from itertools import pairwise
from typing import ClassVar

from kvcalc.engines.base.versions import Number, Release

_DAY = re.compile(r"([0-9]{4})[-.]([0-9]{1,2})[-.]([0-9]{1,2})")
_BUILD = re.compile(r"b[0-9]{1,6}")


class DatedRelease(Release):
    """A version by its day.

    BUILDS: days by which some builds were there, ascending. PACKAGES: days of the copies that a package holds. Rules
    change on days, written as dotted numbers (2025.9.1).
    """

    FORMS = ", a build such as b7079, or a day such as 2025-09-01"
    BUILDS: ClassVar[Mapping[int, str]] = {}
    PACKAGES: ClassVar[Mapping[str, str]] = {}

    @classmethod
    def dotted(cls, version: str) -> str:
        """2025.9.1 for a day, a build or a package of it; empty for what is none of them."""
        day = cls.day_of(version)
        return "" if day is None else f"{day.year}.{day.month}.{day.day}"

    @classmethod
    @lru_cache(maxsize=1024)  # each rule of an engine asks for it
    def day_of(cls, version: str) -> date | None:
        """Day of a version's source."""
        if _BUILD.fullmatch(version):
            return _between({build: date.fromisoformat(day) for build, day in cls.BUILDS.items()}, int(version[1:]))
        written = _DAY.fullmatch(cls.PACKAGES.get(version, version))
        try:
            return date(*map(int, written.groups())) if written else None
        except ValueError:  # such as 2025-02-30
            return None

    @classmethod
    def _spelled(cls, text: str, number: Number) -> str:
        del number
        return text


def _between(days: Mapping[int, date], build: int) -> date | None:
    """Day of a build, in proportion between the two known ones that it lies between; beyond them at their pace."""
    if not days:
        return None
    pairs = list(pairwise(days.items()))
    (first, since), (last, until) = next((pair for pair in pairs if build <= pair[1][0]), pairs[-1])
    return since + (until - since) * (build - first) / (last - first)
