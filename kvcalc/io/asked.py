"""Parsing of questions: the common code behind the command line and the Python API.

A `Door` knows the name of each value in its interface, so that errors say --batch or batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from kvcalc.cache.dtypes import Dtype, dtype_named
from kvcalc.engines import Engine
from kvcalc.errors import InvalidValueError, located
from kvcalc.model import Model, with_draft_layers
from kvcalc.parallel import Parallel
from kvcalc.question import Question
from kvcalc.units import parse_tokens, shown

if TYPE_CHECKING:
    from fractions import Fraction

    from kvcalc.io.drafting import Drafting

USUAL_TOKENS = (1024, 8192, 32768, 131072)
"""Default token counts: 1K, 8K, 32K, 128K."""
_DEGREES = ("tp", "pp", "dp", "dcp", "ep")


class Terms(NamedTuple):
    """A question without a model: users, format and engine."""

    sequences: int
    kv_dtype: Dtype
    engine: Engine

    def of(self, model: Model, tokens: int | None, parallel: Parallel | None = None) -> Question:
        """The question for a model; tokens: None for its own context, if the engine has a default."""
        sequences, kv_dtype, engine = self
        return Question.of(
            model, tokens=tokens, sequences=sequences, kv_dtype=kv_dtype, engine=engine, parallel=parallel
        )


class Door(NamedTuple):
    """An interface, with its names for the values."""

    batch: str
    dtype: str
    engine: str
    settings: str
    attention: str
    method: str
    mtp: str
    draft: str

    def terms(
        self, batch: int | str, dtype: str | Dtype, engine: str | Engine, settings: Mapping[str, object] | None
    ) -> Terms:
        """The terms of a question. Raises InvalidValueError, UnknownNameError."""
        users, kv_dtype = self._workload(batch, dtype)
        if isinstance(engine, Engine):
            return Terms(users, kv_dtype, self._without(engine, settings))
        place = self.settings if settings else self.engine
        return Terms(users, kv_dtype, located(place, Engine.of, engine, self.typed(engine, settings)))

    def terms_on(
        self,
        gpu: str,
        share: Fraction | None,
        batch: int | str,
        dtype: str | Dtype,
        engine: str,
        settings: Mapping[str, object] | None,
    ) -> Terms:
        """The same, with the engine on a GPU and its share of the memory."""
        from kvcalc.fleet.fit import engine_on

        users, kv_dtype = self._workload(batch, dtype)
        place = self.settings if settings else self.engine
        on_gpu = located(place, engine_on, gpu, engine, self.typed(engine, settings), share)
        return Terms(users, kv_dtype, on_gpu)

    def typed(self, engine: str, settings: Mapping[str, object] | None) -> Mapping[str, object] | None:
        """Settings, with texts parsed to the types of the engine's fields."""
        if not isinstance(settings, Mapping) or not any(isinstance(value, str) for value in settings.values()):
            return settings

        from kvcalc.engines.base.reading import typed

        return typed(type(located(self.engine, Engine.of, engine)), settings)

    def changed(
        self,
        model: Model,
        *,
        attention: str | None = None,
        methods: Sequence[str] = (),
        mtp: bool = False,
        drafting: Drafting | None = None,
    ) -> Model:
        """The model with draft layers, other attention, and then each method applied, as requested.

        drafting: another checkpoint, whose layers draft instead of the model's own.
        """
        if mtp:
            model = located(self.mtp, with_draft_layers, model)
        if drafting is not None and drafting.named is not None:
            place = self.settings if drafting.draft is None else self.draft
            if mtp:
                raise InvalidValueError(
                    f"{self.mtp} selects the model's own draft layers, but another checkpoint drafts",
                    where=place,
                    help=f"remove {self.mtp}",
                )
            model = located(place, drafting.of, model)
        named = [(self.method, spec) for spec in methods]
        for place, spec in named if attention is None else [(self.attention, attention), *named]:
            from kvcalc.methods import apply_method  # only if requested

            model = located(place, apply_method, model, spec)
        return model

    def _workload(self, batch: int | str, dtype: str | Dtype) -> tuple[int, Dtype]:
        users = located(self.batch, parse_tokens, batch, self.batch.lstrip("-"))
        return users, dtype if isinstance(dtype, Dtype) else located(self.dtype, dtype_named, dtype)

    def _without(self, engine: Engine, settings: Mapping[str, object] | None) -> Engine:
        """An engine that already has its settings."""
        if settings:
            raise InvalidValueError(
                f"engine {engine.name} is given with its settings, and {self.settings} as well",
                field=self.settings,
                help="pass the engine as text, or remove the settings",
            )
        return engine


def layout_written(text: str) -> Parallel:
    """Ranks of `tp=8,pp=2`. Raises InvalidValueError."""
    degrees: dict[str, int] = {}
    for part in text.split(","):
        name, _, number = (each.strip() for each in part.partition("="))
        if name.lower() not in _DEGREES or not number.isdecimal() or name.lower() in degrees:
            raise InvalidValueError(
                f"expected degrees of parallelism, not {shown(text)}", help="write tp=4, or tp=8,pp=2"
            )
        degrees[name.lower()] = int(number)
    return Parallel(**degrees)


def usual_lengths(models: Sequence[Model]) -> Sequence[int]:
    """Default token counts for a comparison: the usual ones within any model's context."""
    longest = max((model.max_model_len or USUAL_TOKENS[-1] for model in models), default=USUAL_TOKENS[-1])
    return [length for length in USUAL_TOKENS if length <= longest] or [longest]


def bandwidth_of(gpu: str | None, given: str | None) -> tuple[str, int | None]:
    """A device's name and memory bandwidth, as given or known; empty and None without either.

    Raises InvalidValueError if a device's bandwidth is unknown.
    """
    from kvcalc.hardware import gpu_named
    from kvcalc.units import MB, parse_rate

    card = None if gpu is None else gpu_named(gpu)
    name = "" if card is None else card.name
    if given is not None:
        return name, parse_rate(given, "bandwidth")
    if card is None:
        return "", None
    if card.bandwidth_mb_s is None:
        raise InvalidValueError(
            f"memory bandwidth of {name} unknown", field="gpu", help="pass it: --bandwidth 3350GB/s"
        )
    return name, card.bandwidth_mb_s * MB
