"""One file, one name: the modules of a package are its registry, found by being there.

A kind, method, engine or format is a file in its folder; the file's name is the name that presets, the API and the
command line use (`mla_naive.py` is `mla-naive`). Files that start with an underscore are helpers and have no name.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from kvcalc.errors import UnknownNameError


class Registry:
    """Names and modules of `package`, each loaded on demand.

    shared: sibling folders with common code, which are not names.
    """

    def __init__(self, package: str, noun: str, *, shared: tuple[str, ...] = ()) -> None:
        self._package = package
        self._noun = noun
        self._shared = shared

    def names(self) -> list[str]:
        """All names, sorted, without importing any of the modules."""
        from pkgutil import iter_modules

        folder = import_module(self._package).__path__
        return sorted(module.name.replace("_", "-") for module in iter_modules(folder) if self._is_name(module.name))

    def _is_name(self, file: str) -> bool:
        return not file.startswith("_") and file not in self._shared

    def module(self, name: str) -> ModuleType:
        """Module of `name`. Raises UnknownNameError with the nearest name."""
        file = name.replace("-", "_")
        path = f"{self._package}.{file}"
        if file.isascii() and file.isidentifier() and self._is_name(file):
            try:
                return import_module(path)
            except ModuleNotFoundError as error:
                if error.name != path:  # the module exists, but one of its imports does not
                    raise
        raise UnknownNameError.among(self._noun, name, self.names())
