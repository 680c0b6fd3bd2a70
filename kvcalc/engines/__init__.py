"""Engines: how somebody's code lays a model's tensors out in memory, one pure file each.

An engine file holds a frozen dataclass `Settings`, whose fields are named and defaulted as that engine names them,
and `allocate(tensor, settings)`, which returns the tensor as that engine stores it: the same rule of growth or
another one of the closed algebra. What comes out is read by everything just as the model's own tensors are. Where a
number is a matter of policy, `policies(settings)` names the one in force and what else could be chosen.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, NamedTuple

from kvcalc.errors import InvalidValueError, UnknownNameError
from kvcalc.model import Model
from kvcalc.registry import Registry
from kvcalc.tensors import CacheTensor
from kvcalc.units import shown

ENGINES = Registry("kvcalc.engines", "engine")


class Engine(NamedTuple):
    """An engine with its settings, ready to allocate. `name` is its file's, `settings` its own dataclass."""

    name: str
    settings: Any
    module: Any

    @classmethod
    def of(cls, name: str, settings: Mapping[str, Any] | None = None) -> "Engine":
        """Engine `name` with `settings` over its defaults.

        Raises UnknownNameError for an engine or a setting that is not known, InvalidValueError for a bad value.
        """
        if not isinstance(settings or {}, Mapping):
            raise InvalidValueError(
                f"engine_settings must be a mapping of names to values, not {shown(settings)}",
                help='for instance {"window": "full"}',
            )
        module = ENGINES.module(str(name))
        known = {field.name for field in fields(module.Settings)}
        for setting in settings or {}:
            if setting not in known:
                raise UnknownNameError.among(f"setting of the engine {name}", str(setting), known)
        return cls(name, module.Settings(**(settings or {})), module)

    def allocate(self, model: Model) -> tuple[tuple[CacheTensor, ...], ...]:
        """For each group of `model`, its tensors as the engine stores them."""
        return tuple(
            tuple(self.module.allocate(tensor, self.settings) for tensor in group.tensors) for group in model.groups
        )

    def policies(self) -> dict[str, "Engine"]:
        """The policy in force, in words, then each other one, as engines of their own."""
        return {
            words: Engine(self.name, settings, self.module)
            for words, settings in self.module.policies(self.settings).items()
        }

    def settings_by_name(self) -> dict[str, Any]:
        """Settings by name."""
        return {field.name: getattr(self.settings, field.name) for field in fields(self.settings)}


def one_of(value: object, field: str, choices: tuple[str, ...]) -> None:
    """Raises InvalidValueError where a setting is none of its choices."""
    if value not in choices:
        raise InvalidValueError(
            f"{field} must be one of {', '.join(choices)}, not {shown(value)}",
            field=field,
            help=f"write {field}={choices[0]}",
        )
