"""HCL, as Nomad and Terraform write it: blocks, attributes, strings, lists, maps; expressions stay as written.

A block is a list under its type, since it may occur several times; its labels are under `LABELS`. A variable as an
attribute's value is written as in a string: `tostring(var.max_len)` is `${var.max_len}`.
Source: github.com/hashicorp/hcl, hclsyntax/spec.md.
"""

from __future__ import annotations

import re

from kvcalc.errors import InvalidFileError
from kvcalc.io.deployments.reading.text import Text
from kvcalc.io.deployments.reading.tree import Node, text_node

LABELS = "#labels"
_DEEPEST = 64
_MOST_TOKENS = 200_000
_TOKEN = re.compile(
    r"(?P<space>[ \t\r]+|#[^\n]*|//[^\n]*|/\*.*?\*/)"
    r"|(?P<line>\n)"
    r"|(?P<heredoc><<[-~]?(?P<mark>\w+)[^\n]*\n)"
    r'|(?P<string>"(?:[^"\\$%]|\\.|[$%](?!\{)|[$%]\{[^{}]*\})*")'
    r"|(?P<number>-?\d+(?:\.\d+)?)"
    r"|(?P<name>[A-Za-z_][\w.-]*(?:\[[^\]\n]*\][\w.]*)*)"
    r"|(?P<sign>[{}\[\]()=,:]|.)",
    re.DOTALL,
)
_ESCAPE = re.compile(r'\\(["\\nt])')
_ESCAPED = {"n": "\n", "t": "\t"}
_PASSED = ("tostring", "tonumber", "format", "trimspace", "lower")
_HELP = "check its brackets and quotes"


class _Token:
    __slots__ = ("at", "kind", "text")

    def __init__(self, kind: str, text: str, at: int) -> None:
        self.kind = kind
        self.text = text
        self.at = at


def parse(text: Text, name: str) -> Node:
    """The body of a file. Raises InvalidFileError with the line."""
    reader = _Reader(text, name)
    return reader.body(top=True)


