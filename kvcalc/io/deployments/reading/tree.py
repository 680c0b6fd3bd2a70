"""Plain values with their lines: the result of reading YAML, JSON, TOML and HCL.

Missing values are not errors: `node.at("spec", "template", "spec")` is empty if any of them is missing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias, Union

from kvcalc.io.deployments.reading.text import Text

Value: TypeAlias = Union["Mapping[str, Node]", "list[Node]", Text, int, float, bool, None]
MAX_DEPTH = 64
"""Deepest nesting that is read."""
_WHOLE = re.compile(r"[+-]?\d{1,18}")


class Node:
    """A value with its line; a scalar also as written.

    line: for a mapping's entry, the line of its key. Nodes may be shared: an alias is its anchor's node.
    """

    __slots__ = ("line", "value", "written")

    def __init__(self, value: Value, line: int, written: Text | None = None) -> None:
        self.value = value
        self.line = line
        self.written = written

    def at(self, *keys: str | int) -> Node:
        """The node at a path, or an empty one on the line of its nearest parent."""
        node = self
        for key in keys:
            inner = node.value
            found = None
            if isinstance(inner, Mapping) and isinstance(key, str):
                found = inner.get(key)
            elif isinstance(inner, list) and isinstance(key, int) and key < len(inner):
                found = inner[key]
            if found is None:
                return Node(None, node.line)
            node = found
        return node

    def first(self, *names: str) -> Node:
        """The first existing one of several entries."""
        return next((found for name in names if (found := self.at(name))), Node(None, self.line))

    def __bool__(self) -> bool:
        return self.value is not None

    def __contains__(self, key: str) -> bool:
        return isinstance(self.value, Mapping) and key in self.value

    def items(self) -> list[tuple[str, Node]]:
        """Entries of a mapping."""
        return list(self.value.items()) if isinstance(self.value, Mapping) else []

    def each(self) -> list[Node]:
        """Items of a list."""
        return self.value if isinstance(self.value, list) else []

    @property
    def is_mapping(self) -> bool:
        """Whether it has entries."""
        return isinstance(self.value, Mapping)

    @property
    def text(self) -> Text:
        """A scalar as written; empty if there is none."""
        return self.written if self.written is not None else Text.on(self.line, "")

    @property
    def count(self) -> int | None:
        """A whole number, also in quotes; None for anything else."""
        return int(self.text) if not isinstance(self.value, bool) and _WHOLE.fullmatch(self.text) else None

    @property
    def is_true(self) -> bool:
        """Whether it is true."""
        return self.value is True or self.text.lower() in ("true", "yes", "on")

    @property
    def is_false(self) -> bool:
        """Whether it is false."""
        return self.value is False or self.text.lower() in ("false", "no", "off")

    def plain(self) -> object:
        """The values alone, without lines."""
        if isinstance(self.value, Mapping):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return str(self.value) if isinstance(self.value, str) else self.value

    def walk(self) -> Iterator[Node]:
        """Itself and all nodes below, each once despite aliases."""
        seen: set[int] = set()
        left = [self]
        while left:
            node = left.pop()
            if id(node) in seen:
                continue
            seen.add(id(node))
            yield node
            if isinstance(node.value, Mapping):
                left.extend(reversed(list(node.value.values())))
            elif isinstance(node.value, list):
                left.extend(reversed(node.value))


Lists: TypeAlias = Callable[[str, Node, Node], "Node | None"]
"""How to merge two values that are not both mappings; None: take the second one."""


def merged(base: Node, over: Node, lists: Lists, key: str = "", depth: int = 0) -> Node:
    """A value merged with another: mappings by entry, null removes an entry, `lists` decides the rest."""
    if depth > MAX_DEPTH:
        return base
    if isinstance(base.value, Mapping) and isinstance(over.value, Mapping):
        values = dict(base.value)
        for name, node in over.value.items():
            if node.value is None:
                values.pop(name, None)
            else:
                values[name] = merged(values[name], node, lists, name, depth + 1) if name in values else node
        return Node(values, over.line)
    return lists(key, base, over) or over


def placed(node: Node, line: int, depth: int = 0) -> Node:
    """A value from another file, all on the line that references it."""
    if depth > MAX_DEPTH:
        return Node(None, line)
    if isinstance(node.value, Mapping):
        return Node({key: placed(each, line, depth + 1) for key, each in node.value.items()}, line)
    if isinstance(node.value, list):
        return Node([placed(each, line, depth + 1) for each in node.value], line)
    return Node(node.value, line, None if node.written is None else Text.on(line, str(node.written)))


NOTHING = Node(None, 1)


def text_node(text: Text) -> Node:
    """A node with text."""
    return Node(text, text.line, text)
