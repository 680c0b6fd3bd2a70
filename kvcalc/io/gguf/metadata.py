"""Typed access to GGUF metadata: each key is checked when read, and named in errors."""

from __future__ import annotations

from collections.abc import Callable

from kvcalc.errors import InvalidValueError
from kvcalc.io.documents import Document
from kvcalc.io.families._decoder import Layer
from kvcalc.io.fields import Fields
from kvcalc.model import Attention
from kvcalc.units import MAX_COUNT, positive_int, shown


class Metadata(Fields):
    """Keys of one architecture without its prefix: `block_count` for `llama.block_count`.

    asked: keys that were read.
    """

    def __init__(self, document: Document, architecture: str) -> None:
        super().__init__(document)
        self.architecture = architecture
        self.asked: set[str] = set()

    def key(self, name: str) -> str:
        """The key as in the file."""
        return f"{self.architecture}.{name}"

    def value(self, name: str) -> object:
        """The key's value; None if missing."""
        key = self.key(name)
        self.asked.add(key)
        return self.values.get(key)

    def whole(self, name: str, default: int = 0) -> int:
        """A whole number of at least 0, or `default` if missing."""
        value = self.value(name)
        if value is None:
            return default
        return 0 if type(value) is int and value == 0 else self.integer(name)

    def by_layer(self, name: str, layers: int, default: list[int]) -> list[int]:
        """A whole number of at least 0 for each of `layers`: a list of them, or one for all."""
        value = self.value(name)
        if value is None:
            return default
        if not isinstance(value, list):
            return [self.whole(name)] * layers
        if len(value) != layers:
            raise self.wrong(
                name, f"has {len(value)} entries for {layers} layers", "give one per layer, or a single value"
            )
        try:
            return [0 if type(entry) is int and entry == 0 else positive_int(entry, name) for entry in value]
        except InvalidValueError as error:
            raise self.located(name, error) from None

    def flags(self, name: str, layers: int) -> list[bool]:
        """True or false for each of `layers`; layers beyond the end of the list are false."""
        value = self.value(name)
        if not isinstance(value, list) or any(type(flag) not in (bool, int) or flag not in (0, 1) for flag in value):
            raise self.wrong(name, f"must be a list of flags, not {shown(value)}", "give one per layer")
        return [*map(bool, value[:layers]), *[False] * (layers - len(value))]


class Facts:
    """Keyword arguments for an attention kind, collected one by one, each with its key."""

    def __init__(self, metadata: Metadata) -> None:
        self._metadata = metadata
        self._values: dict[str, object] = {}
        self._keys: dict[str, str] = {}

    def put(self, fact: str, value: object, key: str) -> Facts:
        """Sets a fact derived from `key`."""
        self._values[fact] = value
        self._keys[fact] = key
        return self

    def take(self, fact: str, key: str) -> Facts:
        """Sets a fact to a required whole number of at least 1."""
        return self.put(fact, self._metadata.integer(key, most=MAX_COUNT), key)

    def build(self, kind: Callable[..., Attention]) -> Layer:
        """Layer of one part with these facts. Errors name the fact's key."""
        metadata = self._metadata
        try:
            part = kind(**self._values)
        except InvalidValueError as error:
            raise metadata.located(self._keys.get(error.field, "block_count"), error) from None
        return Layer((part,), {fact: metadata.origin(key, metadata.key(key)) for fact, key in self._keys.items()})
