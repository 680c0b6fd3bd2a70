"""Engines: how somebody's code lays a model's tensors out in memory, one pure file each.

An engine file holds a frozen dataclass `Settings`, whose fields are named and defaulted as that engine names them and
which refuses bad values, and

    allocate(model, settings, kv_dtype) -> for each group of the model, its tensors as the engine stores them

with the same rules of growth or others of the closed algebra, wider dimensions, other formats, or none at all. What
comes out is read by everything just as the model's own tensors are. An engine file may also hold

    copies(settings) -> how often each sequence is held (beams)
    notes(model, settings) -> what a reader must know of how this model fares there
    policies(settings) -> where a number is a matter of policy: the one in force, in words, then each other one
    serving(settings, sequences) -> the settings of an engine that allocates one context for all sequences together,
        once it knows how many they are. Its tokens are then those of the whole context, its slots those of all
        sequences, and nothing is multiplied by sequences again. Without this, each sequence is on its own.
    MAX_SEQUENCES: with `serving`, most sequences of a context
    allocate_rank(model, settings, kv_dtype, tp, pp, dcp): as allocate, for one rank, where all are planned together
    SHARING: how its ranks share KV heads and layers that do not divide (`parallel.Sharing`); without it they must

An engine that plans its cache by the memory that is left for it holds

    fit(model, settings, *, tp, pp, dcp, available_bytes) -> report of what fits, in its own words
    left_for_cache(settings, memory_bytes, used_bytes) -> of a GPU's memory, what the cache gets beside what is in use
    MEMORY_SHARE: the setting that says how much of the memory that is
    FIXED_MEMORY: the setting that says it in bytes instead, where there is one

and among its settings `gpu`, a name of presets/gpus.yaml. `kvcalc.fit` is then there for it. Where all its layers
take blocks of one pool, it also holds

    block_plan(model, settings, kv_dtype, *, tp, pp, dcp) -> BlockPlan, from which the inverse questions are answered
"""

from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from kvcalc.dtypes import Dtype
from kvcalc.errors import InvalidValueError, UnknownNameError
from kvcalc.model import Model
from kvcalc.registry import Registry
from kvcalc.tensors import CacheTensor
from kvcalc.units import positive_int, shown

if TYPE_CHECKING:
    from kvcalc.parallel import Parallel, Sharing

ENGINES = Registry("kvcalc.engines", "engine")

Allocation = tuple[tuple[CacheTensor, ...], ...]
"""For each group of a model, the tensors of one of its layers and one sequence."""


class Engine(NamedTuple):
    """An engine with its settings, ready to allocate. `name` is its file's, `settings` its own dataclass."""

    name: str
    settings: Any
    module: Any

    @classmethod
    def of(cls, name: str, settings: Mapping[str, Any] | None = None) -> "Engine":
        """Engine `name` with `settings` over its defaults; None stands for a default.

        Raises UnknownNameError for an engine or a setting that is not known, InvalidValueError for a bad value.
        """
        if not settings:
            return _by_default(str(name))
        if not isinstance(settings, Mapping):
            raise InvalidValueError(
                f"engine_settings must be a mapping of names to values, not {shown(settings)}",
                help='for instance {"window": "full"}',
            )
        module = ENGINES.module(str(name))
        known = {field.name for field in fields(module.Settings)}
        for setting in settings:
            if setting not in known:
                raise UnknownNameError.among(f"setting of the engine {name}", str(setting), known)
        given = {setting: value for setting, value in settings.items() if value is not None}
        return cls(name, module.Settings(**given), module)

    def allocate(self, model: Model, kv_dtype: Dtype) -> Allocation:
        """Tensors as the engine stores them. Raises NotApplicableError where it cannot hold this model."""
        allocation: Allocation = self.module.allocate(model, self.settings, kv_dtype)
        return allocation

    def allocate_rank(self, model: Model, kv_dtype: Dtype, parallel: "Parallel") -> Allocation | None:
        """What a rank stores of each layer, where the engine plans all ranks together.

        None where a rank stores what it would store of its own model. Raises NotApplicableError as `allocate` does.
        """
        if not hasattr(self.module, "allocate_rank"):
            return None
        ranks = {"tp": parallel.tp, "pp": parallel.pp, "dcp": parallel.dcp}
        allocation: Allocation = self.module.allocate_rank(model, self.settings, kv_dtype, **ranks)
        return allocation

    @property
    def is_shared(self) -> bool:
        """Whether all sequences share one context, whose size is asked for as a whole."""
        return hasattr(self.module, "serving")

    def serving(self, sequences: int) -> "Engine":
        """This engine once it knows how many sequences there are, if it wants to know."""
        if not self.is_shared:
            return self
        return self._replace(settings=self.module.serving(self.settings, sequences))

    @property
    def sharing(self) -> "Sharing":
        """How ranks share what does not divide."""
        from kvcalc.parallel import EVENLY

        sharing: Sharing = getattr(self.module, "SHARING", EVENLY)
        return sharing

    def numbers_of_sequences(self) -> range:
        """Numbers of sequences that a shared context may have."""
        return range(1, self.module.MAX_SEQUENCES + 1)

    def times_held(self, sequences: int) -> int:
        """How often what is allocated is there: once for each sequence, or once where they share a context."""
        return 1 if self.is_shared else sequences

    @property
    def copies(self) -> int:
        """How often each sequence is held."""
        return int(self.module.copies(self.settings)) if hasattr(self.module, "copies") else 1

    def notes(self, model: Model) -> tuple[str, ...]:
        """What a reader must know of how `model` fares in this engine."""
        return tuple(self.module.notes(model, self.settings)) if hasattr(self.module, "notes") else ()

    @property
    def policy(self) -> str:
        """The policy in force, in words; empty where there is no other."""
        return next(iter(self._policies()), "")

    def other_policies(self) -> dict[str, "Engine"]:
        """Each policy that is not in force, in words, as an engine of its own."""
        _, *others = self._policies().items() or [("", None)]
        return {words: self._replace(settings=settings) for words, settings in others}

    def _policies(self) -> dict[str, Any]:
        return self.module.policies(self.settings) if hasattr(self.module, "policies") else {}

    def settings_by_name(self) -> dict[str, Any]:
        """Settings by name."""
        return {field.name: getattr(self.settings, field.name) for field in fields(self.settings)}


@cache
def _by_default(name: str) -> Engine:
    """Engine with its own defaults."""
    module = ENGINES.module(name)
    return Engine(name, module.Settings(), module)


def one_of(value: object, field: str, choices: tuple[str | int, ...]) -> None:
    """Raises InvalidValueError where a setting is none of its choices."""
    if not any(type(value) is type(choice) and value == choice for choice in choices):
        raise InvalidValueError(
            f"{field} must be one of {', '.join(map(str, choices))}, not {shown(value)}",
            field=field,
            help=f"write {field}={choices[0]}",
        )


def count_from(value: object, field: str, least: int) -> None:
    """Raises InvalidValueError where a setting is neither None nor a whole number of at least `least` (0 or 1)."""
    if value is None or (type(value) is int and value == 0 == least):
        return
    if type(value) is int and value < least == 0:
        raise InvalidValueError(f"{field} must be at least 0, not {shown(value)}", field=field, help=f"write {field}=0")
    positive_int(value, field)
