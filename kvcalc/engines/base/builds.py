"""Versions of an engine with numbered builds, ordered by the date of their source.

A version is a date (2025-09-01), a build (b5913), or a version of a package with a copy of the source (0.3.16). The
dates of some builds are known and others are interpolated, so a rule's date may be a few days off there.
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
    """A version by its date.

    BUILDS: dates by which some builds existed, ascending. PACKAGES: dates of the copies in a package. Rules change on
    dates, written as dotted numbers (2025.9.1).
    """

    FORMS = ", a build such as b7079, or a date such as 2025-09-01"
    BUILDS: ClassVar[Mapping[int, str]] = {}
    PACKAGES: ClassVar[Mapping[str, str]] = {}

    @classmethod
    def dotted(cls, version: str) -> str:
        """2025.9.1 for a date, a build or a package; empty for anything else."""
        day = cls.day_of(version)
        return "" if day is None else f"{day.year}.{day.month}.{day.day}"

    @classmethod
    @lru_cache(maxsize=1024)  # each rule of an engine asks for it
    def day_of(cls, version: str) -> date | None:
        """Date of a version's source."""
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
    """Date of a build, interpolated between the two nearest known ones; extrapolated beyond them."""
    if not days:
        return None
    pairs = list(pairwise(days.items()))
    (first, since), (last, until) = next((pair for pair in pairs if build <= pair[1][0]), pairs[-1])
    return since + (until - since) * (build - first) / (last - first)
