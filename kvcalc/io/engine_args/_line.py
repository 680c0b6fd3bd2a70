"""A program's arguments, split as by its own parser: flags with values, and positional words.

argparse accepts any unambiguous prefix of a long flag, and so does this parser.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from kvcalc.io.engine_args._program import Program, Spelled
from kvcalc.io.engine_args._rows import Flag, Given
from kvcalc.io.engine_args._secrets import flag_shown

_NUMBER = re.compile(r"-(\d+|\d*\.\d+)([kKmMgG]i?)?")
_WHOLE = re.compile(r"-?\d{1,19}")
_FRACTION = re.compile(r"(-?)(\.\d{1,19}|\d{1,19}\.)")
_DIGIT = re.compile(r"-O=?(\w*)")


class Stray(NamedTuple):
    """A positional word, and its position among the words, from 0."""

    word: str
    at: int


class Unknown(NamedTuple):
    """An unknown or ambiguous flag. could_be: flags with this prefix."""

    name: str
    spelled: str
    at: int
    could_be: tuple[str, ...] = ()


class Line(NamedTuple):
    """The parsed line. wrong: flags without their required value."""

    given: tuple[Given, ...]
    strays: tuple[Stray, ...]
    unknown: tuple[Unknown, ...]
    wrong: tuple[Given, ...]


def divided(words: Sequence[str], program: Program, removed: frozenset[str] = frozenset()) -> Line:
    """Assigns words to flags. removed: flags no longer in this version, not matched by prefix."""
    return _Divider(program, removed).divided(words)


class _Divider:
    """Parser for one program's command line."""

    def __init__(self, program: Program, removed: frozenset[str]) -> None:
        self._program = program
        self._spelled = program.spelled
        self._by_prefix = [
            name for name, spelled in self._spelled.items() if not (spelled.flag.apart or spelled.flag.name in removed)
        ]
        self._given: list[Given] = []
        self._strays: list[Stray] = []
        self._unknown: list[Unknown] = []
        self._wrong: list[Given] = []
        self._dotted: dict[str, Given] = {}

    def divided(self, words: Sequence[str]) -> Line:
        at = 0
        while at < len(words):
            word = words[at]
            at += 1
            if word == "--":
                self._strays.extend(Stray(each, number) for number, each in enumerate(words[at:], at))
                break
            if not _is_flag(word):
                self._strays.append(Stray(word, at - 1))
                continue
            end = at
            while end < len(words) and not _is_flag(words[end]) and words[end] != "--":
                end += 1
            at += self._flag(word, words[at:end], at - 1)
        given = (*self._given, *self._dotted.values())  # vLLM appends these after all others
        return Line(given, tuple(self._strays), tuple(self._unknown), tuple(self._wrong))

    def _flag(self, word: str, following: Sequence[str], at: int) -> int:
        """Adds a flag with its values; returns the number of words used."""
        word = self._level(word)
        written, equals, own = word.partition("=")
        name, dot, inner = self._normal(written).partition(".")
        found, could_be = self._named(name, is_long=written.startswith("--"))
        if found is None:
            self._unknown.append(Unknown(name, flag_shown(written), at, could_be))
            return 0 if equals else min(len(following), 1)
        flag, off = found
        shown = written.partition(".")[0]
        if dot and flag.takes == "value":
            values = [own] if equals else list(following[:1])
            self._add_dotted(Given(flag, shown, tuple(values), at=at), inner)
            return 0 if equals else len(values)
        if equals:
            self._given.append(Given(flag, shown, (own,), off, at))
            return 0
        count = self._count(flag, following)
        given = Given(flag, shown, tuple(following[:count]), off, at)
        if flag.takes in ("value", "values") and not count and not off:
            self._wrong.append(given)
        else:
            self._given.append(given)
        return count

    def _level(self, word: str) -> str:
        """-O3 and -O=3, if the program has an optimisation level."""
        match = _DIGIT.fullmatch(word)
        return (
            f"--optimization-level={match[1]}" if match and match[1] and "optimization-level" in self._spelled else word
        )

    def _normal(self, written: str) -> str:
        if not written.startswith("--"):
            return written.removeprefix("-")
        head, dot, tail = written.removeprefix("--").partition(".")
        return head.replace("_", "-") + dot + tail

    def _named(self, name: str, *, is_long: bool) -> tuple[Spelled | None, tuple[str, ...]]:
        found = self._spelled.get(name)
        if found is not None or not (is_long and self._program.takes_prefixes):
            return found, ()
        names = [known for known in self._by_prefix if known.startswith(name)] if name else []
        meant = {(each.flag.name, each.off): each for each in map(self._spelled.__getitem__, names)}
        return (next(iter(meant.values())), ()) if len(meant) == 1 else (None, tuple(names))

    @staticmethod
    def _count(flag: Flag, following: Sequence[str]) -> int:
        match flag.takes:
            case "switch":
                return 0
            case "value":
                return min(len(following), 1)
            case "maybe":
                return int(bool(following) and following[0].lower() in flag.known)
        return len(following)

    def _add_dotted(self, given: Given, inner: str) -> None:
        before = self._dotted.get(given.flag.name)
        if not given.values:
            self._wrong.append(given)
            return
        parts: dict[str, Any] = dict(before.parts or {}) if before else {}
        put(parts, inner.split("."), given.values[0])
        self._dotted[given.flag.name] = given._replace(parts=parts, at=before.at if before else given.at)


def _is_flag(word: str) -> bool:
    """Whether argparse reads it as a flag: an item with a blank is a word, as is a negative number."""
    if not word.startswith("-") or word == "-" or _NUMBER.fullmatch(word):
        return False
    return not (" " in word.partition("=")[0] or "\n" in word.partition("=")[0])


def put(parts: dict[str, Any], keys: Sequence[str], text: str) -> None:
    """Sets dotted keys as in vLLM: `a.b 1` is {"a": {"b": 1}}, and `a+ x` appends to a list."""
    *path, last = keys
    for key in path:
        below = parts.get(key)
        parts[key] = dict(below) if isinstance(below, Mapping) else {}
        parts = parts[key]
    name, is_list = last.removesuffix("+").replace("-", "_"), last.endswith("+")
    value = plain(text)
    before = parts.get(name)
    parts[name] = [*(before if isinstance(before, list) else []), value] if is_list else value


def with_digits(text: str) -> str:
    """`.9` as 0.9 and `1.` as 1.0, which are not valid JSON."""
    match = _FRACTION.fullmatch(text)
    if match is None:
        return text
    first, last = (int(match[2][place] == ".") for place in (0, -1))
    return f"{match[1]}{'0' * first}{match[2]}{'0' * last}"


def plain(text: str) -> Any:
    """A JSON value, else the text itself."""
    if _WHOLE.fullmatch(text):
        return int(text)
    text = with_digits(text)
    from json import loads

    try:
        value = loads(text)
    except (ValueError, RecursionError):
        return {"True": True, "False": False, "None": None}.get(text, text)
    return text if isinstance(value, str | int) and not isinstance(value, bool) else value
