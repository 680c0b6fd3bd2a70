"""The part of a config.json that describes the decoder, read as its own class reads it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from kvcalc.io.documents import Document, Keys
from kvcalc.io.fields import Fields
from kvcalc.model import Origin
from kvcalc.units import MAX_COUNT

_ABSENT = object()


class TypeEntry(NamedTuple):
    """What `model_types.json` knows of a model type.

    family: file that reads it. names: usual name of a field -> its own. defaults: of the class, for fields left out.
    section, section_type: where a model of several towers has its text part, and of which type that is.
    like: the type whose rules hold where this is another name of it.
    """

    family: str = ""
    names: Mapping[str, str] = {}
    defaults: Mapping[str, object] = {}
    section: str = ""
    section_type: str = ""
    like: str = ""


class Section(Fields):
    """A mapping inside a config. asked: fields of it that somebody looked at."""

    def __init__(self, document: Document, path: Keys) -> None:
        super().__init__(document, path)
        self.asked: set[str] = set()

    def value(self, name: str) -> object:
        """The field's value; None where it is missing."""
        self.asked.add(name)
        return self.values.get(name)


class Config(Fields):
    """Fields of the decoder: each by its usual name or its own, with the default of its class where it is left out.

    cross: whether an encoder stands before the decoder. top: the whole config, of which this may be a section.
    defaulted: fields that were left out and taken from the class, with their values.
    asked: fields that somebody looked at. sections: mappings inside it that somebody looked at.
    overrides: fields of single layers, which replace those of all.
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
        """The name under which the field stands, or would: the class's own, the usual, or another of its names."""
        names = self.entry.names
        if not names:
            return name
        own = names.get(name, name)
        if own in self.values:
            return own
        others = [other for other, own_of_other in names.items() if own_of_other == own and other in self.values]
        return others[0] if others else own

    def value(self, name: str) -> object:
        """The field's value, or its class's default; None where it has neither."""
        key = self.key(name)
        self.asked.add(key)
        value = self.values.get(key, _ABSENT)
        return self.entry.defaults.get(key) if value is _ABSENT else value

    def declares(self, name: str) -> bool:
        """Whether the class has such a field; nothing is known of a class that is not transformers' own."""
        return not self.entry.defaults or self.key(name) in self.entry.defaults

    def given(self, name: str) -> bool:
        """Whether the config itself has the field, and not null."""
        self.asked.add(self.key(name))
        return self.values.get(self.key(name)) is not None

    def section(self, name: str) -> Section:
        """The mapping under `name`, which must be there."""
        if name not in self:
            raise self.missing(name)
        key = self.key(name)
        if key not in self.sections:
            self.sections[key] = Section(self.document, (*self.path, key))
        return self.sections[key]

    def integer(self, name: str, *, most: int = MAX_COUNT) -> int:
        """A whole number of at least 1, which the class may have to give; a reader is told so."""
        self.note_default(name)
        return super().integer(name, most=most)

    def note_default(self, name: str) -> None:
        """Remembers that the field was left out and its class's default is used, which a reader must be told."""
        key = self.key(name)
        if key not in self.values and self.entry.defaults.get(key) is not None:
            self.defaulted[key] = self.entry.defaults[key]

    def origin(self, name: str, words: str = "") -> Origin:
        """Where the value comes from: file and line, or the default of the class."""
        key = self.key(name)
        if key in self.values:
            return Origin(self.document.place, (*self.path, key), words or key)
        return Origin(self.document.place, self.path, words or f"{key}, default of {self.model_type}")

    def with_values(self, values: Mapping[str, object]) -> Config:
        """This config with some fields replaced, as `per_layer_config` replaces them for one layer."""
        replaced = Config(self.document, self.path, self.model_type, self.entry, cross=self.cross, top=self.top)
        replaced.defaulted, replaced.asked, replaced.sections = self.defaulted, self.asked, self.sections
        replaced.values = {**self.values, **{self.key(name): value for name, value in values.items()}}
        return replaced
