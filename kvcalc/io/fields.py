"""Typed access to the mappings of a document: each value is checked when read, each error has file and line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

from kvcalc.errors import InvalidValueError, UnknownNameError
from kvcalc.io.documents import Document, Keys
from kvcalc.model import Origin
from kvcalc.units import MAX_COUNT, positive_int, shown

Value = TypeVar("Value")
MAX_FIELDS = 4096
"""Most fields of a mapping; the longest decoder config has about 200."""
_FIELDS_HELP = "pass a config.json, a preset or a plan"


class Fields:
    """The mapping at `path` of `document`. Raises InvalidValueError for anything else."""

    def __init__(self, document: Document, path: Keys = ()) -> None:
        self.document = document
        self.path = path
        values = document.data
        for key in path:
            values = values[key]
        if not isinstance(values, Mapping):
            raise InvalidValueError(
                f"must be a mapping of names to values, not {shown(values)}",
                where=document.where(path),
                help="write one name: value per line",
            )
        if len(values) > MAX_FIELDS:
            raise InvalidValueError(
                f"has {len(values):,} fields; the limit is {MAX_FIELDS:,}",
                where=document.where(path),
                help=_FIELDS_HELP,
            )
        if not {*map(type, values)} <= {str}:
            strange = next(key for key in values if type(key) is not str)
            raise InvalidValueError(
                f"a field's name must be text, not {shown(strange)}", where=document.where(path), help="quote it"
            )
        self.values: Mapping[str, object] = values

    def value(self, name: str) -> object:
        """The field's value; None if missing."""
        return self.values.get(name)

    def key(self, name: str) -> str:
        """The name of the field in the mapping."""
        return name

    def __contains__(self, name: str) -> bool:
        """Whether the field exists and is not null."""
        return self.value(name) is not None

    def integer(self, name: str, *, most: int = MAX_COUNT) -> int:
        """A required whole number of at least 1."""
        if name not in self:
            raise self.missing(name)
        try:
            return positive_int(self.value(name), name, most=most)
        except InvalidValueError as error:
            raise self.located(name, error) from None

    def integer_or(self, name: str, default: int | None, *, most: int = MAX_COUNT) -> int | None:
        """A whole number of at least 1, or `default` if missing or null."""
        return self.integer(name, most=most) if name in self else default

    def text(self, name: str, default: str = "") -> str:
        """A string, or `default` if missing or null."""
        text = str(self._typed(name, str, "text", default))
        if not text.isprintable():  # shown in terminals, XML and annotations
            raise self.wrong(
                name, f"must be printable text, not {shown(text)}", "write it on one line, without control characters"
            )
        return text

    def boolean(self, name: str, default: bool = False) -> bool:
        """A boolean, or `default` if missing or null."""
        return bool(self._typed(name, bool, "true or false", default))

    def texts(self, name: str) -> list[str]:
        """A list of strings; empty if missing or null."""
        values = self._typed(name, list, "a list of names", [])
        for index, value in enumerate(values):
            if not isinstance(value, str):
                raise InvalidValueError(
                    f"must be a name, not {shown(value)}",
                    where=self.document.where((*self.path, self.key(name), index)),
                    help="quote it if it is a name",
                )
        return list(values)

    def section(self, name: str) -> Fields:
        """The required mapping under `name`."""
        if name not in self:
            raise self.missing(name)
        return Fields(self.document, (*self.path, self.key(name)))

    def only(self, known: Iterable[str]) -> None:
        """Raises UnknownNameError for the first field that is not `known`."""
        names = list(known)
        for name in self.values:
            if name not in names:
                error = UnknownNameError.among("field", str(name), names)
                raise error.at(self.document.where((*self.path, name)))

    def origin(self, name: str, words: str = "") -> Origin:
        """The place of the field, for an explanation: `presets/llama-3-70b.yaml:9 num_kv_heads`, or other words."""
        return Origin(self.document.place, (*self.path, self.key(name)), words or name)

    def missing(self, name: str, help: str = "") -> InvalidValueError:
        """Error for a required field."""
        holder = self.document.where(self.path)
        state = "is null" if self.key(name) in self.values else "is missing"
        return InvalidValueError(f"{name} {state}", field=name, where=holder, help=help or f"add {self.key(name)}")

    def wrong(self, name: str, what: str, help: str) -> InvalidValueError:
        """Error about the value of a field."""
        return InvalidValueError(what, field=name, where=self.document.where((*self.path, self.key(name))), help=help)

    def located(self, name: str, error: InvalidValueError) -> InvalidValueError:
        """`error`, which came from the value of `name`, with its file and line."""
        return error.at(self.document.where((*self.path, self.key(name))))

    def _typed(self, name: str, kind: type[Value], words: str, default: Value) -> Value:
        value = self.value(name)
        if value is None:
            return default
        if not isinstance(value, kind):
            raise self.wrong(name, f"must be {words}, not {shown(value)}", f"write {name} as {words}")
        return value
