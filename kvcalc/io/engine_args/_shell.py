"""The commands in a shell text: words and variables of each. Nothing is ever run.

Assignments apply to what follows; if a condition can be decided from the text, only the branch taken is read; otherwise
what it assigns is unknown.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from kvcalc.errors import InvalidValueError
from kvcalc.io.engine_args._lexer import ASSIGNED, UNKNOWN_OUTPUT, Lexer, Value

UNKNOWN = re.compile(
    r"\$\([A-Za-z_]\w*\)|\$\(\.\.\.\)|\$\{[^}]{0,80}\}|\$[A-Za-z_]\w*|\{\{.{0,200}?\}\}|<[A-Z][A-Z0-9_-]+>", re.DOTALL
)
"""A variable, a template or command output in a word: something unset here."""
_LEFT_OPEN = re.compile(r"<[A-Za-z][\w ./:|-]{0,80}>|\.\.\.|\u2026")
_CONTINUED = re.compile(r"(?:(?<=\s)|(?<=^))\\[ \t]+|[ \t][\^`](?=\r?\n)\r?\n")
"""A backslash at the end of a line folded by YAML; and line continuations of Windows shells."""
_BLANKS = str.maketrans("\u00a0\u2007\u202f", "   ")
"""Non-breaking spaces from web pages in a pasted line."""
_WINDOWS = re.compile(r"(?:(?<=\s)|(?<=^))(?:\.{1,2}|[A-Za-z]:)?(?:\\[\w .()-]+?)+\.exe(?=\s|$)", re.IGNORECASE)
_UNSET = re.compile(r"\$\{([A-Za-z_]\w*)\}")
_OF_MACHINE = re.compile(r"(?:RANK|INDEX|NODE_?ID|PROC_?ID|LOCAL_?ID|HOSTNAME|HOST_?IP)$", re.IGNORECASE)
"""Variables that identify one of several machines: set by their launcher, never empty."""
_DEEPEST = 5
"""Files that source one another."""
_LONGEST = 64 * 1024
"""Longest value of a variable, in characters."""
_OPENS = {"if": "if", "while": "loop", "until": "loop", "for": "list", "select": "list", "case": "list"}
_CLOSES = ("fi", "done", "esac")
_SETS = ("export", "declare", "local", "readonly", "typeset")
_TESTS = ("[", "[[", "test")
_ENDS_OF_COMMANDS = ("then", "do", "else", "elif", "{", "}", "!", "function", *_OPENS, *_CLOSES)


def is_left_open(text: str) -> bool:
    """Whether a word is a placeholder: `<model>`, or three dots."""
    return _LEFT_OPEN.fullmatch(text) is not None


class Statement(NamedTuple):
    """A command: its words, visible variables, and line. sure: whether it is unconditional.

    files: written by the text before it, by path.
    """

    words: tuple[str, ...]
    variables: Mapping[str, str]
    line: int
    sure: bool = True
    files: Mapping[str, str] = {}


class _Block(NamedTuple):
    """An open `if` or loop. runs: whether the branch is taken, None if unknown; was: whether one was."""

    kind: str
    runs: bool | None = None
    was: bool | None = False


def statements(
    text: str, environment: Mapping[str, str] | None = None, opener: Callable[[str], str | None] = lambda _: None
) -> list[Statement]:
    """Commands of a text. environment: of the caller; without one no `${A:-default}` is used.

    opener: the words of a file that the text sources; None if it is missing.

    Raises InvalidValueError for a quote or bracket that is not closed.
    """
    plain = _CONTINUED.sub(" ", text.translate(_BLANKS))
    unfolded = _WINDOWS.sub(lambda match: match[0].replace("\\", "/").replace(" ", "_"), plain)
    return list(_Shell(unfolded, environment, opener).run())


class _Shell:
    """Parses a text into commands."""

    def __init__(
        self, text: str, environment: Mapping[str, str] | None, opener: Callable[[str], str | None], depth: int = 0
    ) -> None:
        self._opener, self._depth = opener, depth
        self._values: dict[str, Value] = dict(environment or {})
        self._exported = set(self._values)
        self._lexer = Lexer(text, self._values, defaults=environment is not None)
        self._blocks: list[_Block] = []
        self._status: bool | None = True
        self._tested = False
        self._joined = ""
        self._doubtful: set[str] = set()

    def run(self) -> Iterator[Statement]:
        """Commands in order."""
        ended = False
        while not ended:
            statement, operator = self._statement()
            ended = operator is None
            if statement is not None:
                yield statement
            self._joined = operator or ""

    def _runs(self) -> bool | None:
        """Whether the current command runs; None if unknown."""
        states = [block.runs for block in self._blocks]
        if self._joined in ("&&", "||"):
            happy = self._status if self._status is not None or self._tested else True
            states.append(happy if self._joined == "&&" or happy is None else not happy)
        return False if False in states else None if None in states else True

    def _statement(self) -> tuple[Statement | None, str | None]:
        words: list[str] = []
        own: dict[str, str] = {}
        before = dict(self._values)
        line = 0
        while True:
            if not words or words[0] in _SETS:
                start = self._lexer.at
                assigned = self._lexer.assignment()
                if assigned is not None:
                    own |= self._assigned(*assigned, exported=bool(words))
                    continue
                self._lexer.at = start
            token = self._lexer.token()
            if token is None or token.operator:
                return self._finished(words, own, line), token and token.operator
            if not words and not token.quoted and self._keyword(token.words):
                continue
            line = line or token.line
            if not words:
                self._restore(own, before)  # A=b before a command applies to that command only
            words.extend(token.words)

    def _assigned(self, name: str, added: str, value: Value, *, exported: bool) -> dict[str, str]:
        runs = self._runs()
        if runs is False:
            return {}
        before = self._values.get(name)
        if added and before is not None:
            value = (
                (*before, *((value,) if isinstance(value, str) else value))
                if isinstance(before, tuple)
                else before + (value if isinstance(value, str) else " ".join(value))
            )
        if sum(map(len, value)) > _LONGEST:
            value = UNKNOWN_OUTPUT  # A=$A$A without end
        if runs is None and value != before:
            self._values[name] = f"${{{name}}}"  # set or not, and nothing stands in for it
            self._doubtful.add(name)
            return {}
        self._doubtful.discard(name)
        self._values[name] = value
        if exported:
            self._exported.add(name)
        self._status, self._tested = True, False
        return {name: value if isinstance(value, str) else " ".join(value)}

    def _keyword(self, words: tuple[str, ...]) -> bool:
        """Handles a word that begins or ends a block, if it does."""
        word = words[0] if len(words) == 1 else ""
        if word not in _ENDS_OF_COMMANDS:
            return False
        if word in _OPENS:
            self._blocks.append(_Block(_OPENS[word], True if _OPENS[word] != "list" else None))
        elif word in _CLOSES and self._blocks:
            self._blocks.pop()
        elif word in ("then", "do") and self._blocks:
            block = self._blocks[-1]
            runs = (self._status if self._tested else None) if block.kind == "if" else None
            self._blocks[-1] = block._replace(runs=runs, was=True if runs else block.was if runs is False else None)
        elif word in ("else", "elif") and self._blocks:
            was = self._blocks[-1].was
            self._blocks[-1] = self._blocks[-1]._replace(runs=None if was is None else not was)
        self._joined = ""
        return True

    def _is_there(self, operands: Sequence[str]) -> bool:
        """Whether a test asks for an existing file; a missing one may exist where the script runs."""
        match [word for word in operands if word not in ("]", "]]")]:
            case ["-f" | "-e" | "-r" | "-s", path]:
                return self._opener(path) is not None
        return False

    def _unset_as_empty(self, word: str) -> str:
        """A word of a test; unset variables are empty if the environment is known."""
        match = _UNSET.fullmatch(word)
        known = match is not None and self._lexer.defaults and not _OF_MACHINE.search(match[1])
        return "" if match and known and match[1] not in self._doubtful else word

    def _is_done_here(self, words: Sequence[str], *, runs: bool) -> bool:
        """Whether a command is the shell's own and changes its variables, and the change."""
        match words:
            case ["set", *rest] if "--" in rest:
                self._arguments(rest[rest.index("--") + 1 :])
            case ["shift", *_]:
                held = self._values.get("@", ())
                self._arguments(held[1:] if isinstance(held, tuple) else ())
            case ["source" | ".", path, *_] if runs:
                self._source(path)
            case _:
                return False
        return True

    def _arguments(self, words: Sequence[str]) -> None:
        """Sets the arguments of the script, as `set --` does."""
        for number in range(1, 10):
            self._values.pop(str(number), None)
        self._values["@"] = tuple(words)
        self._values.update({str(number): word for number, word in enumerate(words[:9], 1)})

    def _source(self, path: str) -> None:
        """Takes in what another file assigns."""
        words = self._opener(path) if self._depth < _DEEPEST else None
        if words is None:
            return
        inner = _Shell(words, {} if self._lexer.defaults else None, self._opener, self._depth + 1)
        inner._values.update(self._values)
        try:
            deque(inner.run(), maxlen=0)
        except InvalidValueError:
            return
        self._values.update(inner._values)
        self._exported |= inner._exported - {"@"}

    def _restore(self, own: Mapping[str, str], before: Mapping[str, Value]) -> None:
        """Undoes assignments."""
        for name in own:
            self._values.pop(name, None)
            self._values.update({name: before[name]} if name in before else {})

    def _finished(self, words: list[str], own: Mapping[str, str], line: int) -> Statement | None:
        runs = self._runs()
        if not words or runs is False:
            return None
        if words[0] in _SETS:
            self._exported.update(word for word in words[1:] if not ASSIGNED.match(word))
            return None
        if self._is_done_here(words, runs=runs is True):
            return None
        self._tested = words[0] in _TESTS
        if self._tested:
            operands = [self._unset_as_empty(word) for word in words[1:]]
            self._status = True if self._is_there(operands) else _tested(operands)
            return None
        self._status = None
        visible = {name: str(self._values[name]) for name in self._exported if isinstance(self._values.get(name), str)}
        return Statement(tuple(words), {**visible, **own}, line, runs is True, self._lexer.files)


def _tested(words: list[str]) -> bool | None:
    """The result of a test, if the text decides it."""
    operands = [word for word in words if word not in ("]", "]]")]
    if any(UNKNOWN.search(word) for word in operands):
        return None
    match operands:
        case ["-n", text] | [text]:
            return text != ""
        case ["-z", text]:
            return text == ""
        case [one, "=" | "==" | "-eq", other]:
            return one == other
        case [one, "!=" | "-ne", other]:
            return one != other
    return None
