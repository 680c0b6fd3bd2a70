"""Errors as values: where it is, what is wrong, and what to try next.

A command prints an error as two lines and ends with its exit code::

    plans/prod.yaml:14: deployments[0].model: no preset is called 'llama4-70b'
    help: did you mean 'llama3-70b'? `kvcalc presets list` shows them all
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, ParamSpec, Self, TypeVar

from kvcalc.errors.foreign import MOST_LISTED, MOST_TEXT, place_shown, quoted, visible

Given = ParamSpec("Given")
Result = TypeVar("Result")


class KvcalcError(Exception):
    """Base of every error that a user can cause. `str()` gives the whole message, location first, on one line.

    what: one sentence with the offending values in it.
    help: what to try next. Every error has it.
    where: location, as `file:line: path.to.field`; empty if the input has none.
    """

    exit_code = 2

    def __init__(self, what: str, *, help: str, where: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.help = help
        self.where = where

    def __str__(self) -> str:
        what = visible(self.what)
        return visible(f"{place_shown(self.where)}: {what}", 2 * MOST_TEXT) if self.where else what

    def __reduce__(self) -> tuple[Any, ...]:
        named = {name: value for name, value in vars(self).items() if name != "what"}
        return partial(type(self), **named), (self.what,)

    def at(self, where: str) -> Self:
        """The same error with its location: used where the file and line of a value are known."""
        self.where = f"{where}: {self.where}" if self.where else where
        return self


class InvalidValueError(KvcalcError):
    """A value has the wrong type, is out of range, or contradicts another one.

    field: name of its field, so that file readers can find its line.
    """

    def __init__(self, what: str, *, help: str, field: str = "", where: str = "") -> None:
        super().__init__(what, help=help, where=where)
        self.field = field


class InvalidFileError(KvcalcError):
    """A file cannot be read, is too large, or has unexpected contents."""


class UnknownNameError(KvcalcError):
    """A name is not among the known ones; the message names the nearest."""

    @classmethod
    def among(cls, noun: str, name: str, known: Iterable[str], *, see: str = "") -> Self:
        """Error for `name`, which is not among the `known` ones; `see` says where the full list is."""
        from difflib import get_close_matches  # slow to import, needed only here

        names = sorted(known)
        lowered = {known_name.lower(): known_name for known_name in names}
        near = [lowered[match] for match in get_close_matches(name.lower(), lowered, n=3, cutoff=0.6)]
        if near:
            hint = f"did you mean {' or '.join(repr(n) for n in near)}?"
        else:
            hint = f"known: {', '.join(names)}" if len(names) <= MOST_LISTED or not see else ""
        hint = f"{hint} {see}".strip()
        return cls(f"no {noun} is called {quoted(name)}", help=hint)


class UnknownArchitectureError(KvcalcError):
    """A model's family is not known. Its cache is never guessed."""


class NotApplicableError(KvcalcError):
    """A method or engine cannot be used on this model; the message says why."""


class RankDiedError(KvcalcError):
    """A process of a parallel verification ended before it reported; the message names it and the cause."""

    exit_code = 1


def located(place: str, read: Callable[Given, Result], *values: Given.args, **named: Given.kwargs) -> Result:
    """Result of `read`; errors name the option or argument of the value, unless they already do."""
    try:
        return read(*values, **named)
    except KvcalcError as error:
        says = error.where or getattr(error, "field", "") == place
        raise error.at(place) if place and not says else error from None
