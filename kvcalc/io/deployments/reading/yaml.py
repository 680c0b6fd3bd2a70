"""YAML and JSON, document by document, with lines; read from the parser's events, so that nothing recurses or expands.

An alias shares its anchor's node and line; merge keys are applied, and a mapping's own keys take precedence.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from kvcalc.errors import InvalidFileError
from kvcalc.errors.foreign import quoted
from kvcalc.io.deployments.reading.text import Text
from kvcalc.io.deployments.reading.tree import MAX_DEPTH, Node, Value

MAX_VALUES = 250_000
"""Most values in one file; the largest real manifest known has about 20,000."""
_MERGE = "<<"
_INT = re.compile(r"[-+]?(?:0|[1-9][\d_]*)")
_FLOAT = re.compile(r"[-+]?(?:\d[\d_]*\.[\d_]*|\.\d[\d_]*|\d+(?:\.\d*)?[eE][-+]?\d+)(?:[eE][-+]?\d+)?")
_WORDS: Mapping[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **{word: True for low in ("true", "yes", "on") for word in (low, low.title(), low.upper())},
    **{word: False for low in ("false", "no", "off") for word in (low, low.title(), low.upper())},
}
_MOST_DIGITS = 18
_FLAT = "shorten or flatten it"


def documents(text: Text, name: str) -> list[Node]:
    """All documents of a text called `name` in messages. Raises InvalidFileError with the line."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return list(_Builder(text, name).documents(yaml, yaml.parse(str(text), Loader=loader)))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = " ".join(part for part in (error.problem, error.context) if part)
        raise InvalidFileError(
            f"is not valid YAML: {problem}",
            where=f"{name}:{text.line_at(_offset(text, mark.line))}" if mark else name,
            help="check indentation and quotes",
        ) from error
    except yaml.YAMLError as error:
        raise InvalidFileError("is not valid YAML", where=name, help="check for control characters") from error


def _offset(text: Text, line: int) -> int:
    """Offset of a line of the text, counted from 0."""
    at = 0
    for _ in range(line):
        at = text.find("\n", at) + 1
        if not at:
            return len(text)
    return at


class _Open:
    """An open mapping or list. key: of the next value."""

    __slots__ = ("anchor", "entries", "items", "key", "key_line", "line")

    def __init__(self, anchor: str | None, line: int, *, mapping: bool) -> None:
        self.anchor = anchor
        self.line = line
        self.entries: dict[str, Node] | None = {} if mapping else None
        self.items: list[Node] = []
        self.key: str | None = None
        self.key_line = line


