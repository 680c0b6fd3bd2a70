"""One file, one name: the modules of a package are its registry, found by being there.

A kind, method, engine or format is a file in its folder; the file's name is the name that presets, the API and the
command line use (`mla_naive.py` is `mla-naive`). Files that start with an underscore are helpers and have no name.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from kvcalc.errors import UnknownNameError


class Registry:
    """Names and modules of `package`, loaded one by one and only when asked for."""

    def __init__(self, package: str, noun: str) -> None:
        self._package = package
        self._noun = noun

    def names(self) -> list[str]:
        """All names, sorted, without importing any of the modules."""
        from pkgutil import iter_modules

        folder = import_module(self._package).__path__
        return sorted(m.name.replace("_", "-") for m in iter_modules(folder) if not m.name.startswith("_"))

    def module(self, name: str) -> ModuleType:
        """Module of `name`. Raises UnknownNameError, which names the nearest."""
        path = f"{self._package}.{name.replace('-', '_')}"
        if name.isascii() and name.replace("-", "_").isidentifier() and not name.startswith("_"):
            try:
                return import_module(path)
            except ModuleNotFoundError as error:
                if error.name != path:  # the module is there, and what it imports is not
                    raise
        raise UnknownNameError.among(self._noun, name, self.names())
