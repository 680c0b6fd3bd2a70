"""The arguments that an engine is started with, read as its own settings, its layout of ranks, and its model.

    vllm serve deepseek-ai/DeepSeek-R1 --tensor-parallel-size 8 --kv-cache-dtype fp8 --max-model-len 128K

One file for each engine holds what its flags mean:

    COMMANDS: how its command lines begin, as words
    FLAGS: what each flag sets, in each of its spellings without dashes
    SWITCHES: harmless flags that stand alone
    HARMLESS: flags with a value, or words that their names hold, that change nothing in memory
    DEFAULTS: settings of whoever starts it this way, if any
    REFUSED_WITH_REPLICAS: of the harmless flags those that are not where there are several replicas, and why
    REFUSED: flags that change what the cache takes in a way that is not modelled, and why
    ENVIRONMENT: variables before the command that set something

What stands in none of these is told, if nothing in its name speaks of memory; else it is refused: a number never
follows in silence from an argument that was not understood.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from kvcalc.errors import InvalidValueError, NotApplicableError, UnknownNameError
from kvcalc.registry import Registry
from kvcalc.units import parse_tokens, shown

PROGRAMS = Registry("kvcalc.io.engine_args", "engine whose arguments are read")
Kind = Literal["text", "count", "number", "flag", "off", "json", "list"]
_MATTERS = re.compile(
    r"cache|kv|mem|block|page|parallel|batch|seqs|ctx|context|len|dtype|mamba|spec|draft|window|swa|attention|attn|"
    r"offload|quant|layer|lora|gpu|device|expert|ep\b|dp\b|model|config|slot|static|chunk|override|rope"
)
_VARIABLE = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
_NUMBER = re.compile(r"-\d+(\.\d+)?")
_ON, _OFF = ("1", "true", "on", "yes", "enabled"), ("0", "false", "off", "no", "disabled")


class Flag(NamedTuple):
    """What a flag sets.

    to: `model`, `tokens` (of a context), a degree of the layout (tp, pp, dp, dcp), or the name of a setting.
    kind: of its value; `flag` stands alone and means true, `off` means false. instead: values that stand for others.
    """

    to: str
    kind: Kind = "count"
    instead: Mapping[str, Any] = {}


class Arguments(NamedTuple):
    """A command line, read. tokens: that it says of the context; ignored: what it says beside that."""

    engine: str
    model: str | None
    settings: Mapping[str, Any]
    layout: Mapping[str, int]
    tokens: int | None
    ignored: tuple[str, ...]


_LAYOUT = ("tp", "pp", "dp", "dcp")


@lru_cache(maxsize=256)
def read_arguments(text: str, engine: str | None = None) -> Arguments:
    """Arguments of a command line, which begins with the engine's own command unless `engine` names it.

    Raises InvalidValueError for what cannot be read, NotApplicableError for what is not modelled, by name.
    """
    try:
        words = shlex.split(text, comments=False)
    except ValueError as error:
        raise InvalidValueError(
            f"the arguments cannot be split into words: {error}", field="args", help="close the quotes"
        ) from None
    variables, words = _variables([word for word in words if word != "\\\n"])
    name, words = _engine(words, engine)
    return _Reader(name, PROGRAMS.module(name)).read(variables, words)


def _variables(words: list[str]) -> tuple[dict[str, str], list[str]]:
    """Variables in front of a command, and the rest."""
    found: dict[str, str] = {}
    for index, word in enumerate(words):
        match = _VARIABLE.fullmatch(word)
        if match is None or word.startswith("-"):
            return found, words[index:]
        found[match[1]] = match[2]
    return found, []


def _engine(words: list[str], engine: str | None) -> tuple[str, list[str]]:
    """Whose command it is, and what follows it."""
    names = [name.replace("-", "_") for name in PROGRAMS.names()]
    engine = engine and engine.replace("-", "_")
    for name in names:
        for command in PROGRAMS.module(name).COMMANDS:
            start = command.split()
            if [*_base(words[:1]), *words[1 : len(start)]] == start:
                if engine not in (None, name):
                    raise InvalidValueError(
                        f"these are arguments of {name}, and the engine is {engine}",
                        field="args",
                        help="leave engine out, or write the arguments of that engine",
                    )
                return name, words[len(start) :]
    known = [command for name in names for command in PROGRAMS.module(name).COMMANDS]
    if engine is None or (words and not words[0].startswith("-")):
        raise InvalidValueError(
            f"the arguments begin with {shown(' '.join(words[:2]))}, which is no command that is known here",
            field="args",
            help=f"begin with {', '.join(known[:-1])} or {known[-1]}",
        )
    if engine not in names:
        raise UnknownNameError.among("engine whose arguments are read", engine, names)
    return engine, words


def _base(words: list[str]) -> list[str]:
    """The program without its folder."""
    return [word.rsplit("/", 1)[-1] for word in words]


class _Reader:
    """One command line, word by word."""

    def __init__(self, engine: str, module: Any) -> None:
        self._engine = engine
        self._module = module
        self._model: str | None = None
        self._settings: dict[str, Any] = dict(getattr(module, "DEFAULTS", {}))
        self._layout: dict[str, int] = {}
        self._tokens: int | None = None
        self._ignored: list[str] = []

    def read(self, variables: Mapping[str, str], words: list[str]) -> Arguments:
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
            own = value if equals else None
            following = words[at] if at < len(words) and _is_value(words[at]) else None
            if self._flag(name, own, following) and own is None:
                at += 1
        self._check_replicas()
        return Arguments(
            self._engine, self._model, self._settings, self._layout, self._tokens, tuple(dict.fromkeys(self._ignored))
        )

    def _check_replicas(self) -> None:
        """Raises NotApplicableError for what is harmless only where there is one replica."""
        for name, why in getattr(self._module, "REFUSED_WITH_REPLICAS", {}).items():
            if f"--{name}" in self._ignored and self._layout.get("dp", 1) > 1:
                raise NotApplicableError(f"--{name}: {why}", help="give the weights of each GPU with dp: 1")

    def _positional(self, word: str) -> None:
        if self._model is not None or not getattr(self._module, "TAKES_MODEL", False):
            raise InvalidValueError(
                f"{shown(word)} follows no flag that takes it", field="args", help="write --flag value or --flag=value"
            )
        self._model = word

    def _flag(self, name: str, own: str | None, following: str | None) -> bool:
        """Takes in one flag; returns whether the next word was its value."""
        spelled = name.lstrip("-")
        key = spelled.replace("_", "-") if name.startswith("--") else spelled
        known: Flag | None = self._module.FLAGS.get(key)
        if known is None and key.startswith("no-"):
            positive: Flag | None = self._module.FLAGS.get(key.removeprefix("no-"))
            if positive is not None and positive.kind == "flag":
                known = positive._replace(kind="off")
        if known is not None:
            return self._known(name, known, own, following)
        return self._unknown(name, key, own, following)

    def _known(self, name: str, flag: Flag, own: str | None, following: str | None) -> bool:
        if flag.kind in ("flag", "off"):
            spoken = own if own is not None else following
            says = spoken is not None and spoken.lower() in (*_ON, *_OFF)
            self._set(flag, (spoken.lower() in _ON if says and spoken else True) == (flag.kind == "flag"))
            return says and own is None
        text = own if own is not None else following
        if text is None:
            raise InvalidValueError(f"{name} has no value", field="args", help=f"write {name} VALUE or {name}=VALUE")
        self._set(flag, _value(name, flag, text))
        return True

    def _set(self, flag: Flag, value: Any) -> None:
        if flag.to == "model":
            self._model = value
        elif flag.to == "tokens":
            self._tokens = value
        elif flag.to in _LAYOUT:
            self._layout[flag.to] = value
        else:
            self._settings[flag.to] = value

    def _unknown(self, name: str, key: str, own: str | None, following: str | None) -> bool:
        positive = key.removeprefix("no-")
        switches = self._module.SWITCHES
        takes = own is None and following is not None and key not in switches and positive not in switches
        why = self._module.REFUSED.get(key) or self._module.REFUSED.get(key.split(".", maxsplit=1)[0])
        harmless = {*switches, *self._module.HARMLESS}
        if why is None and not ({key, positive} & harmless) and _MATTERS.search(key.lower()):
            why = "what it does to memory is not known here"
        if why is not None:
            raise NotApplicableError(
                f"{name}: {why}",
                help=f"leave it out if it does not matter; of {self._engine}'s flags these are read: "
                f"{', '.join(sorted(f'--{flag}' for flag in self._module.FLAGS if len(flag) > _SHORT))}",
            )
        self._ignored.append(name)
        return takes

    def _variable(self, name: str, value: str) -> None:
        flag = self._module.ENVIRONMENT.get(name)
        if flag is not None:
            self._set(flag, _value(name, flag, value))
        elif self._engine.split("_")[0].upper() in name.upper() and _MATTERS.search(name.lower()):
            raise NotApplicableError(
                f"{name}: what it does to memory is not known here", help="leave the variable out if it does not matter"
            )
        else:
            self._ignored.append(name)


_SHORT = 3
"""Length up to which a flag is another's short form."""


def _is_value(word: str) -> bool:
    return not word.startswith("-") or _NUMBER.fullmatch(word) is not None


def _value(name: str, flag: Flag, text: str) -> Any:
    """Value of a flag's text. Raises InvalidValueError where it is none."""
    if text in flag.instead:
        return flag.instead[text]
    if flag.kind == "text":
        return text
    if flag.kind == "count":
        return 0 if text == "0" else parse_tokens(text, name)
    if flag.kind in ("flag", "off"):
        return text.lower() in _ON
    if flag.kind == "list":
        return [int(part) if part.strip().isdecimal() else part.strip() for part in text.split(",")]
    return _json(name, flag.kind, text)


def _json(name: str, kind: str, text: str) -> Any:
    from json import loads

    try:
        value = loads(text)
    except (ValueError, RecursionError):
        value = None
    wanted: tuple[type, ...] = (int, float) if kind == "number" else (dict,)
    if isinstance(value, bool) or not isinstance(value, wanted):
        what = "a number" if kind == "number" else "a JSON object"
        raise InvalidValueError(
            f"{name} must be {what}, not {shown(text)}", field="args", help="quote it as the engine wants it"
        )
    return value