class _Builder:
    def __init__(self, text: Text, name: str) -> None:
        self._text = text
        self._name = name
        self._source: list[str] | None = None
        self._firsts: list[int] = []
        self._stack: list[_Open] = []
        self._anchors: dict[str, Node] = {}
        self._count = 0

    def documents(self, yaml: Any, events: Iterator[Any]) -> Iterator[Node]:
        """Documents, one after the other."""
        readers = {
            yaml.ScalarEvent: self._scalar,
            yaml.AliasEvent: self._alias,
            yaml.MappingStartEvent: self._opened,
            yaml.SequenceStartEvent: self._opened,
            yaml.MappingEndEvent: self._closed,
            yaml.SequenceEndEvent: self._closed,
        }
        root: Node | None = None
        for event in events:
            read = readers.get(type(event))
            if read is None:
                if isinstance(event, yaml.DocumentStartEvent):
                    self._anchors, root = {}, None
                elif isinstance(event, yaml.DocumentEndEvent) and root is not None and root.value is not None:
                    yield root
                continue
            node = read(event)
            if node is not None and self._stack:
                self._add(self._stack[-1], node)
            elif node is not None:
                root = node

    def _opened(self, event: Any) -> None:
        """A mapping or a list begins."""
        line = self._line(event.start_mark.line)
        if len(self._stack) >= MAX_DEPTH:
            raise self._error(f"is nested deeper than {MAX_DEPTH} levels", line, _FLAT)
        self._stack.append(_Open(event.anchor, line, mapping=self._is_mapping(event)))
        self._counted(line)

    @staticmethod
    def _is_mapping(event: Any) -> bool:
        return type(event).__name__.startswith("Mapping")

    def _alias(self, event: Any) -> Node:
        line = self._line(event.start_mark.line)
        self._counted(line)
        if event.anchor not in self._anchors:
            raise self._error(f"the anchor {quoted(event.anchor)} is used before it is defined", line, "define it")
        return self._anchors[event.anchor]

    def _add(self, holder: _Open, node: Node) -> None:
        """Adds a value to its container; for a mapping a key, or the value of the previous key."""
        if holder.entries is None:
            holder.items.append(node)
        elif holder.key is None:
            if isinstance(node.value, (dict, list)) or node.written is None:
                raise self._error("a key must be plain text", node.line, "quote it")
            holder.key, holder.key_line = str(node.written), node.line
            if holder.key in holder.entries and holder.key != _MERGE:
                first = holder.entries[holder.key].line
                what = f"the key {quoted(holder.key)} is repeated; first on line {first}"
                raise self._error(what, node.line, "remove one of them")
        else:
            if holder.key == _MERGE:
                holder.items.append(node)
            else:
                own = isinstance(node.value, (dict, list)) and node.line < holder.key_line
                holder.entries[holder.key] = node if own else _placed(node, holder.key_line)
            holder.key = None

    def _closed(self, event: Any) -> Node:  # noqa: ARG002
        """The finished mapping or list, with merge keys applied."""
        held = self._stack.pop()
        value: Value = held.items
        if held.entries is not None:
            value = self._merged(held) if held.items else held.entries
        node = Node(value, held.line)
        if held.anchor:
            self._anchors[held.anchor] = node
        return node

    def _merged(self, held: _Open) -> dict[str, Node]:
        """Entries of merge keys (the first one if repeated), overridden by the mapping's own."""
        merged: dict[str, Node] = {}
        for given in held.items:
            for node in given.each() or [given]:
                for key, value in node.items():
                    self._counted(held.line)
                    merged.setdefault(key, value)
        merged.update(held.entries or {})
        return merged

    def _scalar(self, event: Any) -> Node:
        first = event.start_mark.line
        line = self._line(first)
        self._counted(line)
        words: str = event.value
        written = self._spread(words, event) if event.end_mark.line > first else Text(words, (0,), (line,))
        node = Node(written if event.style else _plain(words, written), line, written)
        if event.anchor:
            self._anchors[event.anchor] = node
        return node

    def _spread(self, words: str, event: Any) -> Text:
        """Multi-line text: where each source line begins in it."""
        if self._source is None:
            self._source = self._text.split("\n")
        starts, lines, at = [0], [self._line(event.start_mark.line)], 0
        first = event.start_mark.line + (1 if event.style in ("|", ">") else 0)
        for number in range(first, min(event.end_mark.line + 1, len(self._source))):
            column = event.start_mark.column if number == event.start_mark.line else 0
            said = _unquoted(self._source[number][column:], event.style)
            found = words.find(said, at) if said else -1
            if found < 0:
                continue
            at = found + len(said)
            while found > starts[-1] + 1 and words[found - 1] == " ":
                found -= 1  # its indentation belongs to its line, too
            if not found or not words[:found].strip(" "):
                lines[0] = self._line(number)
            else:
                starts.append(found)
                lines.append(self._line(number))
        return Text(words, starts, lines)

    def _line(self, number: int) -> int:
        """Line in the outer file of a line of this text, counted from 0."""
        if not self._firsts:
            firsts = [0]
            at = self._text.find("\n")
            while at >= 0:
                firsts.append(at + 1)
                at = self._text.find("\n", at + 1)
            self._firsts = [self._text.line_at(first) for first in firsts]
        return self._firsts[min(number, len(self._firsts) - 1)]

    def _counted(self, line: int) -> None:
        self._count += 1
        if self._count > MAX_VALUES:
            raise self._error(f"contains more than {MAX_VALUES:,} values", line, _FLAT)

    def _error(self, what: str, line: int, help: str) -> InvalidFileError:
        return InvalidFileError(what, where=f"{self._name}:{line}", help=help)


def _unquoted(line: str, style: str | None) -> str:
    """A line of a scalar in its text, up to the first escape."""
    said = line.strip()
    if style == "'":
        return said.strip("'").replace("''", "'").strip()
    return said.strip('"').rstrip("\\").strip() if style == '"' else said


def _placed(node: Node, line: int) -> Node:
    """A value on the line of its key; a scalar keeps the lines of its text."""
    return node if node.line == line else Node(node.value, line, node.written)


def _plain(words: str, written: Text) -> Value:
    """Values of plain scalars."""
    if words in _WORDS:
        return _WORDS[words]
    if len(words) <= _MOST_DIGITS:
        if _INT.fullmatch(words):
            return int(words.replace("_", ""))
        if _FLOAT.fullmatch(words):
            return float(words.replace("_", ""))
    return written
