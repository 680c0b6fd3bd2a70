"""Files of plain values, YAML or JSON, with the line of each value.

Only data is read: strings, numbers, booleans, null, lists and mappings. Tags that build objects, duplicate keys, huge
files and aliases that expand to millions of values (a "YAML bomb") are refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from kvcalc.errors import InvalidFileError, KvcalcError
from kvcalc.errors.foreign import name_shown, quoted
from kvcalc.io.files import read_bytes
from kvcalc.units import shown

MAX_FILE_BYTES = 2 * 2**20
"""Largest file read, of about 14,000 deployments; the largest real config.json known is under 0.1 MiB."""
MAX_VALUES = 125_000
"""Most values in one document, with aliases expanded, plus keys; an entry of a plan has about ten."""
MAX_DEPTH = 64
"""Deepest nesting; the deepest real config has five levels."""
_HELP = "pass a preset or plan (YAML) or a config.json"

Keys = tuple[str | int, ...]
"""Path to a value from the top of its document: keys of mappings, indices of lists."""


class Document(NamedTuple):
    """Plain values with their origin.

    name: for messages: a path, or what the caller passed. lines: line of each value by its path.
    """

    name: str
    data: Any
    lines: Mapping[Keys, int] = MappingProxyType({})

    def place(self, path: Keys = ()) -> str:
        """`name:line` of the value at `path`, or of its parent; only `name` for values without a file."""
        known = (path[:n] for n in range(len(path), -1, -1) if path[:n] in self.lines)
        nearest = next(known, None)
        return self.name if nearest is None else f"{self.name}:{self.lines[nearest]}"

    def where(self, path: Keys = ()) -> str:
        """`name:line: path`, the location of an error."""
        return f"{self.place(path)}: {path_text(path)}" if path else self.place()


def path_text(path: Keys) -> str:
    """`("deployments", 0, "model")` as `deployments[0].model`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f"{'.' if text else ''}{name_shown(step)}"
    return text


def read_text(path: Path, *, most: int = MAX_FILE_BYTES) -> str:
    """Text of a file of at most `most` bytes. Raises InvalidFileError if it cannot be read."""
    return text_of(read_bytes(path, most, "configuration file", _HELP), str(path))


