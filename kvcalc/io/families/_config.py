"""The decoder's part of a config.json, read like its own class reads it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from kvcalc.io.documents import Document, Keys
from kvcalc.io.fields import Fields
from kvcalc.model import Origin
from kvcalc.units import MAX_COUNT

_ABSENT = object()


class TypeEntry(NamedTuple):
    """The entry of a model type in `model_types.json`.

    family: file that reads it. names: usual name of a field -> its own. defaults: of the class, for fields left out.
    section, section_type: place and type of the text part in a model with several towers. like: the type that this is
    an alias of.
    """

    family: str = ""
    names: Mapping[str, str] = {}
    defaults: Mapping[str, object] = {}
    section: str = ""
    section_type: str = ""
    like: str = ""


class Section(Fields):
    """A mapping inside a config. asked: fields that were read."""

    def __init__(self, document: Document, path: Keys) -> None:
        super().__init__(document, path)
        self.asked: set[str] = set()

    def value(self, name: str) -> object:
        """The field's value; None if missing."""
        self.asked.add(name)
        return self.values.get(name)


class Config(Fields):
    """Fields of the decoder: each by its usual or own name, with the class's default if missing.

    cross: whether there is an encoder before the decoder. top: the whole config, of which this may be a section.
    defaulted: missing fields taken from the class, with their values. asked: fields that were read. sections: nested
    mappings that were read. overrides: fields of single layers, which replace the common ones.
    """

    def __init__(
        self,
        document: Document,
        path: Keys,
        model_type: str,
        entry: TypeEntry,
        *,
        cross: bool = False,
        top: Fields | None = None,
    ) -> None:
        super().__init__(document, path)
        self.model_type = model_type
        self.entry = entry
        self.cross = cross
        self.top = top or self
        self.defaulted: dict[str, object] = {}
        self.asked: set[str] = set()
        self.sections: dict[str, Section] = {}
        self.overrides: list[Mapping[str, object]] = []

    def key(self, name: str) -> str:
        """The name of the field in the config, present or not: the class's own, the usual, or another alias."""
        names = self.entry.names
        if not names:
            return name
        own = names.get(name, name)
        if own in self.values:
            return own
        others = [other for other, own_of_other in names.items() if own_of_other == own and other in self.values]
        return others[0] if others else own

    def value(self, name: str) -> object:
        """The field's value, or its class's default; None without either."""
        key = self.key(name)
        self.asked.add(key)
        value = self.values.get(key, _ABSENT)
        return self.entry.defaults.get(key) if value is _ABSENT else value

    def declares(self, name: str) -> bool:
        """Whether the class has such a field; unknown for classes outside transformers."""
        return not self.entry.defaults or self.key(name) in self.entry.defaults

    def given(self, name: str) -> bool:
        """Whether the config itself has the field, and not null."""
        self.asked.add(self.key(name))
        return self.values.get(self.key(name)) is not None

    def section(self, name: str) -> Section:
        """The mapping under `name`, which is required."""
        if name not in self:
            raise self.missing(name)
        key = self.key(name)
        if key not in self.sections:
            self.sections[key] = Section(self.document, (*self.path, key))
        return self.sections[key]

    def integer(self, name: str, *, most: int = MAX_COUNT) -> int:
        """A whole number of at least 1, possibly the class's default, which is then reported."""
        self.note_default(name)
        return super().integer(name, most=most)

    def note_default(self, name: str) -> None:
        """Records that the field is missing and its class's default is used, which is reported."""
        key = self.key(name)
        if key not in self.values and self.entry.defaults.get(key) is not None:
            self.defaulted[key] = self.entry.defaults[key]

    def origin(self, name: str, words: str = "") -> Origin:
        """Source of the value: file and line, or the class's default."""
        key = self.key(name)
        if key in self.values:
            return Origin(self.document.place, (*self.path, key), words or key)
        return Origin(self.document.place, self.path, words or f"{key}, default of {self.model_type}")

    def with_values(self, values: Mapping[str, object]) -> Config:
        """This config with some fields replaced, as by `per_layer_config` for one layer."""
        replaced = Config(self.document, self.path, self.model_type, self.entry, cross=self.cross, top=self.top)
        replaced.defaulted, replaced.asked, replaced.sections = self.defaulted, self.asked, self.sections
        replaced.values = {**self.values, **{self.key(name): value for name, value in values.items()}}
        return replaced
