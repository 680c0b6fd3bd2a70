"""The base of every engine: its settings, and the tensors it stores for a model.

settings   fields of engines, their meanings and checks; `reading` parses them from text
versions   the rules that changed between an engine's versions, as data
support    the model types that an engine has no class for, as data
plan       what an engine's memory holds: whole blocks (`blocks`), pools of pages (`pools`)
rows       what a kernel reads of a stored tensor for one slot of the model's own
checks     refusals shared by several engines; `tensors` and `stages`, shared steps
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Self

from kvcalc.cache.dtypes import Dtype
from kvcalc.cache.tensor import CacheTensor
from kvcalc.errors import InvalidValueError, NotApplicableError, UnknownNameError
from kvcalc.model import LayerGroup, Model
from kvcalc.registry import Registry
from kvcalc.units import shown

if TYPE_CHECKING:
    from kvcalc.engines.base.beside import Beside
    from kvcalc.engines.base.footprint import Footprint
    from kvcalc.engines.base.longest import Longest
    from kvcalc.engines.base.rows import Row
    from kvcalc.engines.base.support import Support
    from kvcalc.engines.base.versions import Release
    from kvcalc.model.checkpoint import Widths
    from kvcalc.parallel import Parallel, Sharing
    from kvcalc.report.sheet import Json
    from kvcalc.report.tiers import Tier

ENGINES = Registry("kvcalc.engines", "engine", shared=("base",))

OTHER_NAMES = {
    **{"llama.cpp": "llama_cpp", "llamacpp": "llama_cpp", "llama-server": "llama_cpp"},
    **{"mlx": "mlx_lm", "trt-llm": "tensorrt_llm", "trtllm": "tensorrt_llm", "hf": "transformers"},
}
"""Other names of engines."""

Allocation = tuple[tuple[CacheTensor, ...], ...]
"""For each group of a model, the tensors of one layer and one sequence."""


class Workload(NamedTuple):
    """What an engine runs: tokens of a sequence, or of the context shared by all, and sequences of a replica.

    cache_bytes: memory for the cache on each GPU; None if not asked. at_most: whether it is an upper bound, because
    part of the memory is an estimate.
    """

    tokens: int
    sequences: int
    cache_bytes: int | None = None
    at_most: bool = False


class Engine(ABC):
    """An engine: a frozen dataclass whose fields are its own settings, with its names and defaults.

    TITLE: the engine as its authors write it. VERIFIED: how its rules were established. RELEASE: the table of its
    versions; None if versions do not differ. SUPPORT: the table of model types without a class; None if it supports
    all. ALIASES: other names of settings. SHARES_CONTEXT: whether all sequences share one context, whose total tokens
    are then asked: its slots are those of all sequences, up to MAX_SEQUENCES. VENDORS: makers of the devices whose
    rules are known; empty for any: the cache is only summed up.
    PLANS_STAGES: whether all ranks are planned together (`allocate_rank`), with stages of the engine's own choice.
    LOADS: quantised weight formats that it loads, each with the minimum compute capability.
    HOLDS: stored tensors with the engine's own names, each with the model's tensors that it may hold.
    """

    TITLE: ClassVar[str]
    VERIFIED: ClassVar[str]
    RELEASE: ClassVar[type[Release] | None] = None
    SUPPORT: ClassVar[Support | None] = None
    ALIASES: ClassVar[Mapping[str, str]] = {}
    SHARES_CONTEXT: ClassVar[bool] = False
    MAX_SEQUENCES: ClassVar[int] = 0
    VENDORS: ClassVar[tuple[str, ...]] = ()
    PLANS_STAGES: ClassVar[bool] = False
    LOADS: ClassVar[Mapping[str, tuple[int, int]]] = {}
    HOLDS: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    @staticmethod
    def of(name: str, settings: Mapping[str, object] | None = None) -> Engine:
        """Engine `name` with `settings` over its defaults; None means the default.

        name: `vllm`, or with a version `vllm@0.33.0`; `vllm@0.33` is the newest known 0.33, and `vllm@nearest` the
        version given by the setting, or the nearest known one. The version decides defaults first and formulas second,
        so that given settings always apply. Raises UnknownNameError for an unknown engine or setting, InvalidValueError
        for a bad value.
        """
        name, version = split_version(str(name))
        if not settings and version is None:
            return _by_default(name)
        if settings is not None and not isinstance(settings, Mapping):
            raise InvalidValueError(
                f"engine_settings must be a mapping of names to values, not {shown(settings)}",
                help='for example {"window": "full"}',
            )
        return engine_class(name)._with(name, dict(settings or {}), version)

    @classmethod
    def _with(cls, name: str, settings: Mapping[str, object], version: str | None) -> Engine:
        given = cls._by_field(name, settings)
        if cls.RELEASE is not None:
            from kvcalc.engines.base.versions import NEAREST

            field = next(
                (alias for alias, of in cls.ALIASES.items() if of == "version" and alias in settings), "version"
            )
            nearest = version == NEAREST
            asked = _one_version(name, given.pop("version", None), None if nearest else version)
            number = cls.RELEASE.named(asked, field, engine=name, nearest=nearest)
            given = {**cls.RELEASE.defaults(number, cls.setting_names()), **given, "version": number}
        elif version is not None:
            raise InvalidValueError(
                f"engine {name} has no versions, but {shown(version)} was requested",
                field="engine",
                help=f"use {name} without a version",
            )
        construct: Callable[..., Engine] = cls
        return construct(**given)

    @classmethod
    def _by_field(cls, name: str, settings: Mapping[str, object]) -> dict[str, object]:
        """Given settings by field name. Raises InvalidValueError for two values of one setting."""
        known = (*cls.setting_names(), *cls.ALIASES)
        found: dict[str, object] = {}
        for setting, value in settings.items():
            if setting not in known:
                raise UnknownNameError.among(f"setting of the engine {name}", str(setting), known)
            field = cls.ALIASES.get(setting, setting)
            if value is not None and found.setdefault(field, value) is not value and found[field] != value:
                raise InvalidValueError(
                    f"{field} ({shown(found[field])}) and {setting} ({shown(value)}) are the same setting",
                    field=setting,
                    help="pass only one of them",
                )
        return found

    @classmethod
    def setting_names(cls) -> tuple[str, ...]:
        """Names of its settings, including the version if any."""
        return tuple(each.name for each in fields(cls)) if is_dataclass(cls) else ()

    @property
    def name(self) -> str:
        """The name of its file, used everywhere."""
        return type(self).__module__.removeprefix("kvcalc.engines.").partition(".")[0]

    @property
    def version(self) -> str:
        """The version whose rules apply; empty if versions do not differ."""
        return ""

    @property
    def version_notes(self) -> tuple[str, ...]:
        """A note on the version used, if another was requested."""
        if self.RELEASE is None:
            return ()

        from kvcalc.engines.base.versions import Nearest

        if not isinstance(self.version, Nearest):
            return ()
        asked = f"{self.RELEASE.TITLE} {self.version.asked}"
        return (f"{asked} is outside the known versions; the rules of {self.version}, the nearest, are used",)

    @property
    def release_words(self) -> str:
        """The version in words."""
        return self.version

    @abstractmethod
    def allocate(self, model: Model, kv_dtype: Dtype) -> Allocation:
        """Tensors as the engine stores them: with the same or other slot rules, wider, padded, or none.

        Raises NotApplicableError if it cannot hold this model.
        """

    def rows(self, group: LayerGroup, stored: tuple[CacheTensor, ...], kv_dtype: Dtype) -> tuple[Row, ...]:
        """What a kernel reads at a time of each tensor that is stored of a group's layers."""
        from kvcalc.engines.base.rows import rows_of

        return tuple(rows_of(group.tensors, stored, self.HOLDS, kv_dtype))

    def allocate_rank(self, model: Model, kv_dtype: Dtype, ranks: Parallel) -> Allocation | None:
        """What a rank stores of each layer, if the engine plans all ranks together.

        None if a rank stores its share like a separate model. Raises NotApplicableError as `allocate` does.
        """
        del model, kv_dtype, ranks
        return None

    def own_context(self, model: Model) -> int | None:
        """Default tokens of the whole context, for engines that share one; None: unknown."""
        return model.max_model_len

    def longest(self, model: Model, kv_dtype: Dtype) -> Longest | None:
        """The longest sequence with these settings; None if unlimited."""
        del model, kv_dtype
        return None

    def served(self, model: Model) -> Model:
        """`model` as loaded with these settings, which may include its draft layers."""
        return model

    @property
    def draft_model(self) -> str | None:
        """The other checkpoint that drafts, as the settings name it; None if they name none."""
        return None

    def drafted_by(self, model: Model, drafter: Model) -> Model:
        """`model` with the layers of another checkpoint that drafts. Raises NotApplicableError if not modelled."""
        del model
        raise NotApplicableError(
            f"what {self.TITLE} caches for drafts of another checkpoint ({drafter.name}) is not modelled",
            help="size the draft model separately, or remove the drafts",
        )

    def settled(self, model: Model, ranks: Parallel) -> Self:
        """This engine with the settings that it derives for a model on its ranks, such as its share of memory."""
        del model, ranks
        return self

    def beside(
        self, model: Model, kv_dtype: Dtype, ranks: Parallel, widths: Widths, tokens: int | None
    ) -> Beside | None:
        """Other memory on each GPU besides weights and cache, as an interval; None if never measured.

        widths: of activations. tokens: the request, if any. Raises NotApplicableError as `plan` does.
        """
        del model, kv_dtype, ranks, widths, tokens
        return None

    def together(self, model: str, gpu_bytes: int, others: Sequence[tuple[str, int]]) -> str:
        """How it and other models share a GPU, given the bytes of each: what a user has to set."""
        del model, gpu_bytes
        names = ", ".join(name for name, _ in others)
        return f"{names} on the same GPU, each with its own weights, cache and other memory"

    def in_eight_bits(self) -> tuple[Engine, Dtype]:
        """The engine and the cache format for an 8-bit cache."""
        from kvcalc.cache.dtypes import dtype_named

        return self, dtype_named("fp8")

    def storing(self, model: Model, kv_dtype: Dtype) -> Engine:
        """With the setting that stores a question's format, if one of its own decides."""
        del model, kv_dtype
        return self

    @classmethod
    def loads(cls, form: str, capability: tuple[int, int] | None) -> bool:
        """Whether it loads weights of a format, on a device of this compute capability (None: not NVIDIA's)."""
        least = cls.LOADS.get(form)
        return least is not None and (capability is None or capability >= least)

    def tiers(self, model: Model, kv_dtype: Dtype, ranks: Parallel, workload: Workload) -> tuple[Tier, ...]:
        """Caches that it keeps off its devices, in host memory and on disk, by its settings.

        Raises NotApplicableError and InvalidValueError if the engine refuses it.
        """
        del model, kv_dtype, ranks, workload
        return ()

    def footprint(self, model: Model, kv_dtype: Dtype) -> Footprint:
        """Bytes of one sequence, or of the whole context, by its tokens."""
        from kvcalc.engines.base.footprint import Footprint

        return Footprint.of(self.served(model), self, kv_dtype)

    def serving(self, sequences: int) -> Self:
        """This engine for a number of sequences, if it depends on it."""
        del sequences
        return self

    def times_held(self, sequences: int) -> int:
        """Copies of the allocation: one per sequence, or one if they share a context."""
        return 1 if self.SHARES_CONTEXT else sequences

    @property
    def copies(self) -> int:
        """Copies of each sequence: one per beam in beam search."""
        return 1

    @property
    def sharing(self) -> Sharing:
        """How ranks share what does not divide evenly."""
        from kvcalc.parallel import EVENLY

        return EVENLY

    def notes(self, model: Model) -> tuple[str, ...]:
        """Notes on `model` in this engine."""
        del model
        return ()

    def cache_format(self, model: Model, kv_dtype: Dtype) -> str:
        """Format of the cache of `model` for a question's `kv_dtype`."""
        del model
        return kv_dtype.name

    def caveats(self, model: Model) -> tuple[str, ...]:
        """Notes that belong to every number of `model` in this engine, also of plans: no class for it."""
        return () if self.SUPPORT is None else self.SUPPORT.notes(model, self.version)

    def policies(self) -> Mapping[str, Engine]:
        """If a number depends on a policy: the active one in words, then each other one as an engine."""
        return {}

    @property
    def policy(self) -> str:
        """The active policy, in words; empty if there is no other."""
        return next(iter(self.policies()), "")

    def other_policies(self) -> dict[str, Engine]:
        """Each inactive policy, in words, with its engine."""
        return dict(list(self.policies().items())[1:])

    def settings_by_name(self) -> dict[str, Json]:
        """Settings by name, without the version (`release_words`)."""
        return {name: getattr(self, name) for name in self.setting_names() if name != "version"}


def split_version(text: str) -> tuple[str, str | None]:
    """`vllm@0.33` as name and version; None without a version. `llama.cpp` is llama_cpp."""
    name, at, version = text.strip().partition("@")
    return OTHER_NAMES.get(name.lower(), name.lower()), version if at else None


def engine_class(name: str) -> type[Engine]:
    """Class of the engine in file `name`. Raises UnknownNameError, which names the nearest one."""
    found: type[Engine] = ENGINES.module(name).ENGINE
    return found


@cache
def _by_default(name: str) -> Engine:
    """Engine with its defaults."""
    construct: Callable[[], Engine] = engine_class(name)
    return construct()


def _one_version(name: str, setting: object, version: str | None) -> str | None:
    """The requested version. Raises InvalidValueError if a setting names another, or is a truncated number."""
    if isinstance(setting, float) and len(str(setting).partition(".")[2]) == 1:
        raise InvalidValueError(
            f"version {setting} could be {setting} or {setting}0", field="version", help="put the version in quotes"
        )
    if None not in (setting, version) and str(setting) != version:
        raise InvalidValueError(
            f"{name}@{version} and the setting version ({shown(setting)}) differ",
            field="version",
            help="pass only one of them",
        )
    return version if setting is None else str(setting)
