"""One command line, word by word, by the tables of its engine."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher, get_close_matches
from typing import Any

from kvcalc.engines.base import engine_class
from kvcalc.engines.base.reading import OFF, ON, Kind, kinds_of, read_value
from kvcalc.errors import InvalidValueError, NotApplicableError
from kvcalc.io.engine_args import Arguments, Flag, Program
from kvcalc.units import shown

_MATTERS = re.compile(
    r"cache|kv|mem|block|page|parallel|batch|seqs|ctx|context|len|dtype|mamba|spec|draft|window|swa|attention|attn|"
    r"offload|quant|layer|lora|gpu|device|expert|ep\b|dp\b|model|config|slot|static|chunk|override|rope"
)
_NUMBER = re.compile(r"-\d+(\.\d+)?")
_LAYOUT = ("tp", "pp", "dp", "dcp")
_SHORT = 3
"""Length up to which a flag is another's short form."""
_TYPO, _NEAR = 0.85, 0.6
"""How alike two names are, of 1, of which one is taken for the other misspelt; and that are worth naming."""


class Reader:
    """A command line of `engine`, by its tables."""

    def __init__(self, engine: str, program: Program) -> None:
        self._engine = engine
        self._program = program
        self._kinds: dict[str, Kind] = {"model": "text", **kinds_of(engine_class(engine))}
        self._model: str | None = None
        self._settings: dict[str, Any] = dict(program.defaults)
        self._layout: dict[str, int] = {}
        self._tokens: int | None = None
        self._passed: set[str] = set()
        self._unknown: list[str] = []

    def read(self, variables: Mapping[str, str], words: Sequence[str]) -> Arguments:
        """All of it. Raises InvalidValueError, NotApplicableError."""
        for name, value in variables.items():
            self._variable(name, value)
        at = 0
        while at < len(words):
            word = words[at]
            at += 1
            if not word.startswith("-") or word == "-":
                self._positional(word)
                continue
            name, equals, value = word.partition("=")
            end = at
            while end < len(words) and _is_value(words[end]):
                end += 1
            at += self._flag(name, value if equals else None, words[at:end])
        self._check_replicas()
        unknown = tuple(dict.fromkeys(self._unknown))
        return Arguments(self._engine, self._model, self._settings, self._layout, self._tokens, unknown)

    def _check_replicas(self) -> None:
        """Raises NotApplicableError for what is harmless only where there is one replica."""
        for name, why in self._program.refused_with_replicas.items():
            if name in self._passed and self._layout.get("dp", 1) > 1:
                raise NotApplicableError(f"--{name}: {why}", help="give the weights of each GPU with dp: 1")

    def _positional(self, word: str) -> None:
        if self._model is not None or not self._program.takes_model:
            raise InvalidValueError(
                f"{shown(word)} follows no flag that takes it", field="args", help="write --flag value or --flag=value"
            )
        self._model = word

    def _flag(self, name: str, own: str | None, following: Sequence[str]) -> int:
        """Takes in one flag, with its own value (--flag=value) or those of the words that follow; returns how many."""
        spelled = name.lstrip("-")
        key, dot, inner = (spelled.replace("_", "-") if name.startswith("--") else spelled).partition(".")
        flags = self._program.flags
        positive = flags.get(key.removeprefix("no-"))
        is_off = key not in flags and positive is not None and self._kind(positive) == "flag"
        flag = positive if is_off else flags.get(key)
        if flag is None:
            return self._other(name, key, own, following)
        kind = self._kind(flag)
        if kind == "flag":
            spoken = own if own is not None else next(iter(following), "")
            says = spoken.lower() in (*ON, *OFF)
            self._set(flag, (not says or spoken.lower() in ON) != is_off)
            return int(says and own is None)
        words = list(following if kind == "list" else following[:1]) if own is None else [own]
        if not words:
            raise InvalidValueError(f"{name} has no value", field="args", help=f"write {name} VALUE or {name}=VALUE")
        if dot and kind == "json":
            self._settings.setdefault(flag.to, {})[inner.replace("-", "_")] = _plain(words[0])
        else:
            self._set(flag, self._value(name, flag, ",".join(words)))
        return 0 if own is not None else len(words)

    def _kind(self, flag: Flag) -> Kind:
        """How the flag's value is read: as its setting's field says; what sets no setting is a count."""
        return self._kinds.get(flag.to, "count")

    def _value(self, name: str, flag: Flag, text: str) -> object:
        """Value of a flag's text. Raises InvalidValueError where it is none."""
        if text in flag.instead:
            return flag.instead[text]
        return read_value(text, self._kind(flag), name)

    def _set(self, flag: Flag, value: Any) -> None:
        if flag.to == "model":
            self._model = value
        elif flag.to == "tokens":
            self._tokens = value
        elif flag.to in _LAYOUT:
            self._layout[flag.to] = value
        else:
            self._settings[flag.to] = value

    def _other(self, name: str, key: str, own: str | None, following: Sequence[str]) -> int:
        """A flag that sets nothing here: passed over, told, or refused. Returns how many words are its values."""
        program, positive = self._program, key.removeprefix("no-")
        why = program.refused.get(key)
        known = bool({key, positive} & {*program.switches, *program.harmless})
        if why is None and not known:
            why = self._suspicion(key)
        if why is not None:
            raise NotApplicableError(f"{name}: {why}", help=self._advice(key))
        self._passed.add(key)
        if not known:
            self._unknown.append(name)
        if own is not None or {key, positive} & program.switches:
            return 0
        return len(following) if key in program.several else len(following[:1])

    def _suspicion(self, key: str) -> str | None:
        """Why an unknown flag is not passed over, if it is not."""
        typo = any(SequenceMatcher(None, key, name).ratio() >= _TYPO for name in self._that_matter())
        if typo or _MATTERS.search(key.lower()):
            return (
                f"{self._engine} is not known to have this flag" if typo else "what it does to memory is not known here"
            )
        return None

    def _advice(self, key: str) -> str:
        if key in self._program.refused:
            return "leave it out if it does not matter"
        near = get_close_matches(key, self._that_matter(), n=3, cutoff=_NEAR)
        meant = f"did you mean {' or '.join(f'--{name}' for name in near)}? Else " if near else ""
        return f"{meant}leave it out if it does not matter"

    def _that_matter(self) -> list[str]:
        return [name for name in (*self._program.flags, *self._program.refused) if len(name) > _SHORT]

    def _variable(self, name: str, value: str) -> None:
        flag = self._program.environment.get(name)
        if flag is not None:
            self._set(flag, self._value(name, flag, value))
        elif self._engine.split("_")[0].upper() in name.upper() and _MATTERS.search(name.lower()):
            raise NotApplicableError(
                f"{name}: what it does to memory is not known here", help="leave the variable out if it does not matter"
            )
        else:
            self._unknown.append(name)


def _is_value(word: str) -> bool:
    return not word.startswith("-") or _NUMBER.fullmatch(word) is not None


def _plain(text: str) -> int | str:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < len(str(2**63)) else text
