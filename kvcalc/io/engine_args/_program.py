"""A program that serves models: its commands, the rows of its flags and variables, and its images."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from kvcalc.io.engine_args._rows import Flag, Names, Variable

_SHORT = 3
"""Longest short form of a flag."""


class Spelled(NamedTuple):
    """The meaning of a flag name: the flag, or its `no-` form."""

    flag: Flag
    off: bool = False


@dataclass(frozen=True, eq=False)
class Program:
    """An engine's command line, as tables.

    title: as its authors write it. engine: of kvcalc, None if it is not modelled; `decides` then names what would
    decide its cache.
    commands: its commands, as words. flags, variables: rows.
    own_variables: prefixes of its own variables; harmless: those without effect on the cache, or their prefixes
    (`NAME_*`); not_served: variables of workloads without a decoder's KV cache.
    defaults: settings of this program, and of single commands (defaults_of); tokens: its default context; length: the
    setting for the longest request.
    takes_model: whether the model is a positional argument; takes_text: whether a prompt may follow it. takes_prefixes:
    whether a prefix of a flag is that flag; turns_around: whether --disable-X is the opposite of --enable-X.
    images: what the names of images match whose tag is its version; starts: whether a container of such an image runs
    the program with the arguments that it is given. built: what the names of images hold that others build of it;
    by_variables: whether variables may say all that flags say. shown_by: variables that show that such an image starts
    it, where it has no arguments.
    config_flags: those that name a YAML file of further arguments, and whether it overrides the line (file_wins).
    """

    title: str
    engine: str | None
    commands: tuple[str, ...]
    flags: tuple[Flag, ...]
    variables: tuple[Variable, ...] = ()
    own_variables: tuple[str, ...] = ()
    harmless: tuple[str, ...] = ()
    not_served: tuple[str, ...] = ()
    defaults: Mapping[str, object] = field(default_factory=dict)
    defaults_of: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    tokens: int | None = None
    length: str = ""
    takes_model: bool = False
    takes_text: bool = False
    takes_prefixes: bool = False
    turns_around: bool = False
    images: tuple[str, ...] = ()
    starts: bool = False
    built: str = ""
    by_variables: bool = False
    shown_by: tuple[str, ...] = ()
    config_flags: tuple[str, ...] = ()
    file_wins: bool = False
    decides: str = ""

    def is_of(self, image: str) -> bool:
        """Whether an image is one of the program's own."""
        name = image.partition("@")[0].lower()
        return any(re.search(pattern, name) for pattern in self.images)

    @cached_property
    def spelled(self) -> Mapping[str, Spelled]:
        """All names of its flags, and their meaning."""
        found = {name: Spelled(flag) for flag in self.flags for name in flag.spellings}
        for flag in self.flags:
            if flag.takes == "switch":
                for name in (*flag.off, *self._turned_off(flag.spellings)):
                    found.setdefault(name, Spelled(flag, True))
        return found

    @cached_property
    def deciding_variables(self) -> tuple[str, ...]:
        """Variables that decide its cache."""
        return tuple(variable.name for variable in self.variables if variable.flag.does.decides)

    @cached_property
    def that_matter(self) -> tuple[str, ...]:
        """Names of the flags that decide something, without short forms."""
        matter = (flag for flag in self.flags if flag.does.decides or isinstance(flag.does, Names))
        return tuple(name for flag in matter for name in flag.spellings if len(name) > _SHORT)

    def _turned_off(self, names: Iterable[str]) -> Iterable[str]:
        for name in names:
            yield f"no-{name}"
            if self.turns_around and name.startswith("enable-"):
                yield f"disable-{name.removeprefix('enable-')}"
            if self.turns_around and name.startswith("disable-"):
                yield f"enable-{name.removeprefix('disable-')}"


_TAG = re.compile(r":(?:[a-z][a-z0-9]*-)*v?(\d+\.\d+(?:\.\d+)?)(?:[.-]?(post|rc)\d+)?(?![\w.]*/)", re.IGNORECASE)
_TAGGED_BY_OTHERS = re.compile(r"(?:^|/)lmcache/")
"""Images with an engine whose tag is another product's version."""
_BUILD = re.compile(r":(?:[a-z0-9]+-)*(b\d{3,6})$")


def version_of(image: str) -> str | None:
    """The version in an image's tag; None for latest, nightly, a digest, or another image's tag."""
    name = image.partition("@")[0]
    if _TAGGED_BY_OTHERS.search(name):
        return None
    found = _TAG.search(name) or _BUILD.search(name)
    return found[1] if found else None
