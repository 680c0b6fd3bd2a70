"""Rows of an engine's command line: a flag's name, its values, and its effect on the cache.

A flag is one row of one table. What it does is one of

    Sets       a setting of the engine
    Degree     a degree of the layout: tp, pp, dp or dcp
    Names      the model, or the tokens of a context
    Weighs     changes the memory of the weights or the rest, but not the cache
    Ignored    has no effect on either, with the reason
    Kept       decides the cache of an engine that is not modelled
    Refused    changes the cache in a way that is not modelled, with the reason
    Reads      special parsing: a function of `_own.py` or `_objects.py`
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

if TYPE_CHECKING:
    from kvcalc.io.engine_args._reading import Reading

Takes = Literal["value", "switch", "values", "maybe"]
"""One value; none; all words up to the next flag; or one if the next word is a known value."""
Degrees = Literal["tp", "pp", "dp", "dcp"]


class Given(NamedTuple):
    """A flag as written. spelled: for messages; values: its words; off: its `no-` form.

    at: its position among the words, from 0; None if given by a variable. parts: combined dotted keys, such as
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
        """Its value, or several joined by commas."""
        return ",".join(self.values)


@dataclass(frozen=True)
class Sets:
    """A setting of the engine. instead: values that map to others."""

    setting: str
    instead: Mapping[str, object] = field(default_factory=dict)
    decides: ClassVar[bool] = True

    def read(self, given: Given, reading: Reading) -> None:
        """Sets the value, typed as the engine's field."""
        value = reading.value(given, self.setting, self.instead)
        if value is not None:
            reading.settings[self.setting] = value


@dataclass(frozen=True)
class Degree:
    """A degree of the layout of ranks."""

    degree: Degrees
    decides: ClassVar[bool] = True

    def read(self, given: Given, reading: Reading) -> None:
        """Sets a count."""
        value = reading.value(given, self.degree)
        if isinstance(value, int):
            reading.parallel[self.degree] = value


@dataclass(frozen=True)
class Names:
    """The model, or the tokens of a context."""

    what: Literal["model", "tokens"]

    @property
    def decides(self) -> bool:
        """Tokens decide the cache; the model is separate."""
        return self.what == "tokens"

    def read(self, given: Given, reading: Reading) -> None:
        """Sets a name, or a token count."""
        reading.names(self.what, given)


@dataclass(frozen=True)
class Weighs:
    """Does not change the cache, but other memory on the GPU.

    needs: what a fit on a GPU then requires: `weights`, `reserve`, or `ranks`, which cannot be given.
    """

    why: str
    needs: Literal["weights", "reserve", "ranks"]
    decides: ClassVar[bool] = True

    def read(self, given: Given, reading: Reading) -> None:
        """Records what a fit of weights and cache must know."""
        if not given.off:
            reading.weighs(given, self.why, self.needs)


@dataclass(frozen=True)
class Ignored:
    """Does not change the cache. tells: whether it is worth a note."""

    why: str
    tells: bool = False
    decides: ClassVar[bool] = False

    def read(self, given: Given, reading: Reading) -> None:
        """Records the reason."""
        reading.ignores(given, self.why, tells=self.tells)


@dataclass(frozen=True)
class Kept:
    """Decides the cache of an engine that is not modelled."""

    decides: ClassVar[bool] = True

    def read(self, given: Given, reading: Reading) -> None:
        """Does nothing: the normal form contains it."""


@dataclass(frozen=True)
class Refused:
    """Changes the cache in a way that is not modelled.

    unless: another flag that decides instead. nothing: values without effect. only_off: only its `no-` form.
    """

    why: str
    help: str = "remove it if it does not matter"
    unless: str = ""
    nothing: tuple[str, ...] = ()
    only_off: bool = False
    decides: ClassVar[bool] = True

    def read(self, given: Given, reading: Reading) -> None:
        """Refuses by name, unless another flag decides or the value has no effect."""
        if given.flag.takes == "switch" and given.off is not self.only_off:
            return
        if given.text in self.nothing or (self.unless and reading.has(self.unless)):
            reading.ignores(
                given, "its value has no effect" if given.text in self.nothing else f"--{self.unless} decides"
            )
            return
        reading.refuse(given, self.why, self.help)


@dataclass(frozen=True)
class Reads:
    """Special parsing."""

    function: Callable[[Given, Reading], None]
    decides: bool = True

    def read(self, given: Given, reading: Reading) -> None:
        """Calls it."""
        self.function(given, reading)


Effect = Sets | Degree | Names | Weighs | Ignored | Kept | Refused | Reads


class Flag(NamedTuple):
    """A row: the name in the engine's help without dashes, its effect, other spellings, and values.

    known: values, if its value is optional. until: the last version that has it. apart: whether it belongs to a wrapper
    program, so that no prefix matches it. off: other spellings of its `no-` form.
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
        """All its names."""
        return (self.name, *self.also)


class Variable(NamedTuple):
    """A variable before a command or in its environment: equivalent to a flag, or its own row."""

    name: str
    flag: Flag


def words(text: str) -> tuple[str, ...]:
    """Names separated by blanks."""
    return tuple(text.split())


def rows(
    does: Effect, *, value: str = "", switch: str = "", values: str = "", until: str = "", apart: bool = False
) -> Iterator[Flag]:
    """A row for each name with the same effect; `host|hostname` are two spellings of one."""
    by_takes: dict[Takes, str] = {"value": value, "switch": switch, "values": values}
    for takes, names in by_takes.items():
        for name, *also in (spelled.split("|") for spelled in names.split()):
            yield Flag(name, does, tuple(also), takes, until=until, apart=apart)