def text_of(content: bytes, name: str) -> str:
    """Text of a file's bytes, called `name` in messages. Raises InvalidFileError if it is not text."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidFileError(
            f"is not UTF-8 text: byte {error.start:,} is 0x{content[error.start]:02x}",
            where=name,
            help=_HELP,
        ) from error
    if not text.strip():
        raise InvalidFileError("is empty", where=name, help="`kvcalc presets show r1` prints an example")
    return text


def read_yaml(path: Path) -> Document:
    """Values of a YAML file. Raises InvalidFileError with file and line."""
    return parse_yaml(read_text(path), str(path))


def parse_yaml(text: str, name: str) -> Document:
    """Values of YAML text called `name` in messages. Raises InvalidFileError with the line."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml if available, ten times faster
    try:
        _check_shape(yaml, text, name, loader)
        root = yaml.compose(text, Loader=loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{name}:{mark.line + 1}" if mark else name
        problem = " ".join(part for part in (error.problem, error.context) if part)
        raise InvalidFileError(
            f"is not valid YAML: {problem}", where=place, help="check indentation and quotes"
        ) from error
    except yaml.YAMLError as error:
        raise InvalidFileError(
            f"is not valid YAML: {error}", where=name, help="check for control characters"
        ) from error
    if root is None:
        raise InvalidFileError("contains no values", where=name, help="`kvcalc presets show r1` prints an example")
    reader = _YamlReader(name, yaml.SafeLoader(""))
    return Document(name, reader.value(root, ()), reader.lines)


def _check_shape(yaml: Any, text: str, name: str, loader: Any) -> None:
    """Raises InvalidFileError for text that is nested too deeply or too large, before building it.

    libyaml's composer recurses on the C stack, and uses a kilobyte per number.
    """
    depth = values = 0
    for event in yaml.parse(text, Loader=loader):
        if isinstance(event, yaml.NodeEvent):
            values += 1
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH or values > 2 * MAX_VALUES:
            what = f"is nested deeper than {MAX_DEPTH} levels" if depth > MAX_DEPTH else _TOO_MANY
            raise InvalidFileError(what, where=f"{name}:{event.start_mark.line + 1}", help="shorten or flatten it")


_TOO_MANY = f"contains more than {MAX_VALUES:,} values"


class _YamlReader:
    """Turns YAML nodes into values and records their lines."""

    def __init__(self, name: str, scalars: Any) -> None:
        self._name = name
        self._scalars = scalars
        self._count = 0
        self.lines: dict[Keys, int] = {}

    def value(self, node: Any, path: Keys) -> Any:
        self._count += 1
        if self._count > MAX_VALUES:
            raise self._error(node, path, f"expands to more than {MAX_VALUES:,} values", "write aliases out")
        if len(path) > MAX_DEPTH:
            raise self._error(node, (), f"is nested deeper than {MAX_DEPTH} levels", "flatten it")
        self.lines[path] = node.start_mark.line + 1
        kind = node.tag.removeprefix("tag:yaml.org,2002:")
        if kind == "map" and node.id == "mapping":
            return self._mapping(node, path)
        if kind == "seq" and node.id == "sequence":
            return [self.value(child, (*path, index)) for index, child in enumerate(node.value)]
        if kind in ("str", "int", "float", "bool", "null") and node.id == "scalar":
            return self._scalar(node, path, kind)
        shown_tag = f"!!{kind}" if kind != node.tag else node.tag
        tag = name_shown(shown_tag)
        raise self._error(node, path, f"the tag {tag} is not allowed", "use plain values; quote dates")

    def _mapping(self, node: Any, path: Keys) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if key_node.id != "scalar":
                raise self._error(key_node, path, "a key must be plain text", "quote it")
            key = key_node.value
            if key in values:
                first = self.lines[(*path, key)]
                raise self._error(
                    key_node,
                    (*path, key),
                    f"the key {quoted(key)} is repeated; first on line {first}",
                    "remove one of them",
                )
            values[key] = self.value(value_node, (*path, key))
            self.lines[(*path, key)] = key_node.start_mark.line + 1
        return values

    def _scalar(self, node: Any, path: Keys, kind: str) -> Any:
        if kind == "str":
            return node.value
        try:
            return getattr(self._scalars, f"construct_yaml_{kind}")(node)
        except ValueError as error:  # an int of thousands of digits, or 0x without digits
            raise self._error(
                node, path, f"{shown(node.value)} is not a number that can be read", "check the digits"
            ) from error

    def _error(self, node: Any, path: Keys, what: str, help: str) -> KvcalcError:
        place = f"{self._name}:{node.start_mark.line + 1}"
        return InvalidFileError(what, where=f"{place}: {path_text(path)}" if path else place, help=help)


def parse_json(text: str, name: str) -> Document:
    """Values of JSON text called `name` in messages. Lines are looked up only for messages."""
    import json

    try:
        data = json.loads(text)
        if len(_COLONS.findall(text)) != _count_keys(data):  # a repeated key, or something like one in a text
            data = json.loads(text, object_pairs_hook=_no_duplicates)
    except json.JSONDecodeError as error:
        raise InvalidFileError(
            f"is not valid JSON: {error.msg} (column {error.colno})",
            where=f"{name}:{error.lineno}",
            help="check the line",
        ) from error
    except _DuplicateKeyError as error:
        lines = [n for n, line in enumerate(text.splitlines(), 1) if f'"{error.key}"' in line]
        raise InvalidFileError(
            f"the key {quoted(error.key)} is repeated in one object",
            where=f"{name}:{lines[-1]}: {error.key}" if lines else name,
            help="remove one of them",
        ) from error
    except RecursionError as error:
        raise InvalidFileError("is nested too deeply to read", where=name, help="flatten it") from error
    except ValueError as error:  # an int with more digits than Python converts
        raise InvalidFileError(
            f"contains a number that cannot be read: {error}", where=name, help="check its digits"
        ) from error
    return Document(name, data, _LazyJsonLines(text))


def _count_keys(data: Any) -> int:
    """Keys of all mappings in plain values."""
    if type(data) is dict:
        return len(data) + sum([_count_keys(value) for value in data.values() if type(value) in _NESTS])
    if type(data) is list:
        return sum([_count_keys(value) for value in data if type(value) in _NESTS])
    return 0


_NESTS = (dict, list)
_COLONS = re.compile(r'"[ \t\r\n]*:')
"""Follows each key, and may also occur in a text: at least as many as there are keys."""


class _DuplicateKeyError(Exception):
    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _DuplicateKeyError(key)
            seen.add(key)
    return values


class _LazyJsonLines(Mapping[Keys, int]):
    """Lines of a JSON text's values, found by parsing it again as YAML, nearly a superset of JSON."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._lines: Mapping[Keys, int] | None = None

    def _found(self) -> Mapping[Keys, int]:
        if self._lines is None:
            try:
                self._lines = parse_yaml(self._text.replace("\t", " "), "").lines
            except KvcalcError:
                self._lines = {}
        return self._lines

    def __getitem__(self, path: Keys) -> int:
        return self._found()[path]

    def __iter__(self) -> Any:
        return iter(self._found())

    def __len__(self) -> int:
        return len(self._found())