class _Reader:
    def __init__(self, text: Text, name: str) -> None:
        self._text = text
        self._name = name
        self._tokens = self._divided()
        self._at = 0
        self._depth = 0

    def _divided(self) -> list[_Token]:
        found: list[_Token] = []
        at = 0
        while at < len(self._text):
            match = _TOKEN.match(self._text, at)
            if match is None or match.lastgroup is None:
                break
            kind = (
                "heredoc"
                if match["heredoc"]
                else next(k for k in ("space", "line", "string", "number", "name", "sign") if match[k] is not None)
            )
            end = match.end()
            words = match[0]
            if kind == "heredoc":
                close = re.compile(rf"^[ \t]*{match['mark']}[ \t]*$", re.MULTILINE).search(self._text, end)
                if close is None:
                    raise self._error("a heredoc does not end", at)
                words, end = self._text.part(end, close.start()), close.end()
            if kind != "space":
                found.append(_Token(kind, words, at))
            if len(found) > _MOST_TOKENS:
                raise self._error("is too long to read", at)
            at = end
        return found

    def body(self, *, top: bool = False) -> Node:
        """Attributes and blocks up to a closing brace."""
        line = self._line()
        values: dict[str, Node] = {}
        self._depth += 1
        if self._depth > _DEEPEST:
            raise self._error(f"is nested deeper than {_DEEPEST} levels")
        while True:
            self._skip_lines()
            token = self._peek()
            if token is None or token.text == "}":
                if token is None and not top:
                    raise self._error("a block does not end")
                self._next()
                break
            self._entry(values)
        self._depth -= 1
        return Node(values, line)

    def _entry(self, values: dict[str, Node]) -> None:
        """An attribute, or a block with its labels."""
        token = self._next()
        if token is None or token.kind not in ("name", "string", "number"):
            raise self._error(f"{(token.text if token else '')[:20]!r} starts neither an attribute nor a block")
        key, line = _unquoted(token), self._text.line_at(token.at)
        following = self._peek()
        if following is not None and following.text in ("=", ":"):
            self._next()
            values[key] = _on(self.value(), line)
            self._drop(",")
            return
        labels = []
        while (following := self._peek()) is not None and following.kind in ("name", "string"):
            labels.append(Text.on(line, _unquoted(following)))
            self._next()
        if following is None or following.text != "{":
            raise self._error(f"{key[:40]!r} is followed by neither = nor a block")
        self._next()
        block = self.body()
        if isinstance(block.value, dict):
            block.value[LABELS] = Node([text_node(label) for label in labels], line)
        block.line = line
        held = values.setdefault(key, Node([], line))
        if isinstance(held.value, list):
            held.value.append(block)
        self._drop(",")

    def value(self) -> Node:
        """A literal, a list, a map, or an expression as written."""
        self._skip_lines()
        token = self._peek()
        if token is None:
            raise self._error("a value is missing")
        line = self._text.line_at(token.at)
        if token.text == "[":
            return self._list(line)
        if token.text == "{":
            self._next()
            return _on(self.body(), line)
        start = self._at
        parts = self._expression()
        if len(parts) == 1:
            return _literal(parts[0], line)
        if len(parts) == 4 and parts[0].text in _PASSED and parts[1].text == "(":  # noqa: PLR2004  # f ( x )
            return _literal(parts[2], line)
        words = "".join(part.text for part in self._tokens[start : self._at])
        return text_node(Text.on(line, f"${{{words[:60]}}}"))

    def _list(self, line: int) -> Node:
        self._next()
        items: list[Node] = []
        self._depth += 1
        if self._depth > _DEEPEST:
            raise self._error(f"is nested deeper than {_DEEPEST} levels")
        while True:
            self._skip_lines()
            token = self._peek()
            if token is None:
                raise self._error("a list does not end")
            if token.text == "]":
                self._next()
                self._depth -= 1
                return Node(items, line)
            items.append(self.value())
            self._skip_lines()
            self._drop(",")

    def _expression(self) -> list[_Token]:
        """Text up to the end of the line, a comma or an unmatched closing bracket."""
        parts: list[_Token] = []
        depth = 0
        while (token := self._peek()) is not None:
            if not depth and (token.kind == "line" or token.text in (",", "]", "}", ")")):
                break
            if token.kind == "sign":
                depth += {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}.get(token.text, 0)
            if token.kind != "line":
                parts.append(token)
            self._next()
        if not parts:
            raise self._error("a value is missing")
        return parts

    def _peek(self) -> _Token | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def _next(self) -> _Token | None:
        token = self._peek()
        self._at += 1
        return token

    def _drop(self, sign: str) -> None:
        token = self._peek()
        if token is not None and token.text == sign:
            self._at += 1

    def _skip_lines(self) -> None:
        while (token := self._peek()) is not None and token.kind == "line":
            self._at += 1

    def _line(self) -> int:
        token = self._peek()
        return self._text.line_at(token.at if token is not None else len(self._text))

    def _error(self, what: str, at: int | None = None) -> InvalidFileError:
        line = self._line() if at is None else self._text.line_at(at)
        return InvalidFileError(f"cannot be read as HCL: {what}", where=f"{self._name}:{line}", help=_HELP)


def _on(node: Node, line: int) -> Node:
    """A scalar and a list keep their own line, which may be later."""
    return node if node.written is not None else Node(node.value, line)


def _unquoted(token: _Token) -> str:
    if token.kind != "string":
        return token.text
    return _ESCAPE.sub(lambda match: _ESCAPED.get(match[1], match[1]), token.text[1:-1])


def _literal(token: _Token, line: int) -> Node:
    if isinstance(token.text, Text):  # a heredoc, which has lines of its own
        return text_node(token.text)
    words = Text.on(line, _unquoted(token))
    if token.kind == "number":
        return Node(float(words) if "." in words else int(words), line, words)
    if token.kind == "name":
        known = {"true": True, "false": False, "null": None}
        if token.text in known:
            return Node(known[token.text], line, words)
        return text_node(Text.on(line, f"${{{token.text}}}"))
    return text_node(words)
