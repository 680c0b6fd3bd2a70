"""Rows of an engine's command line: the name of a flag, what values it takes, and what it does to the cache.

A flag is one row of one table. What it does is one of

    Sets       a setting of the engine
    Degree     a degree of the layout: tp, pp, dp or dcp
    Names      the model, or the tokens of a context
    Weighs     changes what the weights or the rest of the memory take, and leaves the cache as it is
    Ignored    nothing of either, and why
    Kept       decides, in an engine that is not modelled
    Refused    changes the cache in a way that is not modelled, and why
    Reads      something of its own: a function of `_own.py` or `_objects.py`
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

if TYPE_CHECKING:
    from kvcalc.io.engine_args._reading import Reading

Takes = Literal["value", "switch", "values", "maybe"]
"""A value; none; all words up to the next flag; or a value where the next word is one of those that it knows."""
Degrees = Literal["tp", "pp", "dp", "dcp"]


class Given(NamedTuple):
    """A flag as it was written. spelled: as a message may quote it; values: its words; off: its `no-` form.

    at: its place among the words, from 0; None where a variable gives it. parts: what dotted keys say together, as
    --speculative-config.method mtp.
    """

    flag: Flag
    spelled: str
    values: tuple[str, ...]
    off: bool = False
    at: int | None = None
    parts: Mapping[str, Any] | None = None

    @property
    def text(self) -> str:
        """Its value, or several with commas."""
        return ",".join(self.values)


@dataclass(frozen=True)
class Sets:
    """A setting of the engine. instead: values that stand for others."""

    setting: str
    instead: Mapping[str, object] = field(default_factory=dict)
    decides: ClassVar[bool] = True

    def read(self, given: Given, reading: Reading) -> None:
        """Takes the value as the engine's own field has it."""
        value = reading.value(given, self.setting, self.instead)
        if value is not None:
            reading.settings[self.setting] = value


@dataclass(frozen=True)
class Degree:
    """A degree of the layout of ranks."""

    degree: Degrees
    decides: ClassVar[bool] = True

    def read(self, given: Given, reading: Reading) -> None:
        """Takes a count."""
        value = reading.value(given, self.degree)
        if isinstance(value, int):
            reading.parallel[self.degree] = value


@dataclass(frozen=True)
class Names:
    """The model, or the tokens of a context."""

    what: Literal["model", "tokens"]

    @property
    def decides(self) -> bool:
        """Tokens decide the cache; the model stands apart."""
        return self.what == "tokens"

    def read(self, given: Given, reading: Reading) -> None:
        """Takes a name, or a count of tokens."""
        reading.names(self.what, given)


@dataclass(frozen=True)
class Weighs:
    """Leaves the cache as it is, and changes what else the GPU holds.

    needs: what a fit on a GPU must be given for it: `weights`, `reserve`, or `ranks`, which it cannot be given.
    """

    why: str
    needs: Literal["weights", "reserve", "ranks"]
    decides: ClassVar[bool] = True

    def read(self, given: Given, reading: Reading) -> None:
        """Notes that a fit of weights and cache needs to know."""
        if not given.off:
            reading.weighs(given, self.why, self.needs)


@dataclass(frozen=True)
class Ignored:
    """Changes no cache. tells: whether a reader is to know."""

    why: str
    tells: bool = False
    decides: ClassVar[bool] = False

    def read(self, given: Given, reading: Reading) -> None:
        """Notes why."""
        reading.ignores(given, self.why, tells=self.tells)


@dataclass(frozen=True)
class Kept:
    """Decides the cache of an engine that is not modelled."""

    decides: ClassVar[bool] = True

    def read(self, given: Given, reading: Reading) -> None:
        """Does nothing: the normal form has it."""


@dataclass(frozen=True)
class Refused:
    """Changes the cache in a way that is not modelled.

    unless: another flag that settles it. nothing: values that ask for nothing. only_off: it is its `no-` form.
    """

    why: str
    help: str = "leave it out if it does not matter"
    unless: str = ""
    nothing: tuple[str, ...] = ()
    only_off: bool = False
    decides: ClassVar[bool] = True

    def read(self, given: Given, reading: Reading) -> None:
        """Refuses by name, unless another flag settles it or the value is the default that asks for nothing."""
        if given.flag.takes == "switch" and given.off is not self.only_off:
            return
        if given.text in self.nothing or (self.unless and reading.has(self.unless)):
            reading.ignores(
                given, "its value asks for nothing" if given.text in self.nothing else f"--{self.unless} decides"
            )
            return
        reading.refuse(given, self.why, self.help)


@dataclass(frozen=True)
class Reads:
    """Something of its own."""

    function: Callable[[Given, Reading], None]
    decides: bool = True

    def read(self, given: Given, reading: Reading) -> None:
        """Calls it."""
        self.function(given, reading)


Effect = Sets | Degree | Names | Weighs | Ignored | Kept | Refused | Reads


class Flag(NamedTuple):
    """A row: the name in the engine's help, without dashes, what it does, its other spellings, what values it takes.

    known: values of one that may stand alone. until: the last version that has it. apart: whether it is another
    program's that goes on as this one, so that no beginning of a flag means it. off: others of its `no-` form.
    """

    name: str
    does: Effect
    also: tuple[str, ...] = ()
    takes: Takes = "value"
    known: tuple[str, ...] = ()
    until: str = ""
    apart: bool = False
    off: tuple[str, ...] = ()

    @property
    def spellings(self) -> tuple[str, ...]:
        """All of its names."""
        return (self.name, *self.also)


class Variable(NamedTuple):
    """A variable before a command, or in its environment: the same as a flag, or a row of its own."""

    name: str
    flag: Flag


def words(text: str) -> tuple[str, ...]:
    """Names separated by blanks."""
    return tuple(text.split())


def rows(
    does: Effect, *, value: str = "", switch: str = "", values: str = "", until: str = "", apart: bool = False
) -> Iterator[Flag]:
    """A row for each name that does the same; `host|hostname` are two spellings of one."""
    by_takes: dict[Takes, str] = {"value": value, "switch": switch, "values": values}
    for takes, names in by_takes.items():
        for name, *also in (spelled.split("|") for spelled in names.split()):
            yield Flag(name, does, tuple(also), takes, until=until, apart=apart)
